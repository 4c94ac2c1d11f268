//! Owners, modes and types: what the guest sets, what the host gets.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::mount::{MountFlags, mount};

use super::guest::*;
use super::mount::{Mount, USER, missing};

const RW: i32 = libc::O_RDWR;

fn shared() -> (tempfile::TempDir, Guest, u64) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let guest = Guest::new();
    let top = guest.share("rw", dir.path(), false);
    (dir, guest, top)
}

fn host_mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).expect("present").mode() & 0o7777
}

#[test]
fn what_a_guest_user_makes_is_the_host_users_and_shown_as_the_guests() {
    let (dir, mut guest, top) = shared();
    guest.who = (999, 998);
    let (file, _, attr) = guest.create(top, c"f", RW, 0o640).expect("made");
    assert_eq!(
        (attr.uid, attr.gid, attr.mode),
        (999, 998, libc::S_IFREG | 0o640)
    );
    let (below, attr) = guest.mkdir(top, c"d", 0o1777).expect("made");
    assert_eq!(
        (attr.uid, attr.gid, attr.mode),
        (999, 998, libc::S_IFDIR | 0o1777)
    );
    guest.mkdir(below, c"e", 0o700).expect("made");
    let (_, attr) = guest.symlink(top, c"l", c"f").expect("made");
    assert_eq!((attr.uid, attr.gid), (999, 998));
    for name in ["f", "d", "d/e", "l"] {
        let host = std::fs::symlink_metadata(dir.path().join(name)).expect("present");
        assert_eq!(
            (host.uid(), host.gid()),
            (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw()
            )
        );
        assert_eq!(guest.walk(top, name).expect("present").1.uid, 999, "{name}");
    }
    assert_eq!(
        host_mode(&dir.path().join("d")),
        0o777,
        "no special bit reaches the host"
    );
    assert_eq!(guest.getattr(file).expect("known").gid, 998);
}

#[test]
fn modes_go_to_the_host_without_privileges_and_never_shut_its_user_out() {
    let (dir, guest, top) = shared();
    let (file, _, _) = guest.create(top, c"f", RW, 0o644).expect("made");
    let path = dir.path().join("f");
    for (wanted, host) in [
        (0o755, 0o755),
        (0o4755, 0o755),
        (0o6711, 0o711),
        (0o000, 0o600),
        (0o444, 0o644),
        (0o644, 0o644),
    ] {
        let attr = guest
            .setattr(
                file,
                Change {
                    mode: Some(wanted),
                    ..Change::default()
                },
            )
            .expect("own file");
        assert_eq!(
            (attr.mode & 0o7777, host_mode(&path)),
            (wanted, host),
            "{wanted:o}"
        );
    }
    guest
        .setattr(
            file,
            Change {
                mode: Some(0o4555),
                ..Change::default()
            },
        )
        .expect("own file");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("own file");
    assert_eq!(
        guest.getattr(file).expect("known").mode & 0o7777,
        0o600,
        "the host's later chmod counts"
    );
}

#[test]
fn setuid_goes_with_a_change_of_owner_a_truncation_and_a_foreign_write() {
    let (_dir, guest, top) = shared();
    let (file, handle, _) = guest.create(top, c"f", RW, 0o755).expect("made");
    let arm = || {
        guest
            .setattr(
                file,
                Change {
                    mode: Some(0o6755),
                    ..Change::default()
                },
            )
            .expect("own file")
    };
    let mode = || guest.getattr(file).expect("known").mode & 0o7777;
    arm();
    guest.write(file, handle, 0, b"x", (0, 0)).expect("by root");
    assert_eq!(mode(), 0o6755);
    guest
        .write(file, handle, 0, b"x", (0, 1 << 2))
        .expect("by another");
    assert_eq!(mode(), 0o755);
    arm();
    guest
        .setattr(
            file,
            Change {
                uid: Some(5),
                ..Change::default()
            },
        )
        .expect("chown");
    assert_eq!(mode(), 0o755);
    arm();
    guest
        .setattr(
            file,
            Change {
                size: Some(0),
                kill_privileges: true,
                ..Change::default()
            },
        )
        .expect("truncate");
    assert_eq!(mode(), 0o755);
}

