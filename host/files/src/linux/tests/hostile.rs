//! A guest that obeys nothing: what it must not reach, change or exhaust.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use rustix::io::Errno;

use super::guest::*;

const SYNCFS: u64 = 50;

use crate::control::ShareId;
use crate::sys::fs::Limits;
use crate::sys::fs::nodes::NodeLimits;
use crate::sys::fs::sys;

/// Everything below a directory that a change would show in: even a mode set twice changes the ctime.
fn picture(top: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![top.to_owned()];
    while let Some(path) = left.pop() {
        let meta = std::fs::symlink_metadata(&path).expect("present");
        let content = match meta.file_type() {
            kind if kind.is_dir() => {
                left.extend(
                    std::fs::read_dir(&path)
                        .expect("readable")
                        .map(|e| e.expect("entry").path()),
                );
                Vec::new()
            }
            kind if kind.is_symlink() => std::fs::read_link(&path)
                .expect("link")
                .into_os_string()
                .into_encoded_bytes(),
            kind if kind.is_file() => std::fs::read(&path).expect("readable"),
            _ => Vec::new(),
        };
        let fd = sys::open_child(
            File::open(path.parent().expect("below /")).expect("open"),
            &name_of(&path),
        );
        let xattrs = sys::list_xattrs(fd.expect("present")).unwrap_or_default();
        let times = (
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        );
        let line = format!(
            "{:o} {:?} {:?} {:?} {:?}",
            meta.mode(),
            times,
            meta.nlink(),
            content,
            xattrs
        );
        found.insert(path.display().to_string(), line);
    }
    found
}

fn name_of(path: &Path) -> CString {
    CString::new(path.file_name().expect("named").as_encoded_bytes()).expect("no NUL")
}

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    let at = dir.path();
    std::fs::create_dir_all(at.join("share/sub/deep")).expect("made");
    std::fs::write(at.join("share/file"), "content of the file").expect("made");
    std::fs::write(at.join("share/sub/other"), "content of the other").expect("made");
    std::fs::write(at.join("canary"), "outside").expect("made");
    symlink("file", at.join("share/link")).expect("made");
    dir
}

