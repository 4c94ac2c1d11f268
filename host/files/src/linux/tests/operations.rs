//! One operation at a time, and what it leaves on the host.

use std::ffi::CString;

use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::guest::*;
use super::mount::{Mount, USER, missing};
use crate::sys::fs::Limits;
use crate::sys::fs::nodes::NodeLimits;

const RW: i32 = libc::O_RDWR;

fn shared() -> (tempfile::TempDir, Guest, u64) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let guest = Guest::new();
    let top = guest.share("rw", dir.path(), false);
    (dir, guest, top)
}

#[test]
fn a_file_without_a_name_lives_as_long_as_it_is_open() {
    let (dir, guest, top) = shared();
    let (file, handle, _) = guest.create(top, c"f", RW, 0o644).expect("made");
    guest
        .write(file, handle, 0, b"content", (0, 0))
        .expect("open");
    guest.unlink(top, c"f").expect("removed");
    guest.fs.forget_descriptors();
    let attr = guest.getattr(file).expect("still open");
    assert_eq!((attr.nlink, attr.size), (0, 7));
    guest
        .setattr(
            file,
            Change {
                size: Some(3),
                mode: Some(0o600),
                uid: Some(7),
                ..Change::default()
            },
        )
        .expect("open");
    assert_eq!(guest.read(file, handle, 0, 10), Ok(b"con".to_vec()));
    guest.release(file, handle).expect("open");
    assert_eq!(guest.getattr(file), Err(Errno::STALE));

    let request = body()
        .u32(RW.cast_unsigned())
        .u32(0o644)
        .u32(0)
        .u32(0)
        .name(c"#tmp");
    let reply = guest.ask(TMPFILE, top, request).expect("unnamed file");
    let (file, handle) = (u64_at(&reply, 0), u64_at(&reply, 128));
    guest
        .write(file, handle, 0, b"later named", (0, 0))
        .expect("open");
    assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0);
    let (linked, attr) = guest
        .link(file, top, c"named")
        .expect("linkat of an O_TMPFILE file");
    assert_eq!((linked, attr.nlink), (file, 1));
    assert_eq!(
        std::fs::read(dir.path().join("named")).expect("named"),
        b"later named"
    );
}

#[test]
fn hard_links_are_one_inode_and_renames_keep_it() {
    let dir = tempfile::tempdir().expect("temporary directory");
    // One descriptor: every node but the last is walked to by its place.
    let limits = Limits {
        handles: 8,
        nodes: NodeLimits {
            nodes: 100,
            descriptors: 1,
        },
    };
    let guest = Guest::with_limits(limits);
    let top = guest.share("rw", dir.path(), false);
    let (file, handle, _) = guest.create(top, c"a", RW, 0o644).expect("made");
    guest.release(file, handle).expect("open");
    let (linked, attr) = guest.link(file, top, c"b").expect("linked");
    assert_eq!((linked, attr.nlink), (file, 2));
    let (below, _) = guest.mkdir(top, c"d", 0o755).expect("made");
    let (deeper, _) = guest.mkdir(below, c"e", 0o755).expect("made");
    let (inner, inner_handle, _) = guest.create(deeper, c"i", RW, 0o644).expect("made");
    guest.release(inner, inner_handle).expect("open");
    guest
        .rename((top, c"d"), (top, c"moved"), 0)
        .expect("renamed");
    guest.mkdir(top, c"other", 0o755).expect("made");
    assert_eq!(
        guest
            .getattr(inner)
            .expect("walked to through the new name")
            .nlink,
        1
    );
    guest
        .rename((top, c"a"), (deeper, c"i"), RenameFlags::EXCHANGE.bits())
        .expect("exchanged");
    assert_eq!(guest.getattr(inner).expect("at its new place").nlink, 1);
    assert_eq!(guest.getattr(file).expect("at its new place").nlink, 2);
    assert_eq!(
        guest.rename((top, c"a"), (top, c"b"), RenameFlags::NOREPLACE.bits()),
        Err(Errno::EXIST)
    );
    assert_eq!(
        guest.rename((top, c"a"), (top, c"z"), RenameFlags::WHITEOUT.bits()),
        Err(Errno::INVAL)
    );
    // A rename by the host is unknown until the guest looks up again.
    std::fs::rename(dir.path().join("moved"), dir.path().join("again")).expect("host's");
    guest.lookup(top, c"other").expect("present");
    assert_eq!(guest.getattr(file), Err(Errno::STALE));
    assert_eq!(guest.walk(top, "b").expect("its other name").0, file);
    assert_eq!(
        guest
            .getattr(file)
            .expect("at the place just looked up")
            .nlink,
        2
    );
}

