//! A guest that obeys nothing: what it can use up, and what its rubbish does.

use std::ffi::CStr;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;

use super::count;
use super::guest::*;
use super::scene::{picture, tree};
use crate::control::ShareId;
use crate::sys::fs::Limits;
use crate::sys::fs::nodes::NodeLimits;
use crate::sys::fs::sys;

const SYNCFS: u64 = 50;

/// CVE-2020-10717, by sheer number: opens that are never closed, among some that are.
#[test]
fn cve_2020_10717_a_million_opens_keep_the_hosts_descriptors_bounded() {
    let dir = tree();
    let at = dir.path().join("share");
    for number in 0..1000 {
        std::fs::write(at.join(format!("f{number}")), "x").expect("made");
    }
    let guest = Guest::new();
    let top = guest.share("rw", &at, false);
    let descriptors = || std::fs::read_dir("/proc/self/fd").expect("proc").count();
    let before = descriptors();
    let (mut opened, mut refused) = (0, 0);
    for number in 0..count(20_000, 1_000_000) {
        let name = std::ffi::CString::new(format!("f{}", number % 1000)).expect("no NUL");
        let (node, _) = guest.lookup(top, &name).expect("present");
        match guest.open(node, libc::O_RDWR) {
            Ok(handle) if number % 3 == 0 => guest.release(node, handle).expect("open"),
            Ok(_) => opened += 1,
            Err(error) => {
                assert_eq!(error, Errno::NFILE);
                refused += 1;
            }
        }
        if number % 1000 == 0 {
            let mut status = crate::control::Status::default();
            crate::sys::control_server::Observer::observe(&*guest.fs, &mut status);
            assert!(
                status.open_handles <= 64 && status.cached_descriptors <= 64,
                "{status:?}"
            );
        }
    }
    assert!(
        opened <= 64 && refused > 10_000,
        "{opened} opened, {refused} refused"
    );
    // The slack is for the tests beside this one.
    let after = descriptors();
    assert!(
        after < before + 128 + 2000,
        "{before} descriptors before, {after} after"
    );
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
    for _ in 0..count(60_000, 1_000_000) {
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
