//! The cases.

use std::fs::File;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use lighter_files::control::{RefusalCode, ShareId};
use lighter_files::{CONTROL_SOCKET, FilesClient, FilesError, FilesProcess, SpawnConfig};

/// Runs every case as this user, and where that is root, once more as an ordinary one.
pub fn run(wanted: &str) {
    let cases: [(&str, fn()); 3] = [
        ("is_spoken_to_and_taken_over", is_spoken_to_and_taken_over),
        (
            "gives_up_what_it_does_not_need",
            gives_up_what_it_does_not_need,
        ),
        (
            "refuses_what_the_daemon_did_not_check",
            refuses_what_the_daemon_did_not_check,
        ),
    ];
    for (name, case) in cases.into_iter().filter(|(name, _)| name.contains(wanted)) {
        case();
        println!(
            "test {name} (uid {}) ... ok",
            rustix::process::geteuid().as_raw()
        );
    }
    if rustix::process::geteuid().is_root() {
        let program = tempfile::tempdir().expect("temporary directory");
        std::fs::set_permissions(program.path(), PermissionsExt::from_mode(0o755)).expect("own");
        let copy = program.path().join("process-test");
        std::fs::copy(std::env::current_exe().expect("known"), &copy).expect("room");
        let again = Command::new(copy)
            .arg(wanted)
            .stdin(std::process::Stdio::null())
            .uid(65534)
            .gid(65534)
            .status()
            .expect("started");
        assert!(again.success(), "as an ordinary user: {again}");
    }
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        for name in ["run", "data", "shared"] {
            std::fs::create_dir(dir.path().join(name)).expect("made");
        }
        Self { dir }
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn spawn(&self) -> FilesProcess {
        let (exe, run_dir, data_dir) = (
            std::env::current_exe().expect("known"),
            self.at("run"),
            self.at("data"),
        );
        let log = File::create(self.at("log")).expect("made");
        FilesProcess::spawn(SpawnConfig {
            exe: &exe,
            run_dir: &run_dir,
            data_dir: &data_dir,
            log: Some(log),
        })
        .unwrap_or_else(|error| {
            panic!(
                "{error}: {}",
                std::fs::read_to_string(self.at("log")).expect("log")
            )
        })
    }
}

fn id(text: &str) -> ShareId {
    ShareId::new(text).expect("valid id")
}

fn refusal(result: Result<(), FilesError>) -> RefusalCode {
    match result {
        Err(FilesError::Refused { code, .. }) => code,
        other => panic!("not refused: {other:?}"),
    }
}

fn is_spoken_to_and_taken_over() {
    let place = Place::new();
    assert!(
        FilesClient::take_over(&place.at("run"))
            .expect("no error")
            .is_none()
    );
    let FilesProcess {
        mut child,
        vhost_user,
        control,
    } = place.spawn();
    let socket = place.at("run").join(CONTROL_SOCKET);
    assert_eq!(
        std::fs::metadata(socket)
            .expect("bound")
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    control
        .add_path(&id("one"), &place.at("shared"), false)
        .expect("a directory");
    control
        .add_path(&id("one"), &place.at("shared"), false)
        .expect("the same again");
    assert_eq!(
        refusal(control.add_path(&id("one"), &place.at("shared"), true)),
        RefusalCode::Exists
    );
    let next = FilesClient::take_over(&place.at("run"))
        .expect("no error")
        .expect("it lives");
    drop(control);
    let status = next.status().expect("an answer");
    assert_eq!(status.shares.len(), 1);
    assert_eq!(
        (status.shares[0].id.as_str(), status.shares[0].directory),
        ("one", true)
    );
    for restricted in [true, false] {
        next.restrict(&id("one"), restricted).expect("present");
        let status = next.status().expect("an answer");
        assert_eq!(status.shares[0].restricted, restricted);
    }
    next.remove_share(&id("one")).expect("present");
    assert_eq!(
        refusal(next.remove_share(&id("one"))),
        RefusalCode::NotFound
    );
    assert!(next.status().expect("an answer").shares.is_empty());
    let log = std::fs::read_to_string(place.at("log")).expect("log");
    assert!(
        log.contains("share activated") && log.contains("share removed") && log.contains("shared"),
        "{log}"
    );
    // Its machine ends: so does it, and a dead socket is nobody.
    drop(vhost_user);
    assert!(child.wait().expect("own child").success());
    assert!(
        FilesClient::take_over(&place.at("run"))
            .expect("no error")
            .is_none()
    );
    let mut another = place.spawn();
    another.control.status().expect("an answer");
    drop(another.vhost_user);
    another.child.wait().expect("own child");
}

fn gives_up_what_it_does_not_need() {
    let place = Place::new();
    let mut files = place.spawn();
    files.control.status().expect("an answer");
    let tasks = format!("/proc/{}/task", files.child.id());
    let mut seen = 0;
    for task in std::fs::read_dir(tasks).expect("alive") {
        let status =
            std::fs::read_to_string(task.expect("entry").path().join("status")).expect("alive");
        let field = |name: &str| {
            let line = status
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap_or_default();
            line.split_whitespace()
                .nth(1)
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(field("NoNewPrivs:"), "1");
        assert_eq!(field("Seccomp:"), "2", "{status}");
        // DAC_OVERRIDE, DAC_READ_SEARCH and FOWNER at the most: bits 1 to 3.
        let capabilities = u64::from_str_radix(&field("CapEff:"), 16).expect("a number");
        assert_eq!(capabilities & !0b1110, 0);
        assert_eq!(field("CapPrm:"), field("CapEff:"));
        assert_eq!(field("Umask:"), "0000");
        seen += 1;
    }
    assert!(seen > 4, "workers, control and device: {seen}");
    let open = std::fs::read_dir(format!("/proc/{}/fd", files.child.id()));
    if let Ok(open) = open {
        assert!(open.count() < 40, "nothing but its own was inherited");
    }
    drop(files.vhost_user);
    files.child.wait().expect("own child");
}

fn refuses_what_the_daemon_did_not_check() {
    let place = Place::new();
    let mut files = place.spawn();
    symlink(place.at("shared"), place.at("link")).expect("made");
    for path in ["link", "link/.", "missing"] {
        let refused = files.control.add_path(&id("x"), &place.at(path), false);
        assert!(
            matches!(refused, Err(FilesError::Path { .. })),
            "{path}: {refused:?}"
        );
    }
    for path in ["/dev/null", "/proc", "/sys"] {
        assert_eq!(
            refusal(files.control.add_path(&id("x"), Path::new(path), true)),
            RefusalCode::NotShareable,
            "{path}"
        );
    }
    files
        .control
        .hide(&place.at("shared").join("secret"))
        .expect("hidden before it is made");
    files
        .control
        .hide(&place.at("nowhere").join("secret"))
        .expect("nothing to hide");
    // Rubbish on the control socket is answered or hung up on; the process goes on.
    let stranger = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        None,
    )
    .expect("socket");
    let address =
        rustix::net::SocketAddrUnix::new(place.at("run").join(CONTROL_SOCKET)).expect("short");
    rustix::net::connect(&stranger, &address).expect("it listens");
    for rubbish in [
        b"{".as_slice(),
        b"{\"request\":\"add_share\",\"id\":\"a\",\"read_only\":true,\"label\":\"\"}",
        &[0xff; 3000],
    ] {
        let _ = rustix::net::send(&stranger, rubbish, rustix::net::SendFlags::NOSIGNAL);
    }
    assert!(files.control.status().expect("an answer").shares.is_empty());
    drop(files.vhost_user);
    files.child.wait().expect("own child");
}
