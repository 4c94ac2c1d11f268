//! A mirror that moved on, that is away, that lies: played by a script in apt-get's place.

use std::os::unix::fs::PermissionsExt;

use super::*;

const ABSENT: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A cache and a script that plays apt-get. Its packages are real ones, made by dpkg-deb.
struct Scene {
    folder: tempfile::TempDir,
    cache: Cache,
}

impl Scene {
    /// `script` is what apt-get does: `$verb` is `update` or `download`, `$what` the package, `$deb VERSION`
    /// leaves the package box of that version in the present folder.
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::at(folder.path().join("cache")).expect("a cache");
        let apt = folder.path().join("apt-get");
        let text = format!(
            "#!/bin/sh\nverb=; what=\nwhile [ $# -gt 0 ]; do case $1 in -o) shift;; -*) ;; update|download) verb=$1;; *) what=$1;; esac; shift; done\n\
             echo \"$verb $what\" >> {calls}\n\
             deb() {{ mkdir -p p/DEBIAN p/bin; printf 'Package: box\\nVersion: %s\\nArchitecture: all\\nMaintainer: m <m@x>\\nDescription: d\\n' \"$1\" > p/DEBIAN/control; \
             echo \"$1\" > p/bin/box; dpkg-deb -b p box_all.deb >/dev/null; rm -r p; }}\n\
             gone() {{ echo \"E: Version '1' for 'box' was not found\" >&2; exit 100; }}\n{script}\n",
            calls = folder.path().join("calls").display()
        );
        fs::write(&apt, text).expect("written");
        fs::set_permissions(&apt, PermissionsExt::from_mode(0o755)).expect("executable");
        Self { folder, cache }
    }

    fn debian(&self) -> Debian<'_> {
        Debian::by(&self.cache, &self.folder.path().join("apt-get"))
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

fn pin(version: &str) -> Package {
    Package {
        package: "box".into(),
        version: version.into(),
        deb_sha256: ABSENT.into(),
    }
}

const MOVED_ON: &str = "case $verb-$what in update-*) ;; download-box) deb 2;; *) gone;; esac";

#[test]
fn a_version_that_debian_no_longer_has_gives_way_to_the_newest() {
    let scene = Scene::new(MOVED_ON);
    let (folder, used) = scene.debian().unpacked(&pin("1")).expect("the newest");
    assert_eq!(
        fs::read_to_string(folder.join("bin/box")).expect("there"),
        "2\n"
    );
    assert_eq!((used.package.as_str(), used.version.as_str()), ("box", "2"));
    let deb = scene.debian().place(&pin("1"), &used.deb_sha256, ".deb");
    assert_eq!(used.deb_sha256, sha256_file(&deb).expect("the file kept"));
    assert_eq!(
        scene.calls(),
        [
            "download box=1",
            "update ",
            "download box=1",
            "download box"
        ]
    );
}

#[test]
fn what_was_taken_instead_stays_without_asking_again() {
    let scene = Scene::new(MOVED_ON);
    let first = scene.debian().unpacked(&pin("1")).expect("the newest");
    let asked = scene.calls().len();
    let second = scene.debian().unpacked(&pin("1")).expect("the same");
    assert_eq!(
        (first.0, first.1.deb_sha256),
        (second.0, second.1.deb_sha256)
    );
    assert_eq!(scene.calls().len(), asked, "the mirror was asked again");
}

#[test]
fn another_pin_does_not_get_what_was_taken_instead() {
    let scene = Scene::new(MOVED_ON);
    scene.debian().unpacked(&pin("1")).expect("the newest");
    let other = Package {
        deb_sha256: ABSENT.replace('0', "1"),
        ..pin("1")
    };
    let asked = scene.calls().len();
    scene.debian().unpacked(&other).expect("the newest");
    assert!(scene.calls().len() > asked);
}

#[test]
fn lists_of_yesterday_do_not_make_a_version_gone() {
    // The first download knows nothing; after an update of lists of our own it is there.
    let scene = Scene::new(
        "case $verb-$what in update-*) touch \"$0.updated\";; download-box=3) [ -e \"$0.updated\" ] || gone; deb 3;; *) gone;; esac",
    );
    let refused = scene
        .debian()
        .unpacked(&pin("3"))
        .expect_err("another hash");
    // It was the pinned version that came, and its hash is looked at.
    assert!(refused.to_string().contains("image.toml pins"), "{refused}");
    assert_eq!(
        scene.calls(),
        ["download box=3", "update ", "download box=3"]
    );
}

#[test]
fn a_network_that_is_away_is_not_a_version_that_is_gone() {
    let scene = Scene::new(
        "case $verb-$what in update-*) ;; download-box) deb 2;; *) echo 'E: Failed to fetch: Could not connect' >&2; exit 100;; esac",
    );
    let refused = scene.debian().unpacked(&pin("1")).expect_err("no network");
    let words = refused.to_string();
    assert!(
        words.contains("Could not connect") && words.contains("hint"),
        "{words}"
    );

    let offline = Scene::new("echo 'E: Failed to fetch lists' >&2; exit 100");
    let words = offline
        .debian()
        .unpacked(&pin("1"))
        .expect_err("offline")
        .to_string();
    assert!(
        words.contains("Failed to fetch lists") && words.contains("hint"),
        "{words}"
    );
}

#[test]
fn a_package_of_another_name_or_content_is_refused() {
    let scene = Scene::new("case $verb in update) ;; *) deb 1;; esac");
    let words = scene
        .debian()
        .unpacked(&pin("1"))
        .expect_err("a lie")
        .to_string();
    assert!(words.contains("image.toml pins"), "{words}");
    let other = Package {
        package: "sack".into(),
        ..pin("1")
    };
    let words = scene
        .debian()
        .unpacked(&other)
        .expect_err("a lie")
        .to_string();
    assert!(words.contains("gave box for sack=1"), "{words}");
}
