//! A guest that obeys nothing, on shares it may only read.

use std::fs::File;
use std::path::Path;

use rustix::io::Errno;

use super::guest::*;
use super::scene::{picture, tree};
use crate::control::ShareId;
use crate::sys::control_server::Observer;
use crate::sys::fs::places::Places;

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
    every_opcode_leaves_it_as_it_was(dir.path(), &guest, top);
}

/// The same where the writable share is of the folder above, and the read-only entry lies in it.
#[test]
fn cve_2026_46695_every_opcode_leaves_a_read_only_place_in_a_writable_share_as_it_was() {
    let dir = tree();
    let guest = Guest::new();
    let above = guest.share("rw", dir.path(), false);
    let read_only = &guest.rules.read_only;
    read_only
        .add(File::open(dir.path()).expect("open"), "share")
        .expect("one component");
    let top = guest.lookup(above, c"share").expect("present").0;
    every_opcode_leaves_it_as_it_was(dir.path(), &guest, top);
}

#[test]
fn a_read_only_place_is_neither_moved_nor_replaced_nor_a_source_of_links() {
    let dir = tree();
    let guest = Guest::new();
    let above = guest.share("rw", dir.path(), false);
    let read_only = &guest.rules.read_only;
    for name in ["share", "later"] {
        read_only
            .add(File::open(dir.path()).expect("open"), name)
            .expect("one component");
    }
    let share = guest.lookup(above, c"share").expect("present").0;
    let file = guest.lookup(share, c"file").expect("present").0;
    let unchanged = picture(&dir.path().join("share"));
    let refused = Err(Errno::ROFS);
    assert_eq!(guest.rename((above, c"share"), (above, c"x"), 0), refused);
    // 2 is RENAME_EXCHANGE.
    assert_eq!(
        guest.rename((above, c"outside"), (above, c"share"), 2),
        refused
    );
    assert_eq!(guest.rename((share, c"file"), (above, c"x"), 0), refused);
    assert_eq!(guest.rmdir(above, c"share"), refused);
    assert_eq!(guest.link(file, above, c"x").map(drop), refused);
    assert_eq!(guest.mkdir(above, c"later", 0o755).map(drop), refused);
    assert_eq!(picture(&dir.path().join("share")), unchanged);
    // Under another name it is the same place, and what the host takes out of it is free again.
    std::fs::rename(dir.path().join("share"), dir.path().join("renamed")).expect("the host may");
    let before = picture(&dir.path().join("renamed"));
    let renamed = guest.lookup(above, c"renamed").expect("present").0;
    assert_eq!(guest.mkdir(renamed, c"x", 0o755).map(drop), refused);
    assert_eq!(guest.rename((above, c"renamed"), (above, c"x"), 0), refused);
    assert_eq!(picture(&dir.path().join("renamed")), before);
    std::fs::rename(dir.path().join("renamed/file"), dir.path().join("free"))
        .expect("the host may");
    let free = guest.lookup(above, c"free").expect("present").0;
    guest.open(free, libc::O_RDWR).expect("writable here");
    guest
        .mkdir(above, c"y", 0o755)
        .expect("the rest is writable");
}

fn every_opcode_leaves_it_as_it_was(dir: &Path, guest: &Guest, top: u64) {
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
    let before = picture(dir);
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
    assert_eq!(picture(dir), before);
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
fn a_place_that_becomes_read_only_is_so_below_a_directory_that_is_held_open() {
    let dir = tree();
    std::fs::create_dir_all(dir.path().join("inner/sub")).expect("made");
    let guest = Guest::new();
    let above = guest.share("rw", dir.path(), false);
    let inner = guest.lookup(above, c"inner").expect("present").0;
    let sub = guest.lookup(inner, c"sub").expect("present").0;
    let (file, handle, _) = guest
        .create(sub, c"file", libc::O_RDWR, 0o644)
        .expect("writable");
    let protect = |names: &[&str]| {
        let places = Places::default();
        for name in names {
            let directory = File::open(dir.path()).expect("open");
            places.add(directory, name).expect("one component");
        }
        assert!(guest.rules.read_only.become_as(places));
        guest.fs.rights_changed();
    };
    protect(&["inner"]);
    // A process whose working directory is there looks nothing above it up.
    let refused = Err(Errno::ROFS);
    assert_eq!(guest.mkdir(sub, c"late", 0o755).map(drop), refused);
    assert_eq!(guest.mkdir(inner, c"late", 0o755).map(drop), refused);
    assert_eq!(guest.open(file, libc::O_RDWR).map(drop), refused);
    assert_eq!(guest.unlink(sub, c"file"), refused);
    assert_eq!(guest.write(file, handle, 0, b"x", (0, 0)), Ok(1));
    guest.mkdir(above, c"beside", 0o755).expect("writable");
    // What lies below a directory that the guest forgot is of no known place until it is looked up.
    protect(&[]);
    guest.mkdir(sub, c"later", 0o755).expect("writable again");
    guest.forget(inner, 1);
    protect(&["share"]);
    assert_eq!(guest.mkdir(sub, c"last", 0o755).map(drop), refused);
    let inner = guest.lookup(above, c"inner").expect("present").0;
    let sub = guest.lookup(inner, c"sub").expect("present").0;
    guest
        .mkdir(sub, c"last", 0o755)
        .expect("its place is known");
    // One that the host makes after it was named is one from the first lookup on.
    protect(&["new"]);
    std::fs::create_dir(dir.path().join("new")).expect("made");
    let new = guest.lookup(above, c"new").expect("present").0;
    assert_eq!(guest.mkdir(new, c"x", 0o755).map(drop), refused);
}

#[test]
fn a_share_that_is_restricted_refuses_changes_until_it_is_no_longer() {
    let dir = tree();
    let guest = Guest::new();
    let top = guest.share("rw", &dir.path().join("share"), false);
    let sub = guest.lookup(top, c"sub").expect("present").0;
    let file = guest.share("file", &dir.path().join("share/file"), false);
    let restrict = |restricted| {
        for name in ["rw", "file"] {
            let id = ShareId::new(name).expect("id");
            guest.shares.restrict(&id, restricted).expect("present");
        }
        guest.fs.rights_changed();
    };
    restrict(true);
    let refused = Err(Errno::ROFS);
    assert_eq!(guest.mkdir(top, c"late", 0o755).map(drop), refused);
    assert_eq!(guest.mkdir(sub, c"late", 0o755).map(drop), refused);
    assert_eq!(guest.open(file, libc::O_RDWR).map(drop), refused);
    let (status, _) = guest.shares.status(None, usize::MAX);
    assert!(
        status
            .iter()
            .all(|share| share.restricted && !share.read_only)
    );
    restrict(false);
    guest.mkdir(sub, c"late", 0o755).expect("writable again");
    guest.open(file, libc::O_RDWR).expect("writable again");
}
