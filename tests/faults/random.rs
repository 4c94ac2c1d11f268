//! Kills at random moments of pull, create, start and remove.
//!
//! The random moments come from a seed that is printed and reported, so that a failure can be repeated.

use std::process::{Child, Stdio};
use std::time::Duration;

use lighter_tests::{Host, Registry, env};

/// A small generator (xorshift64*), so that a seed names a whole run.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(env::seed())
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

/// What may be killed, by what its command line contains.
const VICTIMS: [&str; 3] = ["lighter daemon", "qemu-system", "engine"];

fn kill(host: &Host, victim: &str) {
    if victim == "engine" {
        let killer = [
            "run",
            "--rm",
            "--privileged",
            "--pid=host",
            "busybox",
            "pkill",
            "-9",
            "lighter-agent",
        ];
        let _ = host.docker(&killer);
    } else {
        host.kill(victim);
    }
}

fn start(host: &Host, args: &[&str]) -> Child {
    let mut command = host.docker_command();
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().expect("docker starts")
}

#[test]
fn killed_at_random_moments_nothing_acknowledged_is_lost() {
    let name = "killed_at_random_moments_nothing_acknowledged_is_lost";
    let Some(host) = Host::started(name) else {
        return;
    };
    let Some(registry) = Registry::start(name, false) else {
        return;
    };
    let archive = host.home().join("box.tar");
    host.docker(&["save", "-o", &archive.display().to_string(), "busybox"])
        .ok();
    registry.push(&archive, "box:1");
    let image = format!("{}/box:1", registry.host());
    let mut random = Random::new();
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..env::count(4, 200) {
        let container = format!("r{round}");
        let oldest = acknowledged
            .first()
            .cloned()
            .unwrap_or_else(|| "none".into());
        let work: &[&[&str]] = &[
            &["pull", "-q", &image],
            &["create", "--name", &container, "busybox", "sleep", "1000"],
            &[
                "run", "-d", "--name", &container, "busybox", "sleep", "1000",
            ],
            &["rm", "-f", &oldest],
        ];
        let what = work[usize::try_from(random.below(4)).unwrap_or(0)];
        let victim = VICTIMS[usize::try_from(random.below(3)).unwrap_or(0)];
        let mut child = start(&host, what);
        // The moment is the point of the test: a wait of random length, not synchronisation.
        std::thread::sleep(Duration::from_millis(random.below(400)));
        kill(&host, victim);
        let done = child.wait().is_ok_and(|status| status.success());
        host.lighter(&["up"]).ok();
        let listed = host
            .docker(&["ps", "-a", "--format", "{{.Names}}"])
            .ok()
            .out();
        let there = |name: &str| listed.lines().any(|l| l == name);
        match what[0] {
            "create" | "run" if done => acknowledged.push(container.clone()),
            "rm" if done && !acknowledged.is_empty() => {
                let gone = acknowledged.remove(0);
                assert!(
                    !there(&gone),
                    "round {round}: {gone} is back after {victim} was killed"
                );
            }
            // Not acknowledged: it may be there or not, but if it is, it is whole.
            _ => {
                if there(&container) {
                    acknowledged.push(container.clone());
                }
                acknowledged.retain(|name| there(name) || what[0] != "rm");
            }
        }
        for name in &acknowledged {
            assert!(
                there(name),
                "round {round}: {name} is lost after {victim} was killed in {what:?}"
            );
            host.docker(&["inspect", name]).ok();
        }
        if what[0] == "pull" && done {
            host.docker(&["run", "--rm", &image, "true"]).ok();
            host.docker(&["rmi", &image]).ok();
        }
    }
    // Whatever is left starts: no half-made layer, no half-made container.
    for name in &acknowledged {
        host.docker(&["restart", "-t", "0", name]).ok();
    }
}