/// Bodies that the kernel might send for `opcode`, aimed at real inodes and handles.
fn bodies(opcode: u32, node: u64, file: u64, directory: u64) -> Vec<Body> {
    let all_attributes = |valid: u32, handle: u64| {
        body()
            .u32(valid)
            .u32(0)
            .u64(handle)
            .u64(3)
            .zeroes(32)
            .zeroes(12)
            .u32(0o4777)
            .u32(0)
            .u32(7)
            .u32(7)
            .u32(0)
    };
    match opcode {
        SETATTR => (0..12)
            .map(|bit| 1 << bit)
            .chain([0xffff])
            .map(|v| all_attributes(v, file))
            .collect(),
        SYMLINK => vec![body().name(c"new").name(c"/etc/passwd")],
        MKNOD => [
            libc::S_IFREG,
            libc::S_IFIFO,
            libc::S_IFSOCK,
            libc::S_IFCHR,
            libc::S_IFBLK,
        ]
        .map(|kind| {
            body()
                .u32(kind | 0o666)
                .u32(0x103)
                .u32(0)
                .u32(0)
                .name(c"new")
        })
        .to_vec(),
        MKDIR => vec![body().u32(0o777).u32(0).name(c"new")],
        UNLINK => vec![
            body().name(c"file"),
            body().name(c"link"),
            body().name(c"other"),
        ],
        RMDIR => vec![body().name(c"deep"), body().name(c"sub")],
        RENAME => vec![
            body().u64(node).name(c"file").name(c"new"),
            body().u64(node).name(c"other").name(c"new"),
        ],
        RENAME2 => (0..8)
            .map(|flags| {
                body()
                    .u64(node)
                    .u32(flags)
                    .u32(0)
                    .name(c"file")
                    .name(c"link")
            })
            .collect(),
        LINK => vec![body().u64(node).name(c"new")],
        OPEN => [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR, 3]
            .into_iter()
            .flat_map(|access| {
                [0, libc::O_TRUNC, libc::O_APPEND, libc::O_CREAT].map(|more| access | more)
            })
            .map(|flags| body().u32(flags.cast_unsigned()).u32(1))
            .collect(),
        WRITE => [(file, 0), (file, libc::O_APPEND), (directory, 0), (0, 0)]
            .map(|(handle, flags)| {
                body()
                    .u64(handle)
                    .u64(0)
                    .u32(4)
                    .u32(7)
                    .u64(0)
                    .u32(flags.cast_unsigned())
                    .u32(0)
                    .bytes(b"evil")
            })
            .to_vec(),
        FSYNC | FSYNCDIR => vec![
            body().u64(file).u32(0).u32(0),
            body().u64(directory).u32(1).u32(0),
        ],
        SETXATTR => [
            c"user.note",
            c"user.lighter.stat",
            c"security.capability",
            c"trusted.x",
            c"system.posix_acl_access",
        ]
        .map(|name| body().u32(4).u32(0).name(name).bytes(b"evil"))
        .to_vec(),
        REMOVEXATTR => vec![body().name(c"user.note"), body().name(c"user.lighter.stat")],
        CREATE | TMPFILE => [
            libc::O_RDWR,
            libc::O_RDWR | libc::O_EXCL,
            libc::O_WRONLY | libc::O_TRUNC,
            libc::O_RDONLY,
        ]
        .into_iter()
        .flat_map(|flags| [c"new", c"file", c"link", c"other"].map(|name| (flags, name)))
        .map(|(flags, name)| {
            body()
                .u32(flags.cast_unsigned())
                .u32(0o4777)
                .u32(0)
                .u32(0)
                .name(name)
        })
        .collect(),
        FALLOCATE => (0..0x80)
            .map(|mode| body().u64(file).u64(0).u64(4096).u32(mode).u32(0))
            .collect(),
        COPY_FILE_RANGE => vec![
            body()
                .u64(file)
                .u64(0)
                .u64(node)
                .u64(file)
                .u64(5)
                .u64(4)
                .u64(0),
        ],
        // FS_IOC_SETFLAGS, FICLONE, FS_IOC_FSSETXATTR
        IOCTL => [0x4008_6602, 0x4004_9409, 0x401c_5820]
            .map(|command| {
                body()
                    .u64(file)
                    .u32(0)
                    .u32(command)
                    .u64(0)
                    .u32(8)
                    .u32(8)
                    .u64(16)
            })
            .to_vec(),
        BATCH_FORGET => vec![body().u32(1).u32(0).u64(999_999).u64(1)],
        FORGET => vec![body().u64(0)],
        ACCESS => vec![body().u32(2).u32(0)],
        _ => vec![
            body().u64(file).u64(0).u64(4096).zeroes(80),
            body().u64(directory).u64(0).u64(4096).zeroes(80),
            body().name(c"file"),
            body().zeroes(128),
        ],
    }
}

/// CVE-2026-46695: a read-only share that was only a flag of the guest's mount.
#[test]
fn cve_2026_46695_every_opcode_leaves_a_read_only_share_as_it_was() {
    let dir = tree();
    let guest = Guest::new();
    let top = guest.share("ro", &dir.path().join("share"), true);
    let nodes = [
        1,
        top,
        guest.walk(top, "file").expect("present").0,
        guest.walk(top, "link").expect("present").0,
        guest.walk(top, "sub").expect("present").0,
        guest.walk(top, "sub/other").expect("present").0,
        0,
        u64::MAX,
    ];
    let (file, directory) = (
        guest.open(nodes[2], libc::O_RDONLY).expect("read"),
        guest.opendir(top).expect("list"),
    );
    let before = picture(dir.path());
    let mut sent = 0;
    // DESTROY (38) and INIT (26) end the mount's handles, not the share: they come last.
    for opcode in
        (1..=60)
            .filter(|op| ![26, 38].contains(op))
            .chain([4096, 48, 49, u32::MAX, 38, 26])
    {
        for node in nodes {
            for body in bodies(opcode, node, file, directory) {
                let answer = guest.raw(opcode, node, &body.0);
                sent += 1;
                if [
                    SETATTR,
                    SYMLINK,
                    MKDIR,
                    UNLINK,
                    RMDIR,
                    RENAME,
                    RENAME2,
                    SETXATTR,
                    REMOVEXATTR,
                    TMPFILE,
                    CREATE,
                    MKNOD,
                ]
                .contains(&opcode)
                    && nodes[1..6].contains(&node)
                {
                    assert_eq!(
                        answer,
                        Some(Err(Errno::ROFS)),
                        "opcode {opcode} on node {node}: {:?}",
                        body.0
                    );
                }
            }
        }
    }
    assert_eq!(picture(dir.path()), before);
    assert!(sent > 1500, "{sent}");
}

