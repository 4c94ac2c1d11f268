//! Kills at random moments of pull, create, start and remove.
//!
//! The random moments come from a seed that is printed and reported, so that a failure can be repeated.
//! One machine lives through all rounds, and the killing inside it is done from one container.

use std::time::Duration;

use lighter_tests::random::Random;
use lighter_tests::registry::Entry;
use lighter_tests::{Host, Registry, env, image};

use crate::guest::{ENGINE, ENTER, arm, arm_again, client, kill_later, life};

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Daemon,
    Machine,
    Engine,
    EngineChild,
}

/// What is going on meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Pull,
    Create,
    Run,
    Remove,
}

/// What clients were told, and what is checked after every kill.
struct Model<'a> {
    host: &'a Host,
    image: String,
    containers: Vec<String>,
    /// Whether the pulled image was acknowledged.
    pulled: bool,
    life: String,
}

const STEADY: [&str; 2] = ["steady", "killer"];

impl Model<'_> {
    fn names(&self) -> Vec<String> {
        let listed = self.host.docker(&["ps", "-a", "--format", "{{.Names}}"]);
        listed.ok().out().lines().map(str::to_owned).collect()
    }

    /// One piece of work with one kill in it; whether the client was told that it is done.
    fn disturb(&self, work: Work, name: &str, victim: Victim, after: Duration) -> bool {
        let sleep = ["busybox", "sleep", "100000"];
        let mut args = match work {
            Work::Pull => vec!["pull", "-q", &self.image],
            Work::Create => vec!["create", "--name", name, "-v", name, "-v", "/anonymous"],
            Work::Run => vec!["run", "-d", "--name", name],
            Work::Remove => vec!["rm", "-f", "-v", name],
        };
        let volume = format!("{name}:/v");
        match work {
            Work::Create => {
                args[4] = &volume;
                args.extend(sleep);
            }
            Work::Run => args.extend(sleep),
            Work::Pull | Work::Remove => {}
        }
        let after_us = u64::try_from(after.as_micros()).unwrap_or(0);
        let killer = match victim {
            Victim::Engine => Some(kill_later(self.host, ENGINE, after_us)),
            Victim::EngineChild => Some(kill_later(self.host, ENTER, after_us)),
            Victim::Daemon | Victim::Machine => None,
        };
        let mut client = client(self.host, &args);
        if let Some(what) = match victim {
            Victim::Daemon => Some("lighter daemon"),
            Victim::Machine => Some("qemu-system"),
            Victim::Engine | Victim::EngineChild => None,
        } {
            // The moment is the point of the test: a wait of random length, no synchronisation.
            std::thread::sleep(after);
            self.host.kill(what);
        }
        let done = client.wait().is_ok_and(|status| status.success());
        // Nothing more is killed once the work is over.
        if let Some(mut killer) = killer {
            killer.wait().expect("the killer ends");
        }
        done
    }

    /// Everything acknowledged is there, and what lives was not touched.
    fn check(&mut self, round: usize, victim: Victim, work: Work) {
        let context = format!("round {round}: {victim:?} was killed in {work:?}");
        if victim == Victim::Machine {
            arm_again(self.host);
            self.host.docker(&["start", STEADY[0]]).ok();
            self.life = life(self.host, &STEADY);
        }
        assert_eq!(
            life(self.host, &STEADY),
            self.life,
            "{context}: a container was stopped"
        );
        let there = self.names();
        for name in &self.containers {
            assert!(there.contains(name), "{context}: {name} is lost");
        }
        if !there.is_empty() {
            // Whatever is listed is whole.
            let mut inspect = vec!["inspect", "-f", "{{.Id}}"];
            inspect.extend(there.iter().map(String::as_str));
            self.host.docker(&inspect).ok();
        }
        let volumes = self.host.docker(&["volume", "ls", "-q"]).ok().out();
        for name in self
            .containers
            .iter()
            .filter(|name| name.starts_with("create"))
        {
            assert!(
                volumes.lines().any(|v| v == name),
                "{context}: volume {name} is lost"
            );
        }
        let images = self.host.docker(&["images", "-q", &self.image]).ok().out();
        let listed = !images.trim().is_empty();
        assert!(listed || !self.pulled, "{context}: the image is lost");
        if listed {
            image::verify(self.host, &self.image);
        }
    }
}

#[test]
fn killed_at_random_moments_nothing_acknowledged_is_lost() {
    let name = "killed_at_random_moments_nothing_acknowledged_is_lost";
    let Some(host) = Host::started(name) else {
        return;
    };
    let Some(registry) = Registry::start(name, &Entry::Open) else {
        return;
    };
    // Layers that the machine does not have, so that there is something to download.
    let archive = image::make(host.home(), 3, 700_000);
    registry.push(&archive, "made:1");
    arm(&host);
    host.docker(&[
        "run", "-d", "--name", "steady", "busybox", "sleep", "1000000",
    ])
    .ok();
    let mut model = Model {
        host: &host,
        image: format!("{}/made:1", registry.host()),
        containers: Vec::new(),
        pulled: false,
        life: life(&host, &STEADY),
    };
    let mut random = Random::new();
    for round in 0..env::count(6, 200) {
        let victim = random.one_of(&[
            Victim::Daemon,
            Victim::Machine,
            Victim::Engine,
            Victim::Engine,
            Victim::EngineChild,
        ]);
        let work = match random.one_of(&[Work::Pull, Work::Create, Work::Run, Work::Remove]) {
            Work::Remove if model.containers.is_empty() => Work::Run,
            work => work,
        };
        let container = match work {
            Work::Create => format!("create{round}"),
            Work::Remove => model.containers.remove(0),
            Work::Pull | Work::Run => format!("run{round}"),
        };
        if work == Work::Pull && model.pulled {
            host.docker(&["rmi", &model.image]).ok();
            model.pulled = false;
        }
        let after = Duration::from_micros(random.below(300_000));
        let done = model.disturb(work, &container, victim, after);
        println!("round {round}: {victim:?} killed in {work:?}, which was done: {done}");
        // A daemon that was killed comes back with the next command.
        host.lighter(&["up"]).ok();
        let there = model.names().contains(&container);
        match work {
            Work::Pull => model.pulled = done,
            Work::Create | Work::Run => {
                assert!(
                    there || !done,
                    "round {round}: {container} is lost ({victim:?})"
                );
                // Not acknowledged: it may be there or not, but if it is, it is whole.
                model.containers.extend(there.then_some(container));
            }
            Work::Remove => {
                assert!(
                    !there || !done,
                    "round {round}: {container} is back ({victim:?})"
                );
                model.containers.extend(there.then_some(container));
            }
        }
        model.check(round, victim, work);
        if work == Work::Pull {
            // Interrupted or not, it can be pulled, and is what it should be.
            host.docker(&["pull", "-q", &model.image]).ok();
            image::verify(&host, &model.image);
            model.pulled = true;
        }
        // Few at a time, so that a round stays short.
        while model.containers.len() > 4 {
            let oldest = model.containers.remove(0);
            host.docker(&["rm", "-f", "-v", &oldest]).ok();
        }
    }
    // Whatever is left starts: no half-made layer, no half-made container.
    for name in &model.containers {
        host.docker(&["restart", "-t", "0", name]).ok();
    }
}
