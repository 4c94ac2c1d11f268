//! Whoever dies: the limits on the disk are those of the containers and volumes there are.

use lighter_tests::random::Random;
use lighter_tests::{Host, env, limits, until};

use crate::guest::{ENGINE, KILLER, arm, arm_again, client, kill_later};

/// The sizes, in KiB, of the containers and volumes there are.
fn sizes(host: &Host) -> Vec<u64> {
    let of_each = |list: &[&str], show: &[&str]| -> String {
        let ids = host.docker(list).ok().out();
        let ids: Vec<&str> = ids.lines().collect();
        if ids.is_empty() {
            return String::new();
        }
        // One of them may be on its way out: the others are shown all the same.
        host.docker(&[show, &ids].concat()).out()
    };
    let format = "{{range .HostConfig.StorageOpt}}{{.}}{{end}}";
    let containers = of_each(&["ps", "-aq"], &["inspect", "-f", format]);
    let format = "{{.Options.size}}";
    let volumes = of_each(
        &["volume", "ls", "-q"],
        &["volume", "inspect", "-f", format],
    );
    let words = containers.lines().chain(volumes.lines());
    let mib = words.filter_map(|size| size.strip_suffix('m')?.parse::<u64>().ok());
    let mut sizes: Vec<u64> = mib.map(|size| size << 10).collect();
    sizes.sort_unstable();
    sizes
}

#[test]
fn limits_are_those_of_what_there_is_whoever_dies() {
    let name = "limits_are_those_of_what_there_is_whoever_dies";
    let Some(host) = Host::started(name) else {
        return;
    };
    arm(&host);
    limits::arm(&host, KILLER);
    let mut random = Random::new();
    for round in 0..env::count(4, 60) {
        let size = |mib: u64| format!("size={}m", mib + round);
        let (kept, volume) = (format!("kept{round}"), format!("volume{round}"));
        let create = ["create", "--name", &kept, "--storage-opt", &size(100)];
        let run = ["busybox", "sleep", "1000000"];
        host.docker(&[&create[..], &run].concat()).ok();
        host.docker(&["volume", "create", "-o", &size(300), &volume])
            .ok();
        // Some come and go while somebody dies.
        let script = "dd if=/dev/zero of=/f bs=1M count=3; dd if=/dev/zero of=/v/f bs=1M count=3";
        let (of_layer, of_volume) = (size(500), size(700));
        let mount = format!("type=volume,dst=/v,volume-opt={of_volume}");
        let passing = [
            "run",
            "--rm",
            "--storage-opt",
            &of_layer,
            "--mount",
            &mount,
            "busybox",
            "sh",
            "-c",
            script,
        ];
        let mut clients = vec![client(&host, &passing)];
        if round > 0 {
            let before = round - 1;
            clients.push(client(&host, &["rm", "-f", &format!("kept{before}")]));
            clients.push(client(&host, &["volume", "rm", &format!("volume{before}")]));
        }
        let moment = random.below(400_000);
        let machine = round % 2 == 1;
        if machine {
            std::thread::sleep(std::time::Duration::from_micros(moment));
            assert!(host.kill("qemu-system") >= 1, "round {round}");
        } else {
            clients.push(kill_later(&host, ENGINE, moment));
        }
        for mut client in clients {
            client.wait().expect("a client ends");
        }
        if machine {
            host.lighter(&["up"]).ok();
            arm_again(&host);
            limits::arm(&host, KILLER);
        }
        until("limits are those of what there is", || {
            sizes(&host) == limits::limits(&host, KILLER)
        });
        // And in force: nobody has another's.
        host.docker(&["start", &kept]).ok();
        let df = "df -k / | tail -1 | awk '{print $2}'";
        let shown = host.docker(&["exec", &kept, "sh", "-c", df]).ok().out();
        assert_eq!(shown, format!("{}\n", (100 + round) << 10), "round {round}");
    }
}