#[test]
fn a_read_only_grant_of_a_writable_directory_is_an_entry_of_its_own() {
    let dir = tree();
    let guest = Guest::new();
    let writable = guest.share("rw", &dir.path().join("share"), false);
    let read_only = guest.share("ro", &dir.path().join("share"), true);
    let (through_rw, _) = guest.lookup(writable, c"file").expect("present");
    let (through_ro, attr) = guest.lookup(read_only, c"file").expect("present");
    assert_ne!(through_rw, through_ro);
    assert_eq!(attr.ino, guest.getattr(through_rw).expect("known").ino);
    let handle = guest.open(through_rw, libc::O_RDWR).expect("writable");
    let reading = guest.open(through_ro, libc::O_RDONLY).expect("readable");
    // What was opened through the one is not to be used through the other, in either direction.
    assert_eq!(
        guest.write(through_ro, reading, 0, b"x", (0, 0)),
        Err(Errno::ROFS)
    );
    assert_eq!(guest.link(through_ro, writable, c"new"), Err(Errno::ROFS));
    assert_eq!(guest.link(through_rw, read_only, c"new"), Err(Errno::ROFS));
    assert_eq!(
        guest.rename((read_only, c"file"), (writable, c"new"), 0),
        Err(Errno::ROFS)
    );
    assert_eq!(
        guest.rename((writable, c"file"), (read_only, c"new"), 0),
        Err(Errno::ROFS)
    );
    // A SETATTR of the read-only inode with the writable handle is a change of the read-only one.
    let with_handle = body().u32(8 | 1 << 6).u32(0).u64(handle).u64(0).zeroes(64);
    assert_eq!(
        guest.ask(SETATTR, through_ro, with_handle),
        Err(Errno::ROFS)
    );
    assert_eq!(
        guest.write(through_rw, handle, 0, b"CONTENT", (0, 0)),
        Ok(7)
    );
    assert_eq!(
        std::fs::read(dir.path().join("share/file")).expect("read"),
        b"CONTENT of the file"
    );
}

#[test]
fn names_that_lead_elsewhere_are_refused_in_every_request() {
    let dir = tree();
    let guest = Guest::new();
    let top = guest.share("rw", &dir.path().join("share"), false);
    let (file, _) = guest.lookup(top, c"file").expect("present");
    let before = picture(dir.path());
    for name in [
        c"..",
        c".",
        c"",
        c"../canary",
        c"sub/../../canary",
        c"/etc/passwd",
        c"sub/other",
        c"file/",
    ] {
        assert_eq!(guest.lookup(top, name), Err(Errno::INVAL), "{name:?}");
        assert_eq!(guest.lookup(1, name), Err(Errno::INVAL), "{name:?}");
        assert_eq!(
            guest.mkdir(top, name, 0o755).map(drop),
            Err(Errno::INVAL),
            "{name:?}"
        );
        assert_eq!(
            guest.mknod(top, name, libc::S_IFREG, 0).map(drop),
            Err(Errno::INVAL),
            "{name:?}"
        );
        assert_eq!(
            guest.symlink(top, name, c"x").map(drop),
            Err(Errno::INVAL),
            "{name:?}"
        );
        assert_eq!(
            guest.link(file, top, name).map(drop),
            Err(Errno::INVAL),
            "{name:?}"
        );
        assert_eq!(
            guest.create(top, name, libc::O_RDWR, 0o644).map(drop),
            Err(Errno::INVAL),
            "{name:?}"
        );
        assert_eq!(guest.unlink(top, name), Err(Errno::INVAL), "{name:?}");
        assert_eq!(guest.rmdir(top, name), Err(Errno::INVAL), "{name:?}");
        assert_eq!(
            guest.rename((top, name), (top, c"new"), 0),
            Err(Errno::INVAL),
            "{name:?}"
        );
        assert_eq!(
            guest.rename((top, c"file"), (top, name), 0),
            Err(Errno::INVAL),
            "{name:?}"
        );
    }
    assert_eq!(picture(dir.path()), before);
}

