//! The kernel: Debian's source, our patches, our fragments; an ELF image and a bzImage out of one build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::cache::{Cache, Key, files_below, sha256_file};
use super::debian::Debian;
use super::spec::{Kernel, Package};
use super::{kconfig, manifest, progress, zstd_file};
use crate::{cmd, packages};

/// Raised when the way of building changes in a way that changes the result.
const RECIPE: u32 = 1;
/// What its parts are called.
const KIND: &str = "kernel";

/// What a kernel build needs beside a C compiler.
const TOOLS: [&str; 10] = [
    "gcc",
    "make",
    "flex",
    "bison",
    "bc",
    "libelf-dev",
    "lz4",
    "xz-utils",
    "patch",
    "binutils",
];

/// Fixed, so that the same inputs give the same bytes.
const IDENTITY: [&str; 4] = [
    "KBUILD_BUILD_USER=lighter",
    "KBUILD_BUILD_HOST=lighter",
    "KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 2026",
    "KBUILD_BUILD_VERSION=1",
];

/// The folder with `vmlinux`, `vmlinux.zst`, `bzImage` and `config`, built if these inputs were never built before.
pub fn part(debian: &Debian, spec: &Kernel, vm_image: &Path) -> Result<PathBuf> {
    let recipe = vm_image.join("kernel");
    let name = |source_sha256: &str| name(source_sha256, &recipe);
    if let Some(made) = debian.cache.made(KIND, &name(&spec.source_sha256)?) {
        return Ok(made);
    }
    let source = source(debian, spec)?;
    let name_before = name(&source.sha256)?;
    debian.cache.part(KIND, &name_before, |to| {
        build(debian.cache, spec, &source, &recipe, to)?;
        ensure!(
            name(&source.sha256)? == name_before,
            "{} changed while the kernel was being built: run it again",
            recipe.display()
        );
        Ok(())
    })
}

/// The hash of everything the kernel is made of. By the source that is really used: one that had to be taken instead
/// of the pinned one must not be found under the pinned one's name later.
fn name(source_sha256: &str, recipe: &Path) -> Result<String> {
    Ok(Key::new(KIND, RECIPE)
        .with(source_sha256)
        .with_files(&recipe.join("config"))?
        .with_files(&recipe.join("patches"))?
        .finish())
}

fn build(cache: &Cache, spec: &Kernel, source: &Source, recipe: &Path, to: &Path) -> Result<()> {
    packages::ensure(&TOOLS.map(packages::package))?;
    let tree = patched(cache, source, &recipe.join("patches"), spec)?;
    configure(&tree, &recipe.join("config"))?;
    compile(cache, spec, &tree)?;
    run_in(
        &tree,
        "strip",
        &["-o", &to.join("vmlinux").to_string_lossy(), "vmlinux"],
    )?;
    zstd_file(&to.join("vmlinux"), &to.join("vmlinux.zst"))?;
    for (from, name) in [
        ("arch/x86/boot/bzImage", "bzImage"),
        (".config", "config"),
        ("include/config/kernel.release", "release"),
    ] {
        fs::copy(tree.join(from), to.join(name)).with_context(|| format!("cannot keep {name}"))?;
    }
    manifest::write_used(to, &source.package)
}

/// In a tree whose patches are being changed.
const PATCHING: &str = ".lighter-patching";

/// The kernel's source as it is really used.
struct Source {
    /// The archive.
    tar: PathBuf,
    sha256: String,
    /// The package it comes from.
    package: Package,
}

/// The source's archive: the installed package's where it is the pinned one, else out of the fetched package.
fn source(debian: &Debian, spec: &Kernel) -> Result<Source> {
    let installed = Path::new("/").join(&spec.source);
    if installed.is_file() && sha256_file(&installed)? == spec.source_sha256 {
        return Ok(Source {
            tar: installed,
            sha256: spec.source_sha256.clone(),
            package: spec.package(),
        });
    }
    let (folder, package) = debian.unpacked(&spec.package())?;
    let tar = folder.join(&spec.source);
    let sha256 = sha256_file(&tar)?;
    ensure!(
        package.version != spec.version || sha256 == spec.source_sha256,
        "{} in the package is not the pinned one",
        spec.source
    );
    Ok(Source {
        tar,
        sha256,
        package,
    })
}

