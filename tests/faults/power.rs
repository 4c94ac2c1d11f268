//! Power lost at every moment: the disk as it was after each flush, and with some of the writes behind
//! it, is given to a machine, which has to have all that was acknowledged by then.

use std::collections::BTreeMap;
use std::time::Duration;

use lighter_tests::disk_log::{self, Losses, Place, Recorder};
use lighter_tests::random::Random;
use lighter_tests::registry::Entry;
use lighter_tests::tars::{image, layer};
use lighter_tests::{Host, Registry, env, run};

/// Between which places of the log something is there for sure.
#[derive(Debug, Clone, Copy)]
struct Life {
    /// Its making was acknowledged.
    made: Place,
    /// Its removal was asked for.
    leaving: Place,
    /// Its removal was acknowledged.
    gone: Place,
}

/// What a client was told, and when.
#[derive(Debug, Default)]
struct Told {
    containers: BTreeMap<String, Life>,
    images: BTreeMap<String, Life>,
    volumes: BTreeMap<String, Life>,
    /// Numbers in the volume `numbers`, which its writer flushed before it told them.
    numbers: Vec<(Place, u64)>,
}

fn make(all: &mut BTreeMap<String, Life>, name: &str, made: Place) {
    let life = Life {
        made,
        leaving: Place::MAX,
        gone: Place::MAX,
    };
    all.insert(name.to_owned(), life);
}

fn remove(all: &mut BTreeMap<String, Life>, name: &str, recorder: &Recorder, how: impl FnOnce()) {
    let leaving = recorder.end();
    how();
    if let Some(life) = all.get_mut(name) {
        *life = Life {
            leaving,
            gone: recorder.end(),
            ..*life
        };
    }
}

/// Pull, load, commit, create, remove and writes to a volume, each noted when it is acknowledged.
fn work(host: &Host, recorder: &Recorder, registry: &Registry, rounds: usize) -> Told {
    let mut told = Told::default();
    let docker = |args: &[&str]| host.docker(args).ok().out();
    for round in 0..rounds {
        let name = |what: &str| format!("{what}{round}");
        let loaded = name("loaded");
        let layers = [
            layer(&[("file", loaded.as_bytes())]),
            layer(&[("other", &[round.to_le_bytes()[0]; 300_000])]),
        ];
        let archive = host.home().join("load.tar");
        std::fs::write(&archive, image(&layers, &format!("{loaded}:1"), "{}")).expect("a file");
        docker(&["load", "-i", &archive.display().to_string()]);
        make(&mut told.images, &format!("{loaded}:1"), recorder.end());

        let (kept, volume) = (name("kept"), name("volume"));
        let mount = format!("{volume}:/v");
        docker(&[
            "create", "--name", &kept, "-v", &mount, "busybox", "touch", "/made",
        ]);
        make(&mut told.containers, &kept, recorder.end());
        make(&mut told.volumes, &volume, recorder.end());

        let script =
            format!("echo {round} > /v/new; sync /v/new; mv /v/new /v/n; sync; echo {round}");
        let write = [
            "run",
            "--rm",
            "-v",
            "numbers:/v",
            "busybox",
            "sh",
            "-c",
            &script,
        ];
        docker(&write);
        told.numbers.push((recorder.end(), round as u64));

        docker(&["start", "-a", &kept]);
        let committed = format!("{}:1", name("committed"));
        docker(&["commit", &kept, &committed]);
        make(&mut told.images, &committed, recorder.end());

        let pulled = format!("{}/made:{round}", registry.host());
        docker(&["pull", "-q", &pulled]);
        make(&mut told.images, &pulled, recorder.end());
        if round % 2 == 1 {
            let old = format!("kept{}", round - 1);
            remove(&mut told.containers, &old, recorder, || {
                docker(&["rm", &old]);
            });
            let old = format!("loaded{}:1", round - 1);
            remove(&mut told.images, &old, recorder, || {
                docker(&["rmi", &old]);
            });
            let old = format!("volume{}", round - 1);
            remove(&mut told.volumes, &old, recorder, || {
                docker(&["volume", "rm", &old]);
            });
        }
    }
    told
}

/// Everything that was acknowledged at `place` and not asked to go is there, nothing that was gone is,
/// and what is there is whole.
fn check(host: &Host, told: &Told, place: Place, context: &str) {
    host.lighter(&["up"]).ok();
    let listed = |args: &[&str]| -> Vec<String> {
        let out = host.docker(args).ok().out();
        out.lines().map(str::to_owned).collect()
    };
    let images = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
    for (what, lives, there) in [
        (
            "container",
            &told.containers,
            listed(&["ps", "-a", "--format", "{{.Names}}"]),
        ),
        ("image", &told.images, listed(&images)),
        ("volume", &told.volumes, listed(&["volume", "ls", "-q"])),
    ] {
        for (name, life) in lives {
            let is_there = there.contains(name);
            if life.made <= place && place < life.leaving {
                assert!(is_there, "{context}: {what} {name} is lost");
            }
            if life.gone <= place {
                assert!(!is_there, "{context}: {what} {name} came back");
            }
        }
    }
    // Every layer and configuration is read and compared with its digest.
    host.lighter(&["image", "verify", "-q"]).ok();
    let containers = listed(&["ps", "-aq"]);
    if !containers.is_empty() {
        let mut inspect = vec!["inspect", "-f", "{{.Id}}"];
        inspect.extend(containers.iter().map(String::as_str));
        host.docker(&inspect).ok();
    }
    let number = told.numbers.iter().rev().find(|(at, _)| *at <= place);
    if let Some((_, number)) = number {
        let read = ["run", "--rm", "-v", "numbers:/v", "busybox", "cat", "/v/n"];
        let there: u64 = host
            .docker(&read)
            .ok()
            .out()
            .trim()
            .parse()
            .expect("a number");
        assert!(
            there >= *number,
            "{context}: {number} was flushed, {there} is there"
        );
    }
    // As if the power went again: what this machine wrote is not wanted.
    host.lighter(&["down", "--force"]).ok();
}

#[test]
fn power_lost_after_any_flush_loses_nothing_acknowledged() {
    let name = "power_lost_after_any_flush_loses_nothing_acknowledged";
    let Some(host) = Host::started(name) else {
        return;
    };
    let rounds = env::count(2, 6);
    let Some(registry) = Registry::start(name, &Entry::Open) else {
        return;
    };
    for round in 0..rounds {
        let dir = host.home().join(format!("image{round}"));
        std::fs::create_dir(&dir).expect("a folder");
        let archive = lighter_tests::image::make(&dir, 2, 400_000);
        registry.push(&archive, &format!("made:{round}"));
    }
    host.lighter(&["down"]).ok();
    let disk = host.home().join("data/disk.img");
    let base = host.home().join("base.img");
    disk_log::copy(&disk, &base).expect("a copy of the disk");

    let path = host.home().join("disk.log");
    let mut up = host.lighter_command();
    up.env("LIGHTER_DISK_LOG", &path).arg("up");
    run(up, b"", Duration::from_secs(120)).ok();
    let recorder = Recorder::open(&path);
    let told = work(&host, &recorder, &registry, rounds);
    host.lighter(&["down", "--force"]).ok();

    let log = recorder.read();
    let flushes = log.flushes().len();
    println!("{} entries, {flushes} flushes", log.entries.len());
    assert!(flushes > 20 * rounds, "the work was not recorded");
    let how = Losses {
        base: &base,
        disk: &disk,
        flushes: env::count(3, 200),
        torn: 1,
    };
    log.losses(&how, &mut Random::new(), |loss| {
        check(&host, &told, loss.place, &loss.what);
    });
}