/// CVE-2026-47243: links that the guest makes and the host's side then follows.
#[test]
fn cve_2026_47243_links_are_given_to_the_guest_and_never_followed() {
    let dir = tree();
    let guest = Guest::new();
    let top = guest.share("rw", &dir.path().join("share"), false);
    let canary = CString::new(
        dir.path()
            .join("canary")
            .into_os_string()
            .into_encoded_bytes(),
    )
    .expect("no NUL");
    let outside = picture(&dir.path().join("canary"));
    for (name, target) in [
        (c"a", canary.as_c_str()),
        (c"b", c"../canary"),
        (c"c", c"/proc/self/root"),
        (c"d", c"../.."),
        (c"e", c"/etc/shadow"),
    ] {
        let (link, attr) = guest
            .symlink(top, name, target)
            .expect("a link is only text");
        assert_eq!(attr.mode & libc::S_IFMT, libc::S_IFLNK);
        assert_eq!(guest.readlink(link).expect("text"), target.to_bytes());
        for flags in [libc::O_RDONLY, libc::O_RDWR, libc::O_WRONLY | libc::O_TRUNC] {
            assert_eq!(guest.open(link, flags), Err(Errno::LOOP));
            let created = guest.create(top, name, flags, 0o644);
            assert!(matches!(created, Err(Errno::LOOP)), "{created:?}");
        }
        assert!(
            guest
                .create(top, name, libc::O_RDWR | libc::O_EXCL, 0o644)
                .is_err()
        );
        assert_eq!(guest.opendir(link), Err(Errno::NOTDIR));
        assert_eq!(guest.lookup(link, c"etc").map(drop), Err(Errno::NOTDIR));
        assert_eq!(
            guest.mkdir(link, c"new", 0o755).map(drop),
            Err(Errno::NOTDIR)
        );
        let file = guest.lookup(top, c"file").expect("present").0;
        assert_eq!(guest.link(file, link, c"new").map(drop), Err(Errno::NOTDIR));
        assert_eq!(
            guest.rename((top, c"file"), (link, c"new"), 0),
            Err(Errno::NOTDIR)
        );
        assert_eq!(
            guest
                .setattr(
                    link,
                    Change {
                        size: Some(0),
                        ..Change::default()
                    }
                )
                .map(drop),
            Err(Errno::LOOP)
        );
        assert!(guest.setxattr(link, c"user.x", b"y").is_err());
        // Owner, mode and time are set on the link and on nothing behind it.
        guest
            .setattr(
                link,
                Change {
                    uid: Some(999),
                    mtime: Some(5),
                    ..Change::default()
                },
            )
            .expect("own link");
        guest
            .setattr(
                link,
                Change {
                    mode: Some(0o777),
                    ..Change::default()
                },
            )
            .expect("own link");
        guest
            .link(
                link,
                top,
                &CString::new([name.to_bytes(), b"2"].concat()).expect("no NUL"),
            )
            .expect("hard link");
        assert_eq!(guest.unlink(top, name), Ok(()));
    }
    assert_eq!(picture(&dir.path().join("canary")), outside);
    assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 2);
}

