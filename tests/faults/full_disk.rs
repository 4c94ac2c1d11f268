//! The data disk is full: the API answers, errors say so, nothing is lost and nothing left behind.

use lighter_tests::registry::Entry;
use lighter_tests::{Finished, Host, Registry, env, image};

use crate::guest::{arm, inspect, life};

/// Takes every block there is, in a volume of its own.
const FILL: &str = "i=0; for size in 1073741824 67108864 4194304 65536 4096; do \
    while fallocate -l $size /fill/$i 2>/dev/null; do i=$((i+1)); done; rm -f /fill/$i; done; \
    until ! echo x > /fill/$i 2>/dev/null; do i=$((i+1)); done; df /fill | tail -1";

/// Fails unless the error names the cause.
fn says_full(finished: &Finished) {
    let said = finished.err() + &finished.out();
    assert_ne!(finished.code, 0, "it worked on a full disk: {said}");
    assert!(
        said.to_lowercase().contains("no space left"),
        "{} says {said}",
        finished.command
    );
}

fn free(host: &Host) -> u64 {
    let script = "df /proc/1/root/var/lib/docker | tail -1 | awk '{print $4}'";
    let out = host
        .docker(&["exec", "killer", "sh", "-c", script])
        .ok()
        .out();
    out.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{out:?} is no number"))
}

#[test]
fn full_disk_loses_nothing_and_is_said() {
    let name = "full_disk_loses_nothing_and_is_said";
    let Some(host) = Host::started(name) else {
        return;
    };
    let Some(registry) = Registry::start(name, &Entry::Open) else {
        return;
    };
    let archive = image::make(host.home(), 3, 3_000_000);
    registry.push(&archive, "made:1");
    let made = format!("{}/made:1", registry.host());
    arm(&host);
    let talk = "i=0; while true; do i=$((i+1)); echo line $i; usleep 5000; done";
    host.docker(&["run", "-d", "--name", "talker", "busybox", "sh", "-c", talk])
        .ok();
    host.docker(&[
        "run",
        "-d",
        "--name",
        "short",
        "busybox",
        "sh",
        "-c",
        "until [ -e /go ]; do usleep 50000; done; exit 9",
    ])
    .ok();
    for round in 0..env::count(1, 10) {
        let before = free(&host);
        host.docker(&[
            "run",
            "--name",
            "filler",
            "-v",
            "fill:/fill",
            "busybox",
            "sh",
            "-c",
            FILL,
        ])
        .ok();
        let lives = life(&host, &["talker", "killer", "short"]);

        says_full(&host.docker(&["pull", &made]));
        says_full(&host.docker(&["load", "-i", &archive.display().to_string()]));
        says_full(&host.docker(&[
            "run",
            "--rm",
            "-v",
            "fill:/fill",
            "busybox",
            "sh",
            "-c",
            "head -c 100000 /dev/zero > /fill/more",
        ]));
        host.docker(&["version"]).ok();
        host.docker(&["exec", "killer", "true"]).ok();
        let images = host.docker(&["images", "-q", &made]).ok().out();
        assert_eq!(images, "", "a half-pulled image is listed in round {round}");
        assert_eq!(life(&host, &["talker", "killer", "short"]), lives);

        // What makes room works without room.
        host.docker(&["rm", "filler"]).ok();
        host.docker(&["volume", "rm", "fill"]).ok();
        host.docker(&["pull", "-q", &made]).ok();
        image::verify(&host, &made);
        host.docker(&["rmi", &made]).ok();
        // Blocks come back in the background.
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while free(&host) + 4096 < before {
            assert!(
                std::time::Instant::now() < limit,
                "{} of {before} kB came back",
                free(&host)
            );
        }
    }
    // The container may end, and this command with it, before it is told of its own end.
    drop(host.docker(&["exec", "short", "touch", "/go"]));
    assert_eq!(host.docker(&["wait", "short"]).ok().out(), "9\n");
    // The log has gaps where there was no room, and no torn or doubled line.
    let logs = host.docker(&["logs", "talker"]).ok().out();
    let mut last = 0;
    for line in logs.lines() {
        let number: u64 = line
            .strip_prefix("line ")
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| panic!("{line:?} is no line of the container"));
        assert!(number > last, "{number} after {last}");
        last = number;
    }
    assert_eq!(inspect(&host, "talker", "{{.State.Running}}"), "true");
}
