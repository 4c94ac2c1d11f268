//! The guest's own programs: static, small, built by cargo in a target folder of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::cache::{CHECKOUT, Cache, Key};
use super::debian;
use crate::cmd;

/// Raised when the way of building changes in a way that changes the result.
const RECIPE: u32 = 2;
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// A program of the guest: its package and binary, and its place in the initial root.
pub struct Program {
    pub name: &'static str,
    pub path: &'static str,
}

/// All programs of the guest. Packages and binaries have the same names, except [`PACKAGES`].
pub const PROGRAMS: [Program; 3] = [
    Program {
        name: "lighter-init",
        path: "init",
    },
    Program {
        name: "lighter-agent",
        path: "usr/bin/lighter-agent",
    },
    Program {
        name: "lighter-enter",
        path: "usr/bin/lighter-enter",
    },
];

/// Binaries that live in a package of another name.
const PACKAGES: [(&str, &str); 1] = [("lighter-enter", "lighter-runtime")];

/// The folder with one file a program, built if these sources were never built before.
pub fn part(cache: &Cache, root: &Path) -> Result<PathBuf> {
    let before = name(root)?;
    cache.part("guest", &before, |to| {
        build(cache, root, to)?;
        // An editor may have saved between the hash and the compiler.
        ensure!(
            name(root)? == before,
            "the sources changed while they were being built: run it again"
        );
        Ok(())
    })
}

/// The hash of everything the programs are made of.
fn name(root: &Path) -> Result<String> {
    let workspace = Workspace::read(root)?;
    let mut key = Key::new("guest", RECIPE)
        .with(debian::run_quiet("rustc", &["-V"])?)
        .with(fs::read(root.join("Cargo.lock"))?)
        .with(fs::read(root.join("Cargo.toml"))?);
    for folder in workspace.folders_of_programs()? {
        let inside = folder.strip_prefix(root).unwrap_or(&folder);
        key = key
            .with(inside.to_string_lossy().as_bytes())
            .with(fs::read(folder.join("Cargo.toml"))?);
        for sources in ["src", "build.rs"].map(|name| folder.join(name)) {
            if sources.is_dir() {
                key = key.with_files(&sources)?;
            } else if sources.is_file() {
                key = key.with(fs::read(&sources)?);
            }
        }
    }
    Ok(key.finish())
}

fn build(cache: &Cache, root: &Path, to: &Path) -> Result<()> {
    eprintln!("image: building the guest's programs");
    // One for each checkout: cargo tells a workspace's crates by their place inside it and whether
    // they are fresh by time, so that two checkouts in one folder would take each other's programs.
    let checkout = Key::new("checkout", RECIPE)
        .with(root.as_os_str().as_encoded_bytes())
        .finish();
    let target = cache.build(&format!("guest-target-{checkout}"));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--profile", "guest", "--target", TARGET])
        .current_dir(root);
    cargo
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        // It would win over the line above.
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    fs::create_dir_all(&target)?;
    fs::write(target.join(CHECKOUT), root.as_os_str().as_encoded_bytes())?;
    for program in &PROGRAMS {
        cargo.args(["--package", package_of(program), "--bin", program.name]);
    }
    cmd::run(&mut cargo)?;
    for program in &PROGRAMS {
        let built = target.join(TARGET).join("guest").join(program.name);
        fs::copy(&built, to.join(program.name))
            .with_context(|| format!("cannot keep {}", built.display()))?;
    }
    Ok(())
}

fn package_of(program: &Program) -> &'static str {
    PACKAGES
        .iter()
        .find(|(binary, _)| *binary == program.name)
        .map_or(program.name, |(_, package)| package)
}

/// The part of `cargo metadata` that says which crates a program is made of.
#[derive(Deserialize)]
struct Workspace {
    packages: Vec<PackageInfo>,
}

#[derive(Deserialize)]
struct PackageInfo {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    path: Option<PathBuf>,
    kind: Option<String>,
}

impl Workspace {
    fn read(root: &Path) -> Result<Self> {
        let manifest = root.join("Cargo.toml");
        let args = [
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
            "--manifest-path",
        ];
        let text = debian::run_quiet(
            "cargo",
            &[&args[..], &[&manifest.to_string_lossy()]].concat(),
        )?;
        serde_json::from_str(&text).context("cargo metadata is not as expected")
    }

    /// The folders of every workspace crate that a program is made of, tests' crates excepted.
    fn folders_of_programs(&self) -> Result<BTreeSet<PathBuf>> {
        let by_name: BTreeMap<&str, &PackageInfo> =
            self.packages.iter().map(|p| (p.name.as_str(), p)).collect();
        let mut todo: Vec<&str> = PROGRAMS.iter().map(package_of).collect();
        let mut seen = BTreeSet::new();
        let mut folders = BTreeSet::new();
        while let Some(name) = todo.pop() {
            if !seen.insert(name) {
                continue;
            }
            let package = by_name
                .get(name)
                .with_context(|| format!("the workspace has no crate {name}"))?;
            folders.extend(package.manifest_path.parent().map(Path::to_path_buf));
            let ours = package
                .dependencies
                .iter()
                .filter(|d| d.path.is_some() && d.kind.as_deref() != Some("dev"));
            todo.extend(ours.map(|d| d.name.as_str()));
        }
        ensure!(!folders.is_empty(), "the guest has no programs");
        Ok(folders)
    }
}