/// CVE-2020-35517: a device node, FIFO or socket of the host opened through the share.
#[test]
fn cve_2020_35517_only_regular_files_and_directories_are_opened() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: making device nodes needs root");
        return;
    }
    let dir = tree();
    let at = dir.path().join("share");
    let make = |name: &str, kind, device| {
        mknodat(CWD, at.join(name), kind, Mode::from_raw_mode(0o666), device)
    };
    make("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)).expect("root may");
    make("disk", FileType::BlockDevice, rustix::fs::makedev(7, 250)).expect("root may");
    make("fifo", FileType::Fifo, 0).expect("anyone may");
    let _socket = std::os::unix::net::UnixListener::bind(at.join("socket")).expect("bind");
    let guest = Guest::new();
    let top = guest.share("rw", &at, false);
    for (name, kind) in [
        (c"null", libc::S_IFCHR),
        (c"disk", libc::S_IFBLK),
        (c"fifo", libc::S_IFIFO),
        (c"socket", libc::S_IFSOCK),
    ] {
        let (node, attr) = guest.lookup(top, name).expect("shown");
        assert_eq!(
            (attr.mode & libc::S_IFMT, attr.rdev),
            (kind, 0),
            "the type is told, the device is not"
        );
        for flags in [
            libc::O_RDONLY,
            libc::O_RDWR,
            libc::O_WRONLY | libc::O_TRUNC | libc::O_NONBLOCK,
        ] {
            assert_eq!(guest.open(node, flags), Err(Errno::ACCESS), "{name:?}");
            assert!(guest.create(top, name, flags, 0o644).is_err(), "{name:?}");
        }
        assert_eq!(
            guest
                .setattr(
                    node,
                    Change {
                        size: Some(0),
                        ..Change::default()
                    }
                )
                .map(drop),
            Err(Errno::ACCESS)
        );
    }
    for kind in [libc::S_IFCHR, libc::S_IFBLK] {
        assert_eq!(
            guest.mknod(top, c"new", kind | 0o666, 0x103).map(drop),
            Err(Errno::PERM)
        );
    }
    assert!(!at.join("new").exists());
}

/// CVE-2020-10717: descriptors of the host used up by a guest that opens and looks up without end.
#[test]
fn cve_2020_10717_descriptors_are_bounded_and_the_guest_is_told() {
    let dir = tree();
    let at = dir.path().join("share");
    for number in 0..2000 {
        std::fs::write(at.join(format!("f{number}")), number.to_string()).expect("made");
    }
    let limits = Limits {
        handles: 100,
        nodes: NodeLimits {
            nodes: 3000,
            descriptors: 50,
        },
    };
    let guest = Guest::with_limits(limits);
    let top = guest.share("rw", &at, false);
    let nodes: Vec<u64> = (0..2000)
        .map(|n| guest.walk(top, &format!("f{n}")).expect("present").0)
        .collect();
    let mut status = crate::control::Status::default();
    crate::sys::control_server::Observer::observe(&*guest.fs, &mut status);
    assert!(status.cached_descriptors <= 50, "{status:?}");
    let opened: Vec<_> = nodes
        .iter()
        .map(|node| guest.open(*node, libc::O_RDONLY))
        .collect();
    assert_eq!(opened.iter().filter(|o| o.is_ok()).count(), 100);
    assert!(opened[100..].iter().all(|o| *o == Err(Errno::NFILE)));
    assert_eq!(guest.opendir(top), Err(Errno::NFILE));
    assert_eq!(
        guest.create(top, c"new", libc::O_RDWR, 0o644).map(drop),
        Err(Errno::NFILE)
    );
    assert!(!at.join("new").exists());
    // A node whose descriptor went is found again, and the handles that were given still work.
    for number in [0, 99, 1000, 1999] {
        assert_eq!(
            guest.getattr(nodes[number]).expect("found again").size,
            number.to_string().len() as u64
        );
    }
    assert_eq!(
        guest.read(nodes[7], opened[7].expect("open"), 0, 10),
        Ok(b"7".to_vec())
    );
    guest
        .release(nodes[7], opened[7].expect("open"))
        .expect("closed");
    guest.open(nodes[1999], libc::O_RDONLY).expect("room again");
    // Inodes are bounded as well: the guest is told, and forgetting makes room.
    for number in 0..3000 {
        std::fs::create_dir(at.join(format!("d{number}"))).expect("made");
    }
    let known: Vec<_> = (0..3000)
        .map(|n| guest.walk(top, &format!("d{n}")).map(|(node, _)| node))
        .collect();
    let refused = known.iter().filter(|k| **k == Err(Errno::NFILE)).count();
    assert_eq!(refused, 3000 - (3000 - 2001));
    nodes.iter().for_each(|node| guest.forget(*node, u64::MAX));
    guest.walk(top, "d2999").expect("room again");
}