#[test]
fn a_setgid_directory_gives_its_group() {
    let (_dir, mut guest, top) = shared();
    let (below, _) = guest.mkdir(top, c"d", 0o755).expect("made");
    guest
        .setattr(
            below,
            Change {
                gid: Some(50),
                mode: Some(0o2775),
                ..Change::default()
            },
        )
        .expect("own");
    guest.who = (999, 999);
    let (_, _, file) = guest.create(below, c"f", RW, 0o644).expect("made");
    let (_, deeper) = guest.mkdir(below, c"e", 0o755).expect("made");
    assert_eq!((file.gid, file.mode & 0o7777), (50, 0o644));
    assert_eq!((deeper.gid, deeper.mode & 0o7777), (50, 0o2755));
}

#[test]
fn fifos_and_sockets_are_marked_files_on_the_host() {
    let (dir, guest, top) = shared();
    for (name, kind) in [(c"fifo", libc::S_IFIFO), (c"socket", libc::S_IFSOCK)] {
        guest.mknod(top, name, kind | 0o620, 0).expect("made");
        let (_, attr) = guest.lookup(top, name).expect("present");
        assert_eq!(attr.mode, kind | 0o620);
        let host = std::fs::symlink_metadata(dir.path().join(name.to_str().expect("text")))
            .expect("present");
        assert!(host.is_file() && !host.file_type().is_fifo() && host.len() == 0);
        guest
            .rename((top, name), (top, c"moved"), 0)
            .expect("renamed");
        assert_eq!(
            guest.lookup(top, c"moved").expect("present").1.mode,
            kind | 0o620
        );
        guest.unlink(top, c"moved").expect("removed");
    }
}

#[test]
fn a_file_system_without_attributes_keeps_owners_beside() {
    if let Some(why) = missing() {
        super::skip(module_path!(), why);
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    // SAFETY: only this thread's mount namespace becomes its own.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }
        .expect("root may");
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
    )
    .expect("root may");
    mount("none", dir.path(), "ramfs", MountFlags::empty(), None).expect("root may");
    let mut guest = Guest::new();
    let top = guest.share("rw", dir.path(), false);
    guest.who = (999, 999);
    let (file, _, attr) = guest.create(top, c"f", RW, 0o4750).expect("made");
    assert_eq!((attr.uid, attr.mode & 0o7777), (999, 0o4750));
    assert_eq!(host_mode(&dir.path().join("f")), 0o750);
    guest
        .mknod(top, c"p", libc::S_IFIFO | 0o600, 0)
        .expect("made");
    assert_eq!(
        guest.lookup(top, c"p").expect("present").1.mode,
        libc::S_IFIFO | 0o600
    );
    guest
        .setattr(
            file,
            Change {
                uid: Some(5),
                ..Change::default()
            },
        )
        .expect("own");
    assert_eq!(guest.lookup(top, c"f").expect("present").1.uid, 5);
    guest.unlink(top, c"f").expect("removed");
    guest.who = (0, 0);
    let (_, _, again) = guest.create(top, c"f", RW, 0o644).expect("made");
    assert_eq!(
        (again.uid, again.mode & 0o7777),
        (0, 0o644),
        "nothing is inherited by name"
    );
    rustix::mount::unmount(dir.path(), rustix::mount::UnmountFlags::DETACH).expect("mounted above");
}

