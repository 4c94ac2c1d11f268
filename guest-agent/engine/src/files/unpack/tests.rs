//! Hostile and honest archives against a tree.

use super::*;
use lighter_images::tar::{NewEntry, TarWriter};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

fn new<'a>(kind: Kind, path: &'a str, link: &'a str, size: u64) -> NewEntry<'a> {
    NewEntry {
        kind,
        path: path.as_bytes(),
        link: link.as_bytes(),
        mode: 0o640,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        mtime: 1_000_000,
        size,
        device: (0, 0),
        xattrs: &[],
    }
}

fn archive(entries: &[(Kind, &str, &str)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (kind, path, content) in entries {
        let (link, content) = match kind {
            Kind::Regular => ("", *content),
            _ => (*content, ""),
        };
        let entry = new(*kind, path, link, content.len() as u64);
        writer.entry(&entry, &mut content.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

fn put(dir: &Path, bytes: &[u8], options: Options) -> Result<(), String> {
    let base: OwnedFd = File::open(dir).unwrap().into();
    unpack(base.as_fd(), "/tmp", bytes, options).map_err(|error| error.to_string())
}

const FILE: Kind = Kind::Regular;
const DIR: Kind = Kind::Directory;

#[test]
fn an_archive_becomes_files() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = archive(&[
        (DIR, "./a/", ""),
        (FILE, "a/b", "hello"),
        (FILE, "new/deep/er", "x"),
        (Kind::HardLink, "again", "a/b"),
        (Kind::Symlink, "out", "/etc/passwd"),
        (Kind::Fifo, "pipe", ""),
    ]);
    put(dir.path(), &bytes, Options::default()).unwrap();
    let at = |name: &str| dir.path().join(name);
    assert_eq!(std::fs::read_to_string(at("again")).unwrap(), "hello");
    let file = std::fs::metadata(at("a/b")).unwrap();
    assert_eq!(
        (file.mode() & 0o7777, file.mtime(), file.nlink()),
        (0o640, 1_000_000, 2)
    );
    assert_eq!(std::fs::metadata(at("a")).unwrap().mtime(), 1_000_000);
    assert_eq!(
        std::fs::metadata(at("new/deep")).unwrap().mode() & 0o777,
        0o755
    );
    let link = std::fs::symlink_metadata(at("out")).unwrap();
    assert_eq!((link.mtime(), link.is_symlink()), (1_000_000, true));
    // Once more over what is there.
    put(dir.path(), &bytes, Options::default()).unwrap();
}

#[test]
fn names_that_lead_out_are_refused_in_dockerds_words() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("inner");
    std::fs::create_dir(&dir).unwrap();
    symlink("..", dir.join("up")).unwrap();
    symlink(outer.path(), dir.join("absolute")).unwrap();
    let refused = |entry| put(&dir, &archive(&[entry]), Options::default()).unwrap_err();
    assert_eq!(
        refused((FILE, "../esc", "")),
        "invalid entry name \"../esc\""
    );
    assert_eq!(
        refused((FILE, "a/../../esc", "")),
        "invalid entry name \"a/../../esc\""
    );
    assert_eq!(
        refused((Kind::HardLink, "h", "../secret")),
        "invalid hardlink target \"../secret\""
    );
    let escapes = "statat up: path escapes from parent";
    assert_eq!(refused((FILE, "up/esc", "")), escapes);
    assert!(refused((Kind::HardLink, "h", "none/x")).contains("o such file"));
    assert!(!dir.join("none").exists());
    put(
        &dir,
        &archive(&[(FILE, "absolute/esc", "")]),
        Options::default(),
    )
    .unwrap();
    put(&dir, &archive(&[(FILE, "/abs", "")]), Options::default()).unwrap();
    assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 1);
    assert!(dir.join("abs").exists());
}

/// CVE-2021-41089: a link that an archive puts there, and then goes through.
#[test]
fn what_an_archive_names_through_its_own_link_stays_inside() {
    let outer = tempfile::tempdir().unwrap();
    let (dir, canary) = (outer.path().join("inner"), outer.path().join("canary"));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(&canary, "safe").unwrap();
    let before = std::fs::metadata(&canary).unwrap();
    let text = canary.display().to_string();
    let bytes = archive(&[(Kind::Symlink, "link", &text), (FILE, "link", "taken over")]);
    put(&dir, &bytes, Options::default()).unwrap();
    let bytes = archive(&[
        (Kind::Symlink, "dir", "/"),
        (FILE, "dir/f", "x"),
        (DIR, "dir", ""),
    ]);
    put(&dir, &bytes, Options::default()).unwrap();
    assert!(dir.join("f").exists() && dir.join("dir").is_dir());
    let after = std::fs::metadata(&canary).unwrap();
    assert_eq!(std::fs::read_to_string(&canary).unwrap(), "safe");
    assert_eq!(
        (before.mode(), before.mtime()),
        (after.mode(), after.mtime())
    );
}

/// CVE-2026-33056: a link, then a directory of the same name, whose mode is set on what the link leads to.
#[test]
fn cve_2026_33056_a_directory_after_a_link_sets_no_mode_outside() {
    let outer = tempfile::tempdir().unwrap();
    let (dir, canary) = (outer.path().join("inner"), outer.path().join("canary"));
    for folder in [&dir, &canary] {
        std::fs::create_dir(folder).unwrap();
    }
    std::fs::set_permissions(&canary, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let before = std::fs::metadata(&canary).unwrap();
    for target in [canary.display().to_string(), "../canary".to_owned()] {
        let bytes = archive(&[
            (Kind::Symlink, "link", &target),
            (DIR, "link", ""),
            (DIR, "link/", ""),
        ]);
        put(&dir, &bytes, Options::default()).unwrap();
        let made = std::fs::symlink_metadata(dir.join("link")).unwrap();
        assert!(made.is_dir() && made.mode() & 0o777 == 0o640);
        std::fs::remove_dir(dir.join("link")).unwrap();
        // The link was there before.
        symlink(&target, dir.join("link")).unwrap();
        put(&dir, &archive(&[(DIR, "link", "")]), Options::default()).unwrap();
        std::fs::remove_dir(dir.join("link")).unwrap();
    }
    let after = std::fs::metadata(&canary).unwrap();
    let seen =
        |meta: &std::fs::Metadata| (meta.mode(), meta.mtime(), meta.uid(), meta.ctime_nsec());
    assert_eq!(seen(&before), seen(&after));
}

#[test]
fn kinds_are_kept_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("a/full")).unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let keep = Options {
        keep_kinds: true,
        ..Options::default()
    };
    let (over, under) = (archive(&[(FILE, "a", "y")]), archive(&[(DIR, "file", "")]));
    assert_eq!(
        put(dir.path(), &over, keep).unwrap_err(),
        "cannot overwrite directory \"a\" with non-directory \"/tmp\""
    );
    assert_eq!(
        put(dir.path(), &under, keep).unwrap_err(),
        "cannot overwrite non-directory \"file\" with directory \"/tmp\""
    );
    put(dir.path(), &over, Options::default()).unwrap();
    put(dir.path(), &under, Options::default()).unwrap();
    assert!(dir.path().join("a").is_file() && dir.path().join("file").is_dir());
}