/// The host exchanges a directory with a link to outside while the guest looks up and opens through it.
#[test]
fn a_race_with_renames_on_the_host_never_leads_outside() {
    let dir = tree();
    let at = dir.path().join("share");
    std::fs::create_dir_all(dir.path().join("outside/deep")).expect("made");
    std::fs::write(dir.path().join("outside/other"), "SECRET").expect("made");
    std::fs::write(dir.path().join("outside/deep/inner"), "SECRET").expect("made");
    std::fs::write(at.join("sub/deep/inner"), "inside").expect("made");
    symlink("../outside", at.join("trap")).expect("made");
    let before = picture(&dir.path().join("outside"));
    // Few descriptors, so that nodes are walked to again and again.
    let limits = Limits {
        handles: 64,
        nodes: NodeLimits {
            nodes: 10_000,
            descriptors: 1,
        },
    };
    let guest = Guest::with_limits(limits);
    let top = guest.share("rw", &at, false);
    let stop = Arc::new(AtomicBool::new(false));
    let host = {
        let (stop, at) = (Arc::clone(&stop), at.clone());
        std::thread::spawn(move || {
            let mut exchanges = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                renameat_with(
                    CWD,
                    at.join("sub"),
                    CWD,
                    at.join("trap"),
                    RenameFlags::EXCHANGE,
                )
                .expect("both exist");
                exchanges += 1;
            }
            exchanges
        })
    };
    let (mut read, mut refused) = (0, 0);
    for round in 0..4000_u32 {
        let reached = guest.walk(
            top,
            if round % 2 == 0 {
                "sub/deep/inner"
            } else {
                "sub/other"
            },
        );
        let Ok((node, attr)) = reached else {
            refused += 1;
            continue;
        };
        assert_eq!(attr.mode & libc::S_IFMT, libc::S_IFREG);
        let Ok(handle) = guest.open(node, libc::O_RDWR) else {
            refused += 1;
            continue;
        };
        let content = guest.read(node, handle, 0, 100).expect("open");
        assert!(!content.starts_with(b"SECRET"), "round {round}");
        guest
            .write(node, handle, 0, &content, (0, 0))
            .expect("open for writing");
        let parent = guest.walk(top, "sub").map(|(node, _)| node);
        if let Ok(parent) = parent {
            let _ = guest
                .create(parent, c"planted", libc::O_RDWR, 0o644)
                .map(|(n, h, _)| guest.release(n, h));
            let _ = guest.mkdir(parent, c"planted-dir", 0o755);
            let _ = guest.unlink(parent, c"other2");
        }
        guest.release(node, handle).expect("open");
        read += 1;
    }
    stop.store(true, Ordering::Relaxed);
    let exchanges = host.join().expect("no panic");
    assert_eq!(picture(&dir.path().join("outside")), before);
    assert!(
        read > 0 && refused > 0 && exchanges > 100,
        "{read} read, {refused} refused, {exchanges} exchanges"
    );
}

#[test]
fn a_removed_share_ends_what_is_open_below_it() {
    let dir = tree();
    let guest = Guest::new();
    let top = guest.share("rw", &dir.path().join("share"), false);
    let (file, _) = guest.lookup(top, c"file").expect("present");
    let handle = guest.open(file, libc::O_RDWR).expect("open");
    let listing = guest.opendir(top).expect("open");
    let removed = guest
        .shares
        .remove(&ShareId::new("rw").expect("id"))
        .expect("present");
    crate::sys::control_server::Observer::share_removed(&*guest.fs, removed.serial);
    assert!(guest.read(file, handle, 0, 4).is_err());
    assert!(guest.write(file, handle, 0, b"x", (0, 0)).is_err());
    assert!(guest.readdir(top, listing, 0, 4096).is_err());
    assert_eq!(guest.getattr(file), Err(Errno::STALE));
    assert_eq!(guest.lookup(top, c"file").map(drop), Err(Errno::STALE));
    assert_eq!(guest.lookup(1, c"rw").map(drop), Err(Errno::NOENT));
}