/// The unpacked source with our patches. A tree that is in no known state is thrown away once and unpacked anew.
fn patched(cache: &Cache, source: &Source, patches: &Path, spec: &Kernel) -> Result<PathBuf> {
    let tree = cache.build(&format!("linux-{}", &source.sha256[..16]));
    if tree.join(PATCHING).exists() {
        // A build was ended in the middle. Applied again, a patch may well fit a second time.
        super::cache::remove_all(&tree)?;
    }
    let kept = tree.is_dir();
    unpack(cache, &source.tar, &tree)?;
    let mut done = patch(&tree, patches);
    if kept && done.is_err() {
        super::cache::remove_all(&tree)?;
        unpack(cache, &source.tar, &tree)?;
        done = patch(&tree, patches);
    }
    done.with_context(|| {
        let Package { package, version, .. } = &source.package;
        if *version == spec.version {
            format!("our patches do not fit {package} {version}, the version that image.toml pins")
        } else {
            format!(
                "our patches do not fit {package} {version}, taken because Debian no longer has {}\n\n\
                 hint: bring vm-image/kernel/patches up to it and pin it in vm-image/image.toml, or set the \
                 pinned version's {} in place before the build",
                spec.version, spec.source
            )
        }
    })?;
    Ok(tree)
}

fn unpack(cache: &Cache, tar: &Path, tree: &Path) -> Result<()> {
    if tree.is_dir() {
        return Ok(());
    }
    eprintln!("image: unpacking {}", tar.display());
    let fresh = cache.build("linux-fresh");
    super::cache::remove_all(&fresh)?;
    fs::create_dir_all(&fresh)?;
    cmd::run(
        Command::new("tar")
            .arg("-xf")
            .arg(tar)
            .arg("-C")
            .arg(&fresh)
            .arg("--strip-components=1"),
    )?;
    fs::rename(&fresh, tree).context("cannot name the kernel tree")
}

/// Brings the tree's patches to what the folder holds, leaving files alone whose patches did not change.
fn patch(tree: &Path, patches: &Path) -> Result<()> {
    let applied = tree.join(".lighter-patches");
    fs::create_dir_all(&applied)?;
    let (had, wanted) = (files_below(&applied)?, files_below(patches)?);
    let content = |paths: &[PathBuf]| paths.iter().map(fs::read).collect::<Result<Vec<_>, _>>();
    if content(&had)? == content(&wanted)? {
        return Ok(());
    }
    fs::write(tree.join(PATCHING), "")?;
    for old in had.iter().rev() {
        apply(tree, old, &["-R"])?;
        fs::remove_file(old)?;
    }
    for new in &wanted {
        let new = new.canonicalize()?;
        apply(tree, &new, &[])?;
        fs::copy(&new, applied.join(new.file_name().unwrap_or_default()))?;
    }
    Ok(fs::remove_file(tree.join(PATCHING))?)
}

/// Applies a patch wholly or not at all; `patch` itself would leave the tree half changed, and ask questions.
fn apply(tree: &Path, patch: &Path, more: &[&str]) -> Result<()> {
    for last in [&["--dry-run"][..], &[]] {
        let output = Command::new("patch")
            .args([
                "--silent",
                "--force",
                "-p1",
                "-r",
                "-",
                "--no-backup-if-mismatch",
                "-i",
            ])
            .arg(patch)
            .args(more)
            .args(last)
            .current_dir(tree)
            .output()
            .context("cannot run patch")?;
        ensure!(
            output.status.success(),
            "{} does not apply:\n{}",
            patch.display(),
            String::from_utf8_lossy(&output.stdout).trim()
        );
    }
    Ok(())
}

/// Lays the fragments over tinyconfig's own, everything unnamed off, and checks that each line came true.
fn configure(tree: &Path, folder: &Path) -> Result<()> {
    let fragments = kconfig::fragments(folder)?;
    let wishes = kconfig::wishes(&fragments)?;
    let ours = |line: &str| {
        let symbol = line
            .strip_prefix("CONFIG_")
            .and_then(|rest| rest.split('=').next());
        symbol.is_some_and(|symbol| wishes.iter().any(|wish| wish.symbol == symbol))
    };
    let mut all = String::new();
    for tiny in [
        "kernel/configs/tiny-base.config",
        "kernel/configs/tiny.config",
        "arch/x86/configs/tiny.config",
    ] {
        // Two members of one choice must not both be asked for.
        let chosen = |line: &str| {
            ["KERNEL_XZ", "CC_OPTIMIZE_FOR_SIZE"]
                .iter()
                .any(|c| line.contains(c))
        };
        let text =
            fs::read_to_string(tree.join(tiny)).with_context(|| format!("cannot read {tiny}"))?;
        all.extend(
            text.lines()
                .filter(|line| !ours(line) && !chosen(line))
                .flat_map(|line| [line, "\n"]),
        );
    }
    for fragment in &fragments {
        all.push_str(&fs::read_to_string(fragment)?);
    }
    let joined = tree.join(".lighter.config");
    fs::write(&joined, all)?;
    run_in(
        tree,
        "make",
        &[
            "-s",
            &format!("KCONFIG_ALLCONFIG={}", joined.display()),
            "allnoconfig",
        ],
    )?;
    kconfig::check(&wishes, &fs::read_to_string(tree.join(".config"))?)
}

