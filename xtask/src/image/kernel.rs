//! The kernel: Debian's source, our patches, our fragments; an ELF image and a bzImage out of one build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::cache::{Cache, Key, files_below, sha256_file};
use super::spec::{Kernel, Package};
use super::{debian, kconfig, manifest, progress, zstd_file};
use crate::{cmd, packages};

/// Raised when the way of building changes in a way that changes the result.
const RECIPE: u32 = 1;

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
pub fn part(cache: &Cache, spec: &Kernel, vm_image: &Path) -> Result<PathBuf> {
    let key = Key::new("kernel", RECIPE)
        .with(&spec.source_sha256)
        .with_files(&vm_image.join("kernel/config"))?
        .with_files(&vm_image.join("kernel/patches"))?
        .finish();
    cache.part("kernel", &key, |to| {
        build(cache, spec, &vm_image.join("kernel"), to)
    })
}

fn build(cache: &Cache, spec: &Kernel, recipe: &Path, to: &Path) -> Result<()> {
    packages::ensure(&TOOLS.map(packages::package))?;
    let (tar, sha256, used) = source(cache, spec)?;
    let tree = cache.build(&format!("linux-{}", &sha256[..16]));
    unpack(cache, &tar, &tree)?;
    patch(&tree, &recipe.join("patches"))?;
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
    manifest::write_used(to, &used)
}

/// The source's archive: the installed package's where it is the pinned one, else out of the fetched package.
fn source(cache: &Cache, spec: &Kernel) -> Result<(PathBuf, String, Package)> {
    let installed = Path::new("/").join(&spec.source);
    if installed.is_file() && sha256_file(&installed)? == spec.source_sha256 {
        return Ok((installed, spec.source_sha256.clone(), spec.package()));
    }
    let (folder, used) = debian::unpacked(cache, &spec.package())?;
    let tar = folder.join(&spec.source);
    let sha256 = sha256_file(&tar)?;
    if used.version == spec.version {
        ensure!(
            sha256 == spec.source_sha256,
            "{} in the package is not the pinned one",
            spec.source
        );
    }
    Ok((tar, sha256, used))
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
    for old in had.iter().rev() {
        cmd::run(
            Command::new("patch")
                .args(["-s", "-p1", "-R", "-i"])
                .arg(old)
                .current_dir(tree),
        )?;
        fs::remove_file(old)?;
    }
    for new in &wanted {
        let new = new.canonicalize()?;
        cmd::run(
            Command::new("patch")
                .args(["-s", "-p1", "-i"])
                .arg(&new)
                .current_dir(tree),
        )
        .with_context(|| format!("{} does not apply", new.display()))?;
        fs::copy(&new, applied.join(new.file_name().unwrap_or_default()))?;
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
    )?;
    Ok(())
}

fn run_in(folder: &Path, program: &str, args: &[&str]) -> Result<()> {
    cmd::run(Command::new(program).args(args).current_dir(folder))
}
