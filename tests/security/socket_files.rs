//! Sockets and folders on the host: the user's alone, whatever the umask and whatever lies there before.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lighter_tests::{Host, env, run};

const NOBODY: u32 = 65534;

#[test]
fn another_user_cannot_talk_to_the_socket() {
    let name = "another_user_cannot_talk_to_the_socket";
    let Some(host) = Host::shared(name) else {
        return;
    };
    if !rustix::process::geteuid().is_root() {
        return env::skip(name, "only root can become another user");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let probe = folder.path().join("probe");
    std::fs::write(&probe, lighter_tests::probe::binary()).expect("written");
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("ours");
    };
    open(folder.path(), 0o755);
    open(&probe, 0o755);
    let ping = |uid: u32| {
        let mut ping = Command::new(&probe);
        ping.arg("ping").arg(host.socket()).uid(uid).gid(uid);
        run(ping, b"", Duration::from_secs(30)).out()
    };
    assert!(ping(0).ends_with("OK"), "{}", ping(0));
    assert!(
        ping(NOBODY).contains("Permission denied"),
        "{}",
        ping(NOBODY)
    );
    // The modes are one wall; who stands behind the connection is looked at as well.
    let above = host.socket().parent().expect("a folder").to_owned();
    let opened = [
        (host.home().to_owned(), 0o755),
        (above, 0o755),
        (host.socket(), 0o666),
    ];
    let before: Vec<u32> = opened
        .iter()
        .map(|(path, mode)| {
            let before = std::fs::metadata(path).expect("there").mode() & 0o777;
            open(path, *mode);
            before
        })
        .collect();
    let said = ping(NOBODY);
    for ((path, _), mode) in opened.iter().zip(before) {
        open(path, mode);
    }
    assert!(
        !said.contains("OK") && !said.contains("Permission denied"),
        "{said}"
    );
    assert!(ping(0).ends_with("OK"), "{}", ping(0));
}

/// A umask of nothing, and a link in the place of each socket: the modes are right all the same, and
/// what the links point to is not touched.
#[test]
fn umask_and_planted_links_change_nothing() {
    let Some(host) = Host::new() else {
        return env::skip(
            "umask_and_planted_links_change_nothing",
            "the programs are not there",
        );
    };
    let elsewhere = tempfile::tempdir().expect("a folder");
    let target = elsewhere.path().join("target");
    std::fs::write(&target, "untouched").expect("written");
    let folder = host.home().join("run");
    std::fs::create_dir(&folder).expect("made");
    let sockets = ["docker.sock", "control.sock", "machine.sock"];
    for socket in sockets {
        symlink(&target, folder.join(socket)).expect("a link");
    }
    let lighter = host.lighter_command();
    let mut up = Command::new("sh");
    up.args(["-c", "umask 000; exec \"$0\" up"])
        .arg(lighter.get_program());
    for (key, value) in lighter.get_envs() {
        match value {
            Some(value) => up.env(key, value),
            None => up.env_remove(key),
        };
    }
    run(up, b"", Duration::from_secs(180)).ok();
    let mode = |path: &Path| std::fs::symlink_metadata(path).expect("there").mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for socket in sockets {
        let path = folder.join(socket);
        let kind = std::fs::symlink_metadata(&path).expect("there").file_type();
        assert!(kind.is_socket(), "{socket} is {kind:?}");
        assert_eq!(mode(&path), 0o600, "{socket}");
    }
    assert_eq!(
        std::fs::read_to_string(&target).expect("there"),
        "untouched"
    );
    host.docker(&["version"]).ok();
}

/// A folder that somebody else could have laid there is refused, with the reason.
#[test]
fn a_link_or_a_foreign_folder_in_place_of_ours_is_refused() {
    let name = "a_link_or_a_foreign_folder_in_place_of_ours_is_refused";
    let Some(host) = Host::new() else {
        return env::skip(name, "the programs are not there");
    };
    let elsewhere = tempfile::tempdir().expect("a folder");
    let folder = host.home().join("run");
    symlink(elsewhere.path(), &folder).expect("a link");
    refused(&host, &folder);
    assert_eq!(
        std::fs::read_dir(elsewhere.path()).expect("there").count(),
        0
    );
    std::fs::remove_file(&folder).expect("ours");
    if rustix::process::geteuid().is_root() {
        std::fs::create_dir(&folder).expect("made");
        std::os::unix::fs::chown(&folder, Some(NOBODY), None).expect("root");
        refused(&host, &folder);
        std::fs::remove_dir_all(&folder).expect("root");
    }
}

fn refused(host: &Host, folder: &Path) {
    let up = host.lighter(&["up"]);
    assert_ne!(up.code, 0, "{}", up.out());
    assert!(
        up.err().contains(&folder.display().to_string()),
        "{}",
        up.err()
    );
}