#[test]
fn zeros_become_holes_and_the_size_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let size = (4 << 20) + 5;
    let mut writer = TarWriter::new(Vec::new());
    let entry = new(FILE, "hole", "", size);
    writer.entry(&entry, &mut io::empty()).unwrap();
    put(dir.path(), &writer.finish().unwrap(), Options::default()).unwrap();
    let file = std::fs::metadata(dir.path().join("hole")).unwrap();
    assert_eq!(file.len(), size);
    assert!(file.blocks() * 512 < 1 << 20, "{}", file.blocks());
}

#[test]
fn what_is_no_archive_is_said_in_dockerds_words() {
    let dir = tempfile::tempdir().unwrap();
    let said = |bytes: &[u8]| put(dir.path(), bytes, Options::default()).unwrap_err();
    assert_eq!(said(b"hello this is no tar"), "unexpected EOF");
    assert_eq!(said(&[b'x'; 1024]), "archive/tar: invalid tar header");
    let whole = archive(&[(FILE, "f", &"x".repeat(2000))]);
    assert_eq!(said(&whole[..1024]), "unexpected EOF");
    put(dir.path(), &[], Options::default()).unwrap();
}

/// What is remembered of an archive of directories is bounded, whatever their names and number.
#[test]
fn an_archive_of_directories_is_no_way_to_memory() {
    let dir = tempfile::tempdir().unwrap();
    let base: OwnedFd = File::open(dir.path()).unwrap().into();
    let mut unpacker = Unpacker {
        base: base.as_fd(),
        shown: "/",
        options: Options::default(),
        directories: Vec::new(),
        kept: 0,
    };
    let time = Timespec {
        tv_sec: 1_000_000,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    for name in ["first", "last"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let mtime = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().mtime();
    unpacker.keep(b"first"[..].into(), times.clone());
    for _ in 0..10 * MOST_KEPT / 4000 {
        unpacker.keep("x".repeat(4000).into_bytes().into(), times.clone());
        let held: usize = unpacker
            .directories
            .iter()
            .map(|(name, _)| name.len())
            .sum();
        assert!(held <= MOST_KEPT, "{held} bytes of names");
    }
    assert_eq!(mtime("first"), 1_000_000);
    unpacker.keep(b"last"[..].into(), times);
    assert_ne!(mtime("last"), 1_000_000);
    unpacker.set_times();
    assert_eq!(mtime("last"), 1_000_000);
}