#[test]
fn appended_bytes_go_behind_what_the_host_wrote_meanwhile() {
    let (dir, guest, top) = shared();
    let (file, handle, _) = guest
        .create(top, c"log", libc::O_WRONLY | libc::O_APPEND, 0o644)
        .expect("made");
    guest
        .write(file, handle, 0, b"guest ", (libc::O_APPEND, 0))
        .expect("open");
    std::fs::write(dir.path().join("log"), "longer line of the host ").expect("own");
    guest
        .write(file, handle, 6, b"guest", (libc::O_APPEND, 0))
        .expect("open");
    assert_eq!(
        std::fs::read(dir.path().join("log")).expect("own"),
        b"longer line of the host guest"
    );
    // A page written back from a mapping has a place, whatever the flags of the handle it came by.
    guest
        .write(file, handle, 0, b"LONGER", (libc::O_APPEND, 1))
        .expect("open");
    assert_eq!(
        std::fs::read(dir.path().join("log")).expect("own"),
        b"LONGER line of the host guest"
    );
}

#[test]
fn holes_allocation_and_copies_are_the_hosts() {
    let (dir, guest, top) = shared();
    let (file, handle, _) = guest.create(top, c"a", RW, 0o644).expect("made");
    guest
        .write(file, handle, 1 << 20, &[7; 4096], (0, 0))
        .expect("open");
    let seek = |offset: u64, whence: i32| {
        let request = body()
            .u64(handle)
            .u64(offset)
            .u32(whence.cast_unsigned())
            .u32(0);
        guest
            .ask(LSEEK, file, request)
            .map(|reply| u64_at(&reply, 0))
    };
    assert_eq!(seek(0, libc::SEEK_DATA), Ok(1 << 20));
    assert_eq!(seek(1 << 20, libc::SEEK_HOLE), Ok((1 << 20) + 4096));
    assert_eq!(seek(1 << 30, libc::SEEK_DATA), Err(Errno::NXIO));
    assert_eq!(seek(0, libc::SEEK_SET), Err(Errno::INVAL));
    let punch = (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE).cast_unsigned();
    let request = body().u64(handle).u64(1 << 20).u64(4096).u32(punch).u32(0);
    guest.ask(FALLOCATE, file, request).expect("punched");
    assert_eq!(seek(0, libc::SEEK_DATA), Err(Errno::NXIO));
    let (other, to, _) = guest.create(top, c"b", RW, 0o644).expect("made");
    guest
        .write(file, handle, 0, b"0123456789", (0, 0))
        .expect("open");
    let request = body()
        .u64(handle)
        .u64(2)
        .u64(other)
        .u64(to)
        .u64(1)
        .u64(5)
        .u64(0);
    assert_eq!(
        guest
            .ask(COPY_FILE_RANGE, file, request)
            .map(|r| u32_at(&r, 0)),
        Ok(5)
    );
    assert_eq!(
        std::fs::read(dir.path().join("b")).expect("own"),
        b"\x0023456"
    );
    for datasync in [0, 1] {
        guest
            .ask(FSYNC, file, body().u64(handle).u32(datasync).u32(0))
            .expect("synced");
    }
    assert_eq!(
        guest
            .ask(FLUSH, file, body().u64(handle).zeroes(16))
            .map(drop),
        Ok(())
    );
    assert!(guest.ask(STATFS, file, body()).expect("of the host").len() >= 80);
}

#[test]
fn a_listing_in_small_pieces_has_every_entry_once() {
    let (dir, guest, top) = shared();
    for number in 0..500 {
        std::fs::write(dir.path().join(format!("entry-{number:03}")), "").expect("made");
    }
    let handle = guest.opendir(top).expect("open");
    for size in [200, 1000, 4096, 100_000] {
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let entries = guest.readdir(top, handle, offset, size).expect("open");
            let Some(last) = entries.last() else { break };
            offset = last.2;
            names.extend(entries.into_iter().map(|(name, ..)| name));
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 502, "pieces of {size}");
    }
    // The number in the listing is the number of the inode, `find -inum` and `tar` rely on it.
    let entries = guest.readdir(top, handle, 0, 4096).expect("open");
    let (name, number, _) = entries
        .iter()
        .find(|(name, ..)| name.starts_with(b"entry"))
        .expect("one");
    let (_, attr) = guest
        .lookup(top, &CString::new(name.clone()).expect("no NUL"))
        .expect("present");
    assert_eq!(attr.ino, *number);
    let before = guest.fs.counts();
    let request = body().u64(handle).u64(0).u32(100_000).zeroes(20);
    let reply = guest.ask(READDIRPLUS, top, request).expect("open");
    let (mut at, mut known) = (0, 0);
    while at < reply.len() {
        known += usize::from(u64_at(&reply, at) != 0);
        at += 128 + (24 + u32_at(&reply, at + 128 + 16) as usize).next_multiple_of(8);
    }
    assert!(known > 400, "{known}");
    assert_eq!(
        guest.fs.counts().0,
        before.0 + known - 1,
        "each told entry is a lookup, no other is"
    );
}

