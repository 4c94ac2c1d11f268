//! A guest that obeys nothing, looking for a way out of its shares.

use std::ffi::CString;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use rustix::io::Errno;

use super::guest::*;
use super::scene::{picture, tree};
use crate::control::ShareId;
use crate::sys::fs::Limits;
use crate::sys::fs::nodes::NodeLimits;
use crate::sys::fs::shares::ShareError;

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
        super::skip("cve_2020_35517", "making device nodes needs root");
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
    for round in 0..super::count(4000, 50_000) {
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
fn hidden_names_are_not_seen_reached_made_or_moved() {
    let dir = tree();
    let at = dir.path().join("share");
    std::fs::create_dir(at.join(".ssh")).expect("made");
    std::fs::write(at.join(".ssh/id"), "key").expect("made");
    let guest = Guest::new();
    for name in [".ssh", ".gnupg"] {
        guest
            .rules
            .hidden
            .add(File::open(&at).expect("open"), name)
            .expect("one component");
    }
    guest
        .rules
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
    assert_eq!(
        guest.rename((top, c"share"), (top, c"renamed"), 0),
        Err(Errno::BUSY)
    );
    std::fs::rename(&at, dir.path().join("renamed")).expect("the host may");
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

/// Else a place would be reached, or changed, by a path that the daemon has no rule for.
#[test]
fn folders_above_a_place_are_neither_moved_nor_replaced_nor_removed() {
    let dir = tree();
    let at = |path: &str| dir.path().join(path);
    for path in [".config/lighter", "w/x/ro", "w/empty", "free"] {
        std::fs::create_dir_all(at(path)).expect("made");
    }
    let guest = Guest::new();
    let open = |path| File::open(at(path)).expect("open");
    let rules = &guest.rules;
    rules.hidden.add(open(".config"), "lighter").expect("place");
    rules.read_only.add(open("w/x"), "ro").expect("place");
    // One that is not there yet.
    rules.read_only.add(open("w/empty"), "ro").expect("place");
    let top = guest.share("rw", dir.path(), false);
    let w = guest.lookup(top, c"w").expect("present").0;
    let busy = Err(Errno::BUSY);
    for (parent, name) in [(top, c".config"), (top, c"w"), (w, c"x"), (w, c"empty")] {
        assert_eq!(
            guest.rename((parent, name), (top, c"y"), 0),
            busy,
            "{name:?}"
        );
        assert_eq!(
            guest.rename((top, c"free"), (parent, name), 0),
            busy,
            "{name:?}"
        );
        // 2 is RENAME_EXCHANGE.
        for (from, to) in [
            ((parent, name), (top, c"free")),
            ((top, c"free"), (parent, name)),
        ] {
            assert_eq!(guest.rename(from, to, 2), busy, "{name:?}");
        }
        assert_eq!(guest.rmdir(parent, name), busy, "{name:?}");
        let again = guest.mkdir(parent, name, 0o755).map(drop);
        assert_eq!(again, Err(Errno::EXIST), "{name:?}");
    }
    // A share that begins below the top has the same rule.
    let inner = guest.share("w", &at("w"), false);
    assert_eq!(guest.rename((inner, c"x"), (inner, c"y"), 0), busy);
    // What lies beside a place is free.
    let config = guest.lookup(top, c".config").expect("present").0;
    guest.mkdir(config, c"other", 0o755).expect("free");
    guest
        .rename((config, c"other"), (w, c"other"), 0)
        .expect("free");
    guest.rmdir(w, c"other").expect("free");
    guest.rename((top, c"free"), (w, c"free"), 0).expect("free");
}

#[test]
fn no_share_begins_in_a_hidden_place() {
    let dir = tree();
    let at = |path: &str| dir.path().join(path);
    for path in [".config/lighter/deep/er", "w/ro/sub"] {
        std::fs::create_dir_all(at(path)).expect("made");
    }
    std::fs::write(at(".key"), "key").expect("made");
    let guest = Guest::new();
    let open = |path: &str| File::open(at(path)).expect("open");
    let hidden = &guest.rules.hidden;
    hidden.add(open(".config"), "lighter").expect("place");
    hidden.add(open("."), ".later").expect("place");
    hidden.add(open("."), ".key").expect("place");
    guest.rules.read_only.add(open("w"), "ro").expect("place");
    let id = || ShareId::new("s").expect("id");
    let share = |path: &str| {
        let added = guest
            .shares
            .add(id(), open(path).into(), false, path.into());
        added.inspect(|()| drop(guest.shares.remove(&id())))
    };
    std::fs::create_dir_all(at(".later/sub")).expect("made");
    let inside = [
        ".config/lighter",
        ".config/lighter/deep/er",
        ".later",
        ".later/sub",
        ".key",
    ];
    for path in inside {
        let refused = share(path);
        assert!(
            matches!(refused, Err(ShareError::Hidden(_))),
            "{path}: {refused:?}"
        );
        let named = guest
            .shares
            .add_named(id(), open(path).into(), false, path.into());
        named.expect("the user named it");
        guest.shares.remove(&id()).expect("present");
    }
    // The user's own hands may have moved it.
    std::fs::rename(at(".config"), at(".cfg")).expect("the host may");
    let refused = share(".cfg/lighter/deep");
    assert!(matches!(refused, Err(ShareError::Hidden(_))), "{refused:?}");
    // Above it, beside it, and where only writing has a rule.
    for path in [".", ".cfg", "share", "share/file", "w/ro", "w/ro/sub"] {
        share(path).expect(path);
    }
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
