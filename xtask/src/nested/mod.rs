//! `cargo xtask test nested`: Lighter under real KVM, on a machine that has none.
//!
//! ```text
//! this machine ── QEMU, TCG, a CPU with SVM ──► outer machine: Debian's kernel, /dev/kvm
//!   ▲                                               │ runs /tests/*: our `lighter`, QEMU with -accel kvm
//!   └────────── second serial line: outcomes ◄──────┘
//! ```
//!
//! The outer machine is one kernel and one initramfs: modules, programs with their libraries, the
//! image, and what it runs: see [`order`]. Takes minutes, so `cargo xtask test` leaves it out.

mod clients;
mod order;
mod outcome;
mod outer;
mod root;
mod suites;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::image::cache::Cache;
use crate::image::debian::{Debian, run_quiet};
use crate::image::spec::Package;
use crate::{image, paths};

const SPEC: &str = include_str!("outer.toml");
/// Most outer machines of one run. An emulated processor with an emulated processor's extension for virtual machines is
/// not what Debian's kernel was tried on: now and then it overruns a stack of its own where a machine is left. What has
/// not been run then is run in the next; a test of ours that ends each of them has failed.
const MACHINES: usize = 3;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    meta_package: String,
    modules: Vec<String>,
    kernel: Package,
}

/// Builds the outer machine, runs it and reports; `only` is a part of the tests' names.
///
/// # Errors
///
/// When something cannot be built, a test failed, or the machine ended before it had run them all.
pub fn run(only: Option<&str>) -> Result<()> {
    let place = Place::make()?;
    let suites = suites::build(&place.guest)?;
    let tests = order::of(&suites, only);
    if tests.is_empty() {
        bail!("no nested test has that in its name");
    }
    let started = Instant::now();
    let clients = clients::of(&tests)?;
    let failed = place.run(&clients, &suites, &tests)?;
    println!("nested tests took {} s", started.elapsed().as_secs());
    if failed.is_empty() {
        return Ok(());
    }
    let console = place.console()?;
    for name in &failed {
        eprintln!("---- {name}\n{}", outcome::said(&console, name));
    }
    bail!(
        "{} nested tests failed; what the outer machine said is in {}",
        failed.len(),
        place.folder.display()
    );
}

/// Measures our monitor and QEMU's beside each other so often; what the program said at each time.
///
/// A time at which a machine did not do what it was measured at is told and left out: under this outer machine's kernel
/// QEMU's board now and then says nothing after its start.
///
/// # Errors
///
/// When something cannot be built, or all times are left out.
pub fn measure(times: usize) -> Result<Vec<String>> {
    let place = Place::make()?;
    let program = suites::benchmark(&place.guest)?;
    let tests: Vec<order::Test> = (0..times).map(order::measurement).collect();
    let programs = [order::BENCHMARK, order::WAY_IN].map(|at| (at.to_owned(), program.clone()));
    let clients = clients::Clients {
        programs: programs.into(),
        files: Vec::new(),
    };
    let failed = place.run(&clients, &[], &tests)?;
    let console = place.console()?;
    for name in &failed {
        eprintln!("left out: {}", outcome::said(&console, name));
    }
    let names = tests.iter().map(|test| &test.name);
    let measured: Vec<String> = names
        .filter(|name| !failed.contains(name))
        .map(|name| outcome::said(&console, name).to_owned())
        .collect();
    ensure!(!measured.is_empty(), "nothing was measured");
    Ok(measured)
}

/// What every outer machine is made from, and where.
struct Place {
    image: PathBuf,
    modules: Vec<PathBuf>,
    vmlinuz: PathBuf,
    folder: PathBuf,
    /// The initial file system of the machines in it.
    guest: PathBuf,
}

impl Place {
    fn make() -> Result<Self> {
        let spec: Spec = toml::from_str(SPEC).context("outer.toml is not as it should be")?;
        let image = image::make(&image::Args::default())?.path.clone();
        let kernel = kernel(&spec)?;
        let folder = paths::cache().join("nested");
        fs::create_dir_all(&folder)?;
        Ok(Self {
            image,
            modules: modules(&kernel, &spec.modules)?,
            vmlinuz: only_file(&kernel.join("boot"), "vmlinuz-")?,
            guest: folder.join("guest.cpio"),
            folder,
        })
    }

    /// What the outer machine of this number said.
    fn log(&self, machine: usize) -> PathBuf {
        self.folder.join(format!("console-{machine}.log"))
    }

    fn forget_consoles(&self) {
        for machine in 1..=MACHINES {
            // Most runs have one.
            let _ = fs::remove_file(self.log(machine));
        }
    }

    /// What all of them said, the last first: of a test that ran twice its second run is the one that counts.
    fn console(&self) -> Result<String> {
        let mut all = String::new();
        for machine in (1..=MACHINES).rev().map(|machine| self.log(machine)) {
            if machine.exists() {
                all.push_str(&String::from_utf8_lossy(&fs::read(machine)?));
                all.push('\n');
            }
        }
        Ok(all)
    }

    /// Runs these; which of them failed.
    fn run(
        &self,
        clients: &clients::Clients,
        suites: &[suites::Suite],
        tests: &[order::Test],
    ) -> Result<Vec<String>> {
        let initramfs = self.folder.join("initramfs.cpio");
        let mut parts = root::Parts {
            modules: &self.modules,
            clients,
            image: &self.image,
            suites,
            guest: &self.guest,
            tests: tests.iter().collect(),
        };
        self.forget_consoles();
        let mut lines = Vec::new();
        for machine in 1..=MACHINES {
            root::write(&parts, &initramfs)?;
            lines.extend(outer::run(&self.vmlinuz, &initramfs, &self.log(machine))?);
            if lines.contains(&outcome::Line::Done) {
                break;
            }
            parts.tests = order::left(tests, &lines);
            let console = self.log(machine);
            println!(
                "the outer machine ended before it had run every test: see {}",
                console.display()
            );
        }
        let names: Vec<String> = tests.iter().map(|test| test.name.clone()).collect();
        let failed = outcome::failed(&names, &lines);
        Ok(failed.into_iter().map(str::to_owned).collect())
    }
}

/// The unpacked kernel package.
fn kernel(spec: &Spec) -> Result<PathBuf> {
    let cache = Cache::open()?;
    let debian = Debian::new(&cache);
    let unknown = match debian.unpacked(&spec.kernel) {
        Ok((folder, _)) => return Ok(folder),
        Err(error) => error,
    };
    let depends = run_quiet("apt-cache", &["depends", &spec.meta_package])?;
    let newest = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .with_context(|| format!("apt knows no {}", spec.meta_package))?;
    if newest == spec.kernel.package {
        return Err(unknown);
    }
    eprintln!("nested: taking {newest} instead of {}", spec.kernel.package);
    let package = Package {
        package: newest.to_owned(),
        // No such version and no such hash: the newest of that name is taken.
        version: "0".to_owned(),
        deb_sha256: "0".repeat(64),
    };
    Ok(debian.unpacked(&package)?.0)
}

fn modules(kernel: &Path, names: &[String]) -> Result<Vec<PathBuf>> {
    let version = only_file(&kernel.join("lib/modules"), "")?;
    let found = names.iter().map(|name| version.join("kernel").join(name));
    Ok(found.collect())
}

fn only_file(folder: &Path, prefix: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with(prefix))
        {
            return Ok(path);
        }
    }
    bail!("there is no {prefix}* in {}", folder.display())
}