#[test]
fn hidden_names_are_not_seen_reached_made_or_moved() {
    let dir = tree();
    let at = dir.path().join("share");
    std::fs::create_dir(at.join(".ssh")).expect("made");
    std::fs::write(at.join(".ssh/id"), "key").expect("made");
    let guest = Guest::new();
    for name in [".ssh", ".gnupg"] {
        guest
            .hidden
            .add(File::open(&at).expect("open"), name)
            .expect("one component");
    }
    guest
        .hidden
        .add(File::open(&at).expect("open"), "../canary")
        .expect_err("not one component");
    let top = guest.share("rw", dir.path(), false);
    let (share, _) = guest.lookup(top, c"share").expect("present");
    let (sub, _) = guest.lookup(share, c"sub").expect("present");
    let (file, _) = guest.lookup(share, c"file").expect("present");
    let listing = guest.opendir(share).expect("open");
    let names = guest.readdir(share, listing, 0, 65536).expect("open");
    assert!(
        names.iter().all(|(name, ..)| name != b".ssh")
            && names.iter().any(|(name, ..)| name == b"file")
    );
    for name in [c".ssh", c".gnupg"] {
        assert_eq!(guest.lookup(share, name).map(drop), Err(Errno::ACCESS));
        assert_eq!(
            guest.mkdir(share, name, 0o755).map(drop),
            Err(Errno::ACCESS)
        );
        assert_eq!(
            guest.create(share, name, libc::O_RDWR, 0o644).map(drop),
            Err(Errno::ACCESS)
        );
        assert_eq!(
            guest.symlink(share, name, c"x").map(drop),
            Err(Errno::ACCESS)
        );
        assert_eq!(
            guest.mknod(share, name, libc::S_IFREG, 0).map(drop),
            Err(Errno::ACCESS)
        );
        assert_eq!(guest.link(file, share, name).map(drop), Err(Errno::ACCESS));
        assert_eq!(
            guest.rename((share, name), (sub, c"free"), 0),
            Err(Errno::ACCESS)
        );
        assert_eq!(
            guest.rename((sub, c"deep"), (share, name), 0),
            Err(Errno::ACCESS)
        );
        assert_eq!(guest.rmdir(share, name), Err(Errno::ACCESS));
        assert_eq!(guest.unlink(share, name), Err(Errno::ACCESS));
    }
    // The directory above under another name, and the inode itself under another.
    guest
        .rename((top, c"share"), (top, c"renamed"), 0)
        .expect("not hidden itself");
    assert_eq!(
        guest.walk(top, "renamed/.ssh").map(drop),
        Err(Errno::ACCESS)
    );
    std::fs::rename(
        dir.path().join("renamed/.ssh"),
        dir.path().join("elsewhere"),
    )
    .expect("the host may");
    assert_eq!(
        guest.lookup(top, c"elsewhere").map(drop),
        Err(Errno::ACCESS)
    );
    assert_eq!(guest.walk(top, "renamed/sub").map(drop), Ok(()));
}

#[test]
fn files_of_proc_below_a_share_are_not_served() {
    let guest = Guest::new();
    let top = guest.share("all", Path::new("/"), true);
    for name in [c"proc", c"sys"] {
        assert_eq!(
            guest.lookup(top, name).map(drop),
            Err(Errno::ACCESS),
            "{name:?}"
        );
    }
    let proc = File::open("/proc").expect("mounted");
    let refused = guest.shares.add(
        ShareId::new("p").expect("id"),
        proc.into(),
        true,
        "/proc".into(),
    );
    assert!(refused.is_err());
}