#[test]
fn the_root_is_made_up_of_the_shares_and_cannot_be_changed() {
    let (dir, guest, _) = shared();
    std::fs::write(dir.path().join("one"), "a single file").expect("made");
    let single = guest.share("single", &dir.path().join("one"), false);
    assert_eq!(
        guest.getattr(single).expect("known").mode & libc::S_IFMT,
        libc::S_IFREG
    );
    let handle = guest.open(single, RW).expect("a file is shared as itself");
    assert_eq!(
        guest.read(single, handle, 0, 100),
        Ok(b"a single file".to_vec())
    );
    guest
        .write(single, handle, 0, b"A", (0, 0))
        .expect("writable");
    let root = guest.opendir(1).expect("root");
    let names: Vec<_> = guest
        .readdir(1, root, 0, 4096)
        .expect("root")
        .into_iter()
        .map(|(name, ..)| name)
        .collect();
    assert_eq!(names, [b".".as_slice(), b"..", b"rw", b"single"]);
    assert_eq!(guest.lookup(1, c"none").map(drop), Err(Errno::NOENT));
    assert_eq!(guest.mkdir(1, c"new", 0o755).map(drop), Err(Errno::ROFS));
    assert_eq!(guest.unlink(1, c"single"), Err(Errno::ROFS));
    assert_eq!(
        guest.rename((1, c"single"), (1, c"other"), 0),
        Err(Errno::ROFS)
    );
    assert_eq!(
        guest
            .setattr(
                1,
                Change {
                    mode: Some(0),
                    ..Change::default()
                }
            )
            .map(drop),
        Err(Errno::ROFS)
    );
}

#[test]
fn programs_map_lock_and_notice_through_the_mount() {
    if let Some(why) = missing() {
        super::skip(module_path!(), why);
        return;
    }
    let mount = Mount::new(USER);
    mount.sh(
        r#"
        cat > t.py <<'PY'
import os, mmap, fcntl, socket, stat, errno
f = os.open('m', os.O_RDWR | os.O_CREAT, 0o644); os.ftruncate(f, 8192)
a = mmap.mmap(f, 8192); b = mmap.mmap(f, 8192)
a[:5] = b'hello'; assert b[:5] == b'hello'; a.flush()
assert open(os.environ['HOST'] + '/m', 'rb').read(5) == b'hello'
g = os.open('m', os.O_RDWR)
fcntl.flock(f, fcntl.LOCK_EX)
try: fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB); assert False
except BlockingIOError: pass
fcntl.lockf(f, fcntl.LOCK_EX, 10, 0)
s = socket.socket(socket.AF_UNIX); s.bind('sock'); s.listen()
c = socket.socket(socket.AF_UNIX); c.connect('sock'); s.accept()
assert stat.S_ISSOCK(os.stat('sock').st_mode)
os.mkfifo('fifo'); r = os.open('fifo', os.O_RDONLY | os.O_NONBLOCK); w = os.open('fifo', os.O_WRONLY)
os.write(w, b'through'); assert os.read(r, 9) == b'through'
t = os.open('.', os.O_TMPFILE | os.O_RDWR, 0o600); os.write(t, b'x')
os.link(f'/proc/self/fd/{t}', 'named', src_dir_fd=f, follow_symlinks=True)  # link() itself follows nothing
assert os.path.getsize('named') == 1
d = os.open('direct', os.O_RDWR | os.O_CREAT | os.O_DIRECT); buf = mmap.mmap(-1, 4096); buf[:3] = b'dio'
assert os.write(d, buf) == 4096
for tool in (lambda: os.mknod('dev', stat.S_IFCHR | 0o600, os.makedev(1, 3)),):
    try: tool(); assert False
    except PermissionError: pass
os.setxattr('m', 'user.note', b'v'); assert os.listxattr('m') == ['user.note'] and os.getxattr('m', 'user.note') == b'v'
try: os.setxattr('m', 'security.capability', b'\x01\0\0\x02' + b'\0' * 16); assert False
except OSError as e: assert e.errno == errno.EOPNOTSUPP, e
for n in range(200): os.rename('named', 'named2'); os.rename('named2', 'named')
os.utime('m', (1, 2)); assert os.stat('m').st_mtime == 2
os.truncate('m', 1 << 33); assert os.path.getsize('m') == 1 << 33 and os.stat('m').st_blocks < 100
os.rename('m', 'é\n'); os.unlink('é\n')
PY
        python3 t.py
        "#,
    );
}