fn compile(cache: &Cache, spec: &Kernel, tree: &Path) -> Result<()> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut make = Command::new("nice");
    make.args(["make", &format!("-j{jobs}")])
        .args(IDENTITY)
        .args(["vmlinux", "bzImage"])
        .current_dir(tree);
    let log = cache.build("kernel.log");
    progress::run(
        "image: building the kernel",
        &mut make,
        spec.build_steps,
        &log,
        progress::is_step_of_kbuild,
    )?;
    Ok(())
}

fn run_in(folder: &Path, program: &str, args: &[&str]) -> Result<()> {
    cmd::run(Command::new(program).args(args).current_dir(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADD: &str = "--- a/f\n+++ b/f\n@@ -1,2 +1,3 @@\n one\n+more\n two\n";
    /// Changes `g`, which is there, and then a line of `f` that is not.
    const HALF: &str =
        "--- a/g\n+++ b/g\n@@ -1 +1 @@\n-g\n+G\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-absent\n+present\n";

    struct Scene {
        folder: tempfile::TempDir,
        cache: Cache,
        source: Source,
    }

    /// A kernel of two files, as an archive.
    fn scene(version: &str) -> Scene {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::at(folder.path().join("cache")).expect("a cache");
        let inside = folder.path().join("linux-source");
        fs::create_dir_all(&inside).expect("a folder");
        fs::create_dir_all(folder.path().join("patches")).expect("a folder");
        fs::write(inside.join("f"), "one\ntwo\n").expect("written");
        fs::write(inside.join("g"), "g\n").expect("written");
        let tar = folder.path().join("s.tar");
        run_in(folder.path(), "tar", &["-cf", "s.tar", "linux-source"]).expect("packed");
        let source = Source {
            sha256: sha256_file(&tar).expect("hashed"),
            tar,
            package: Package {
                package: "linux-source-6.12".into(),
                version: version.into(),
                deb_sha256: String::new(),
            },
        };
        Scene {
            folder,
            cache,
            source,
        }
    }

    impl Scene {
        fn set(&self, patches: &[(&str, &str)]) {
            let folder = self.folder.path().join("patches");
            fs::remove_dir_all(&folder).expect("removed");
            fs::create_dir_all(&folder).expect("made");
            for (name, text) in patches {
                fs::write(folder.join(name), text).expect("written");
            }
        }

        fn patched(&self) -> Result<String> {
            let spec = Kernel {
                package: "linux-source-6.12".into(),
                version: "6.12.1".into(),
                deb_sha256: String::new(),
                source: "usr/src/linux.tar".into(),
                source_sha256: String::new(),
                build_steps: 1,
            };
            let patches = self.folder.path().join("patches");
            let tree = patched(&self.cache, &self.source, &patches, &spec)?;
            Ok(fs::read_to_string(tree.join("f"))? + &fs::read_to_string(tree.join("g"))?)
        }
    }

    #[test]
    fn patches_come_and_go_with_their_files() {
        let scene = scene("6.12.1");
        scene.set(&[("1.patch", ADD)]);
        assert_eq!(scene.patched().expect("applied"), "one\nmore\ntwo\ng\n");
        scene.set(&[]);
        assert_eq!(scene.patched().expect("reversed"), "one\ntwo\ng\n");
    }

    #[test]
    fn a_patch_that_does_not_fit_the_newest_version_says_what_to_do_and_changes_nothing() {
        let scene = scene("6.12.9");
        scene.set(&[("1.patch", HALF)]);
        let words = format!("{:#}", scene.patched().expect_err("does not fit"));
        for part in [
            "6.12.9",
            "no longer has 6.12.1",
            "hint:",
            "1.patch does not apply",
            "FAILED",
        ] {
            assert!(words.contains(part), "no {part:?} in {words}");
        }
        scene.set(&[]);
        assert_eq!(scene.patched().expect("untouched"), "one\ntwo\ng\n");
    }

    #[test]
    fn a_tree_that_a_killed_build_left_half_patched_is_made_anew() {
        let scene = scene("6.12.1");
        scene.set(&[]);
        scene.patched().expect("unpacked");
        let tree = scene
            .cache
            .build(&format!("linux-{}", &scene.source.sha256[..16]));
        // Applied, but killed before that was noted.
        fs::write(tree.join(PATCHING), "").expect("written");
        fs::write(tree.join("f"), "one\nmore\ntwo\n").expect("written");
        scene.set(&[("1.patch", ADD)]);
        assert_eq!(scene.patched().expect("applied"), "one\nmore\ntwo\ng\n");
    }

    #[test]
    fn another_source_has_another_name() {
        let recipe = tempfile::tempdir().expect("a folder");
        for folder in ["config", "patches"] {
            fs::create_dir_all(recipe.path().join(folder)).expect("made");
        }
        let name = |sha: &str| name(sha, recipe.path()).expect("named");
        assert_ne!(name("pinned"), name("newest"));
    }
}
