//! A data folder that is full, damaged, or from another time.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lighter_protocol::EngineState;
use serde_json::json;
use tempfile::{TempDir, tempdir};

use crate::api::{
    archive, call, container, create, get, load, load_image, logs, post, run, state, wait,
};
use crate::machine::{Machine, hello};

/// A small file system for the data of a machine, unmounted at the end.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new() -> Self {
        let dir = tempdir().unwrap();
        let disk = Self(dir);
        std::fs::create_dir(disk.data()).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "lighter-test"])
            .arg(disk.data())
            .status();
        assert!(mounted.unwrap().success());
        disk
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// Takes every block.
    fn fill(&self) {
        let mut file = File::create(self.data().join("filler")).unwrap();
        let mut block = vec![1; 1 << 20];
        while !block.is_empty() {
            match file.write(&block) {
                Ok(count) if count > 0 => {}
                _ => block.truncate(block.len() / 2),
            }
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.data().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the kernel may still be at the end of the machine's namespace.
        let _ = Command::new("umount").arg("-l").arg(self.data()).status();
    }
}

#[test]
fn full_disk_is_said_and_loses_nothing() {
    let disk = SmallDisk::new();
    let machine = Machine::start(disk.0.path());
    machine.greeted();
    load_image(&machine, disk.0.path());
    run(
        &machine,
        "talker",
        &container("i=0; while true; do i=$((i+1)); echo line $i; usleep 2000; done"),
    );
    run(&machine, "ends", &container("exec sleep 1000"));
    create(&machine, "kept", &container("exit 3"));
    disk.fill();

    let other = archive(disk.0.path(), "other");
    let refused = load(&machine, &other).is(200);
    assert!(
        refused.text().contains("errorDetail")
            && refused.text().contains("no space left on device"),
        "{}",
        refused.text()
    );
    assert_eq!(get(&machine, "/images/other/json").status, 404);
    let half_made = std::fs::read_dir(disk.data().join("images/tmp")).unwrap();
    assert_eq!(half_made.count(), 0);
    get(&machine, "/version").is(200);
    assert_eq!(state(&machine, "talker")["Running"], true);
    // An end is recorded, and known to the next engine, and to one after another kill.
    post(&machine, "/containers/ends/kill").is(204);
    assert_eq!(wait(&machine, "ends"), 137);
    let before = state(&machine, "talker");
    for _ in 0..3 {
        machine.kill_agent();
        assert_eq!(state(&machine, "talker")["StartedAt"], before["StartedAt"]);
        assert_eq!(state(&machine, "ends")["ExitCode"], 137);
    }
    // What makes room works.
    let nothing = serde_json::Value::Null;
    call(&machine, "DELETE", "/containers/ends", &nothing).is(204);
    call(&machine, "DELETE", "/containers/kept", &nothing).is(204);
    let all = get(&machine, "/containers/json?all=1").is(200).json();
    assert_eq!(all.as_array().unwrap().len(), 1);

    disk.make_room();
    load(&machine, &other).loaded();
    create(&machine, "more", &container("exit 5"));
    post(&machine, "/containers/more/start").is(204);
    assert_eq!(wait(&machine, "more"), 5);
    call(&machine, "DELETE", "/containers/more", &nothing).is(204);
    call(&machine, "DELETE", "/containers/talker?force=1", &nothing).is(204);
    machine.nothing_left();
}

#[test]
fn log_on_a_full_disk_has_gaps_and_no_torn_lines() {
    let disk = SmallDisk::new();
    let machine = Machine::start(disk.0.path());
    machine.greeted();
    load_image(&machine, disk.0.path());
    let talk = "i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); echo line $i; usleep 500; done";
    let mut body = container(talk);
    body["HostConfig"]["Tmpfs"] = json!({"/tmp": ""});
    run(&machine, "talker", &body);
    for _ in 0..3 {
        disk.fill();
        let full = logs(&machine, "talker").len();
        machine.kill_agent();
        disk.make_room();
        while logs(&machine, "talker").len() == full {}
    }
    post(&machine, "/containers/talker/kill").is(204);
    let log = String::from_utf8(logs(&machine, "talker")).unwrap();
    let mut last = 0;
    for line in log.lines() {
        let number: u64 = line.strip_prefix("line ").unwrap().parse().unwrap();
        assert!(number > last, "{number} after {last}");
        last = number;
    }
}

/// Ends a machine in order, so that the database is one file.
fn with_a_volume(dir: &Path) {
    let machine = Machine::start(dir);
    machine.greeted();
    call(
        &machine,
        "POST",
        "/volumes/create",
        &json!({"Name": "precious"}),
    )
    .is(201);
    std::fs::write(dir.join("data/volumes/precious/_data/file"), "precious").unwrap();
}

/// The words of the refusal, and what is done to the file.
type Damage<'a> = (&'static str, Box<dyn Fn() + 'a>);

/// Why the engine does not start on this folder.
fn refusal(dir: &Path) -> String {
    let machine = Machine::start(dir);
    let mut host = machine.control();
    host.greet(hello()).unwrap();
    loop {
        match host.health() {
            EngineState::Failed { message } => return message,
            EngineState::Starting => {}
            other => panic!("the engine is {other:?}"),
        }
    }
}

fn database(dir: &Path) -> PathBuf {
    dir.join("data/engine/engine.db")
}

/// Everything below the data folder but the database: names and contents.
fn content(dir: &Path) -> String {
    let list = Command::new("find")
        .arg(dir.join("data"))
        .args([
            "-path",
            "*/engine",
            "-prune",
            "-o",
            "-type",
            "f",
            "-exec",
            "sha256sum",
            "{}",
            "+",
        ])
        .output()
        .unwrap();
    let mut lines: Vec<&str> = std::str::from_utf8(&list.stdout).unwrap().lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[test]
fn database_that_is_damaged_lost_or_newer_stops_the_engine_and_costs_no_data() {
    let dir = tempdir().unwrap();
    with_a_volume(dir.path());
    // Into one file, as at an end in order: the write-ahead log would heal the damage.
    let path = database(dir.path());
    rusqlite::Connection::open(&path)
        .unwrap()
        .pragma_update(None, "journal_mode", "DELETE")
        .unwrap();
    let whole = std::fs::read(&path).unwrap();
    let data = content(dir.path());
    let write = |bytes: &[u8]| std::fs::write(&path, bytes).unwrap();
    let newer = |file: &File| file.write_all_at(&99u32.to_be_bytes(), 60).unwrap();
    let damages: [Damage<'_>; 5] = [
        (
            "Nothing was changed",
            Box::new(|| write(b"this is no database at all")),
        ),
        ("damaged", Box::new(|| write(&whole[..whole.len() / 2]))),
        ("holds 1 volumes", Box::new(|| write(b""))),
        (
            "holds 1 volumes",
            Box::new(|| std::fs::remove_file(&path).unwrap()),
        ),
        (
            "schema 99",
            Box::new(|| newer(&OpenOptions::new().write(true).open(&path).unwrap())),
        ),
    ];
    for (words, damage) in damages {
        write(&whole);
        damage();
        for attempt in 0..2 {
            let message = refusal(dir.path());
            assert!(message.contains(words), "attempt {attempt}: {message}");
            assert!(message.contains("Nothing was changed"), "{message}");
        }
        assert_eq!(content(dir.path()), data, "{words}");
    }
    write(&whole);
    let machine = Machine::start(dir.path());
    machine.greeted();
    get(&machine, "/volumes/precious").is(200);
}