/// Requests of random bytes: each is answered or dropped, none ends the process or changes what is outside.
#[test]
fn random_requests_are_answered_or_dropped() {
    let dir = tree();
    let guest = Guest::new();
    let top = guest.share("rw", &dir.path().join("share"), false);
    let (file, _) = guest.lookup(top, c"file").expect("present");
    let outside = picture(&dir.path().join("canary"));
    // xorshift: the same requests on every machine, and no crate for it.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..60_000 {
        let (opcode, length) = (next() % 62, (next() % 160) as usize);
        if opcode == SYNCFS {
            continue; // a thousand syncs of the host's disk prove nothing more than one
        }
        let node = [1, top, file, next()][(next() % 4) as usize];
        let claimed = [40 + length as u64, next(), 0, 40][(next() % 8).min(3) as usize];
        let mut bytes = body()
            .u32(claimed as u32)
            .u32(opcode as u32)
            .u64(next())
            .u64(node)
            .zeroes(16)
            .0;
        while bytes.len() < 40 + length {
            // Small numbers hit flags, sizes and handles; others hit everything else.
            let word = if next() % 2 == 0 { next() % 16 } else { next() };
            bytes.extend(&word.to_ne_bytes()[..(40 + length - bytes.len()).min(8)]);
        }
        let reply = guest.send(&bytes);
        assert!(reply.is_empty() || reply.len() >= 16, "opcode {opcode}");
    }
    for length in 0..40 {
        assert!(
            guest.send(&vec![0xff; length.max(1)]).is_empty(),
            "less than a header has no answer"
        );
    }
    assert_eq!(picture(&dir.path().join("canary")), outside);
    assert_eq!(guest.lookup(1, c"rw").map(drop), Ok(()));
}

#[test]
fn marks_written_by_others_are_not_believed_beyond_owner_and_mode() {
    let dir = tree();
    let path = dir.path().join("share/file");
    let set = |value: &[u8]| {
        let fd = File::open(&path).expect("open");
        sys::set_xattr(
            fd,
            c"user.lighter.stat",
            value,
            rustix::fs::XattrFlags::empty(),
        )
        .expect("own file");
    };
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .expect("own file");
    let guest = Guest::new();
    let top = guest.share("rw", &dir.path().join("share"), false);
    let host = std::fs::metadata(&path).expect("present");
    for (mark, mode) in [
        (b"1 5 6 20666 644".as_slice(), libc::S_IFREG | 0o666), // a character device
        (b"1 5 6 60666 644", libc::S_IFREG | 0o666),            // a block device
        (b"1 5 6 120777 644", libc::S_IFREG | 0o777),           // a link
        (b"1 5 6 40777 644", libc::S_IFREG | 0o777),            // a directory
    ] {
        set(mark);
        let (_, attr) = guest.lookup(top, c"file").expect("present");
        assert_eq!((attr.mode, attr.uid, attr.gid, attr.rdev), (mode, 5, 6, 0));
    }
    for mark in [
        b"garbage".as_slice(),
        b"1 5",
        b"9 1 1 1 1",
        &[0xff; 90],
        &[b'1'; 4000],
    ] {
        set(mark);
        let (_, attr) = guest.lookup(top, c"file").expect("present");
        assert_eq!(
            (attr.mode, attr.uid, attr.gid),
            (host.mode(), host.uid(), host.gid()),
            "{mark:?}"
        );
    }
}

#[test]
fn our_marks_are_neither_seen_nor_set_by_the_guest() {
    let dir = tree();
    let guest = Guest::new();
    let top = guest.share("rw", &dir.path().join("share"), false);
    let (file, _) = guest.lookup(top, c"file").expect("present");
    guest
        .setattr(
            file,
            Change {
                uid: Some(999),
                ..Change::default()
            },
        )
        .expect("chown");
    guest
        .setxattr(file, c"user.note", b"text")
        .expect("own attribute");
    assert_eq!(guest.listxattr(file).expect("list"), b"user.note\0");
    assert_eq!(guest.getxattr(file, c"user.note").expect("own"), b"text");
    let hidden: &CStr = c"user.lighter.stat";
    assert_eq!(guest.getxattr(file, hidden), Err(Errno::NODATA));
    assert_eq!(
        guest.setxattr(file, hidden, b"1 0 0 104777 644"),
        Err(Errno::PERM)
    );
    assert_eq!(
        guest.ask(REMOVEXATTR, file, body().name(hidden)).map(drop),
        Err(Errno::PERM)
    );
    assert_eq!(
        guest.setxattr(file, c"security.capability", &[0; 20]),
        Err(Errno::OPNOTSUPP)
    );
    assert_eq!(
        guest.getxattr(file, c"security.capability"),
        Err(Errno::NODATA)
    );
    assert_eq!(guest.getattr(file).expect("known").uid, 999);
}
