//! What the database does not know, and what of it cannot be read: nothing is lost for it, and
//! nothing stays for ever.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{archive, call, container, create, get, load, load_image, logs, post, run, wait};
use crate::loads;
use crate::machine::Machine;

fn started(dir: &Path) -> Machine {
    let machine = Machine::start(dir);
    machine.greeted();
    machine
}

fn id(machine: &Machine, path: &str) -> String {
    let shown = get(machine, path).is(200).json();
    shown["Id"].as_str().unwrap().to_owned()
}

fn delete(machine: &Machine, path: &str) -> crate::api::Answer {
    call(machine, "DELETE", path, &Value::Null)
}

/// The database of a machine that has ended, as one file.
fn database(dir: &Path) -> PathBuf {
    let path = dir.join("data/engine/engine.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .pragma_update(None, "journal_mode", "DELETE")
        .unwrap();
    path
}

fn names(dir: PathBuf) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names
        .filter(|name| !matches!(&**name, "empty" | "container"))
        .collect()
}

#[test]
fn an_older_database_costs_no_container_its_data() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let machine = started(dir.path());
    load_image(&machine, dir.path());
    create(&machine, "old", &container("true"));
    let old = id(&machine, "/containers/old/json");
    drop(machine);
    let older = std::fs::read(database(dir.path())).unwrap();

    let machine = started(dir.path());
    create(&machine, "new", &container("true"));
    let mut passing = container("true");
    passing["HostConfig"]["AutoRemove"] = json!(true);
    create(&machine, "passing", &passing);
    let new = id(&machine, "/containers/new/json");
    std::fs::write(
        data.join("overlay2").join(&new).join("diff/file"),
        "precious",
    )
    .unwrap();
    drop(machine);
    std::fs::write(database(dir.path()), older).unwrap();

    let machine = started(dir.path());
    get(&machine, "/containers/old/json").is(200);
    get(&machine, "/containers/new/json").is(404);
    let aside = data.join("unknown").join(&new);
    let kept = std::fs::read_to_string(aside.join("overlay2/diff/file")).unwrap();
    assert_eq!(kept, "precious");
    assert!(aside.join("containers").is_dir());
    assert_eq!(
        names(data.join("unknown")),
        [new],
        "what goes with the machine is gone"
    );
    for folder in ["containers", "overlay2"] {
        assert_eq!(names(data.join(folder)), [old.as_str()]);
    }
    delete(&machine, "/containers/old").is(204);
    machine.nothing_left();
}

#[test]
fn a_container_that_was_never_recorded_leaves_nothing() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let machine = started(dir.path());
    for made in [
        "loose",
        "overlay2/half/diff",
        "overlay2/half/work",
        "containers/half",
    ] {
        std::fs::create_dir_all(data.join(made)).unwrap();
    }
    std::fs::write(data.join("loose/half"), "").unwrap();
    machine.kill_agent();
    get(&machine, "/_ping").is(200);
    machine.nothing_left();
    assert_eq!(names(data.join("unknown")), [""; 0]);
}

#[test]
fn an_image_that_cannot_be_read_is_removed_or_healed_and_stops_no_collection() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let ids = ["named", "by-id", "healed", "torn"].map(|name| {
        load(&machine, &archive(dir.path(), name)).loaded();
        id(&machine, &format!("/images/{name}/json"))
    });
    load(&machine, &loads::archive()).loaded();
    drop(machine);
    let hex = |id: &str| id.strip_prefix("sha256:").unwrap().to_owned();
    for id in &ids[..3] {
        std::fs::remove_file(dir.path().join("data/images/blobs/sha256").join(hex(id))).unwrap();
    }
    rusqlite::Connection::open(database(dir.path()))
        .unwrap()
        .execute("UPDATE images SET body = '{' WHERE id = ?1", [&ids[3]])
        .unwrap();

    let machine = started(dir.path());
    get(&machine, "/images/named/json").is(404);
    // They have no layers, and their records say so.
    delete(&machine, "/images/made:1").is(200);
    assert!(loads::find(dir.path(), "layer.tar").is_empty());
    let removed = delete(&machine, "/images/named").is(200).json();
    assert_eq!(
        removed,
        json!([{"Untagged": "named:latest"}, {"Deleted": ids[0]}])
    );
    delete(&machine, "/images/named").is(404);
    let short = &hex(&ids[1])[..12];
    let removed = delete(&machine, &format!("/images/{short}")).is(200).json();
    assert_eq!(
        removed,
        json!([{"Untagged": "by-id:latest"}, {"Deleted": ids[1]}])
    );
    delete(&machine, &format!("/images/{}", ids[3])).is(200);
    // The image comes again under another name, and has its old one as well.
    let again = String::from_utf8_lossy(&archive(dir.path(), "healed"))
        .replace("healed:latest", "healed:latesx")
        .into_bytes();
    load(&machine, &again).loaded();
    assert_eq!(id(&machine, "/images/healed:latest/json"), ids[2]);
    for name in ["healed:latest", "healed:latesx"] {
        delete(&machine, &format!("/images/{name}")).is(200);
    }
    machine.kill_agent();
    for id in &ids {
        delete(&machine, &format!("/images/{id}")).is(404);
    }
}