/// Files that the host's user made read-only, which an entry point's `chown -R` meets all the same.
#[test]
fn chown_of_a_read_only_file_of_an_ordinary_user_leaves_its_mode() {
    if let Some(why) = missing() {
        super::skip(module_path!(), why);
        return;
    }
    let mount = Mount::new(USER);
    std::fs::write(mount.host.join("f"), "object").expect("root may");
    std::os::unix::fs::chown(mount.host.join("f"), Some(USER), Some(USER)).expect("root may");
    std::fs::set_permissions(mount.host.join("f"), PermissionsExt::from_mode(0o444))
        .expect("root may");
    mount.sh("chown 999:999 f; [ \"$(stat -c '%u %g %a' f)\" = '999 999 444' ]; chown -h 5 f; ln -s f l; chown -h 7 l; [ $(stat -c %u l) = 7 ]");
    assert_eq!(host_mode(&mount.host.join("f")), 0o444);
    // What another user of the host owns cannot be taken or changed.
    std::fs::write(mount.host.join("roots"), "root's").expect("root may");
    std::fs::set_permissions(mount.host.join("roots"), PermissionsExt::from_mode(0o644))
        .expect("root may");
    mount.sh(
        "! chown 999 roots 2>/dev/null; ! sh -c 'echo x > roots' 2>/dev/null; cat roots >/dev/null",
    );
}

/// A user namespace in which 0 and what follows are 100000 and what follows outside.
fn shifted() -> (std::process::Child, std::fs::File) {
    use std::process::{Command, Stdio};
    let child = Command::new("unshare")
        .args(["--user", "cat"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("root may");
    let proc = std::path::PathBuf::from(format!("/proc/{}", child.id()));
    let namespace = proc.join("ns/user");
    let own = std::fs::read_link("/proc/self/ns/user").expect("own");
    while std::fs::read_link(&namespace).expect("alive") == own {
        std::thread::yield_now();
    }
    for map in ["uid_map", "gid_map"] {
        std::fs::write(proc.join(map), "0 100000 65536").expect("root may");
    }
    (child, std::fs::File::open(namespace).expect("alive"))
}

/// Containers with a user namespace: the kernel maps the owners, and says who makes something as it
/// says it of everybody else.
#[test]
fn a_mount_that_maps_owners_shows_and_takes_the_mapped_ones() {
    use std::os::fd::AsRawFd;

    use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
    if let Some(why) = missing() {
        super::skip(module_path!(), why);
        return;
    }
    let share = Mount::new(USER);
    share.sh("chmod 777 . && touch theirs && chown 5:6 theirs");
    let (mut holder, namespace) = shifted();
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mapped = open_tree(rustix::fs::CWD, share.guest(), flags).expect("root may");
    let attr = [
        libc::MOUNT_ATTR_IDMAP,
        0,
        0,
        u64::try_from(namespace.as_raw_fd()).expect("open"),
    ];
    // SAFETY: mount_setattr(2) reads an empty path and the 32 bytes of `struct mount_attr`.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mapped.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            attr.as_ptr(),
            size_of_val(&attr),
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    let place = tempfile::tempdir().expect("temporary directory");
    move_mount(
        &mapped,
        "",
        rustix::fs::CWD,
        place.path(),
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .expect("root may");
    let text = share.sh(&format!(
        r#"
        cd {}
        stat -c '%u %g' theirs
        ! touch of-the-machines-root 2>/dev/null
        setpriv --reuid=101000 --regid=100055 --clear-groups sh -ec '
            echo content > made; mkdir dir; ln -s made link; mkfifo pipe; mv made moved; cat moved'
        chown 100007:100008 moved
        stat -c '%u %g' moved dir link pipe
        cd {} && stat -c '%u %g' moved dir link pipe"#,
        place.path().display(),
        share.guest().display(),
    ));
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            "100005 100006",
            "content",
            "100007 100008",
            "101000 100055",
            "101000 100055",
            "101000 100055",
            "7 8",
            "1000 55",
            "1000 55",
            "1000 55"
        ]
    );
    let host = std::fs::symlink_metadata(share.host.join("dir")).expect("made on the host");
    assert_eq!((host.uid(), host.gid()), (USER, USER));
    rustix::mount::unmount(place.path(), rustix::mount::UnmountFlags::DETACH).expect("mounted");
    drop(holder.stdin.take());
    holder.wait().expect("ends");
}