/// The volumes of a machine on a disk of their own that can be stopped: who writes waits.
struct SlowVolumes(PathBuf);

impl SlowVolumes {
    /// None where there are no loop devices.
    fn new(dir: &Path) -> Option<Self> {
        let (disk, volumes) = (dir.join("volumes.img"), dir.join("data/volumes"));
        std::fs::create_dir_all(&volumes).unwrap();
        std::fs::File::create(&disk)
            .unwrap()
            .set_len(16 << 20)
            .unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg(&disk).status();
        let mount = ["mount", "-o", "loop"];
        let mounted = made.is_ok_and(|made| made.success())
            && Command::new(mount[0])
                .args(&mount[1..])
                .args([&disk, &volumes])
                .status()
                .unwrap()
                .success();
        if !mounted {
            return None;
        }
        std::fs::remove_dir(volumes.join("lost+found")).unwrap();
        Some(Self(volumes))
    }

    fn freeze(&self, how: &str) -> bool {
        let done = Command::new("fsfreeze").arg(how).arg(&self.0).output();
        done.unwrap().status.success()
    }
}

impl Drop for SlowVolumes {
    fn drop(&mut self) {
        self.freeze("--unfreeze");
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_slow_create_holds_up_neither_removals_nor_loads_of_images() {
    let dir = tempdir().unwrap();
    // A disk with a strange folder is none of a machine that never was.
    drop(started(dir.path()));
    let Some(volumes) = SlowVolumes::new(dir.path()) else {
        eprintln!("skipped: there are no loop devices");
        return;
    };
    let machine = started(dir.path());
    load(&machine, &loads::archive_of("data/file")).loaded();
    let volume = json!({"Name": "slow"});
    call(&machine, "POST", "/volumes/create", &volume).is(201);
    load(&machine, &archive(dir.path(), "other")).loaded();
    let another = archive(dir.path(), "another");
    assert!(volumes.freeze("--freeze"));
    let mut slow = container("true");
    slow["Image"] = json!("made:1");
    // What the image has there is copied.
    slow["HostConfig"]["Binds"] = json!(["slow:/data"]);
    let statuses = std::thread::scope(|scope| {
        let machine = &machine;
        let creating = scope
            .spawn(move || call(machine, "POST", "/containers/create?name=slow", &slow).status);
        // Its folder is made right before its volumes.
        while names(dir.path().join("data/containers")).is_empty() {
            std::thread::yield_now();
        }
        let (say, said) = mpsc::channel();
        scope.spawn(move || {
            let _ = say.send(delete(machine, "/images/other").status);
            let _ = say.send(load(machine, &another).loaded().status);
        });
        let limit = Duration::from_secs(60);
        let answered = [said.recv_timeout(limit), said.recv_timeout(limit)];
        // Before anything fails: a process that waits for this disk cannot be ended.
        assert!(volumes.freeze("--unfreeze"));
        (answered, creating.join().unwrap())
    });
    assert_eq!(statuses, ([Ok(200), Ok(200)], 201));
}

#[test]
fn a_volume_of_a_container_that_passes_stays_for_another_that_has_it() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    machine.greeted();
    load_image(&machine, dir.path());
    let mut passing = container("echo kept > /data/file; exec sleep 100000");
    passing["HostConfig"]["AutoRemove"] = json!(true);
    passing["Volumes"] = json!({"/data": {}});
    run(&machine, "passing", &passing);
    while get(&machine, "/containers/passing/archive?path=/data/file").status != 200 {
        std::thread::yield_now();
    }
    let mut other = container("exec cat /data/file");
    other["HostConfig"]["VolumesFrom"] = json!(["passing"]);
    create(&machine, "other", &other);
    drop(machine);

    let machine = Machine::start(dir.path());
    machine.greeted();
    get(&machine, "/containers/passing/json").is(404);
    post(&machine, "/containers/other/start").is(204);
    assert_eq!(wait(&machine, "other"), 0);
    assert_eq!(logs(&machine, "other"), b"kept\n");
}
