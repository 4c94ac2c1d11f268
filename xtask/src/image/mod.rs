//! `cargo xtask image`: builds everything the virtual machine is made of from pinned inputs.
//!
//! ```text
//! image.toml ─► kernel  ─► vmlinux, vmlinux.zst, bzImage ─┐
//! guest crates ─► guest ─┬► initramfs.cpio.zst ───────────┼─► <cache>/image/<hash>/ ◄─ current
//! busybox ────► hello  ──┘                                │      + manifest.json
//! mke2fs ─────► disk   ────► data-disk.sparse ────────────┘
//! ```
//!
//! Each part is named by the hash of what it depends on and built once; a call with nothing changed only hashes.
//! Called by: developers, `cargo xtask try`, CI. Must never write into the source tree.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use cache::{Cache, Key};
pub use cache::{InUse, sha256_file};
use debian::Debian;
use spec::Spec;

use crate::paths;

pub mod cache;
mod check;
mod check_config;
pub mod cpio;
pub mod debian;
mod disk;
mod guest;
mod hello;
mod initramfs;
mod kconfig;
mod kernel;
mod manifest;
pub mod progress;
pub mod spec;

/// Raised when images are put together in another way.
const RECIPE: u32 = 2;
/// How many images and parts of each kind are kept beside the one in use.
const KEEP: usize = 4;
/// Strong, because an image is packed once and shipped many times.
const ZSTD_LEVEL: i32 = 19;

/// Build the kernel, the initial root, the data disk's template and the built-in container image.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Boot the result and check that the kernel has everything the guest relies on.
    #[arg(long)]
    pub check: bool,
}

/// Builds the image, makes it the current one and prints where it is.
pub fn run(args: &Args) -> Result<()> {
    println!("{}", make(args)?.path.display());
    Ok(())
}

/// Builds the image and makes it the current one. The folder returned never changes, whereas the
/// current one is what whoever shares the cache built last.
pub fn make(args: &Args) -> Result<InUse> {
    let vm_image = paths::root().join("vm-image");
    let spec = Spec::read(&vm_image)?;
    let cache = Cache::open()?;
    let (image, config) = build(&cache, &spec, &vm_image)?;
    if args.check {
        check_config::run(&Debian::new(&cache), &spec.check_config, &config, &vm_image)?;
        check::run(&image.path)?;
    }
    Ok(image)
}

/// The folder of the guest's programs, of these sources; or `as_built`, those that were built last.
pub fn guest_programs(as_built: bool) -> Result<PathBuf> {
    let cache = Cache::open()?;
    if as_built {
        return cache.newest("guest").context("nothing was built yet");
    }
    guest::part(&cache, &paths::root())
}

/// The image that was built last.
pub fn current() -> Result<InUse> {
    let current = Cache::open()?.current();
    let path = fs::canonicalize(&current)
        .with_context(|| format!("{} is no image: nothing was built yet", current.display()))?;
    InUse::new(path)
}

/// Builds what is not in the cache yet. Returns the image's folder and the kernel's configuration.
fn build(cache: &Cache, spec: &Spec, vm_image: &Path) -> Result<(InUse, PathBuf)> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "images are built on x86-64 only so far"
    );
    let debian = Debian::new(cache);
    let parts = Parts {
        kernel: kernel::part(&debian, &spec.kernel, vm_image)?,
        hello: hello::part(&debian, &spec.busybox, vm_image)?,
        disk: disk::part(cache, &spec.data_disk)?,
        guest: guest::part(cache, &paths::root())?,
    };
    let hash = parts.hash();
    cache.once(&cache.image(&hash), |to| parts.assemble(spec, to))?;
    let image = InUse::new(cache.image(&hash))?;
    cache.set_current(&hash)?;
    cache.forget_old(KEEP)?;
    Ok((image, parts.kernel.join("config")))
}

/// The folders that an image is assembled from.
struct Parts {
    kernel: PathBuf,
    hello: PathBuf,
    disk: PathBuf,
    guest: PathBuf,
}

impl Parts {
    fn hash(&self) -> String {
        [&self.kernel, &self.hello, &self.disk, &self.guest]
            .iter()
            .fold(Key::new("image", RECIPE), |key, part| {
                key.with(part.file_name().unwrap_or_default().as_encoded_bytes())
            })
            .finish()
    }

    fn assemble(&self, spec: &Spec, to: &Path) -> Result<()> {
        let from = [
            (&self.kernel, "vmlinux.zst"),
            (&self.kernel, "vmlinux"),
            (&self.kernel, "bzImage"),
            (&self.disk, disk::TEMPLATE),
        ];
        for (part, name) in from {
            // Parts never change after they are made, so an image may share their files.
            fs::hard_link(part.join(name), to.join(name))
                .with_context(|| format!("cannot place {name}"))?;
        }
        initramfs::write(&self.guest, &self.hello.join(hello::ARCHIVE), to)?;
        check_size(spec, to)?;
        let release = fs::read_to_string(self.kernel.join("release"))?;
        manifest::write(to, &[&self.kernel, &self.hello, &self.disk], release.trim())
    }
}

fn check_size(spec: &Spec, image: &Path) -> Result<()> {
    let size = |name: &str| Ok::<_, anyhow::Error>(fs::metadata(image.join(name))?.len());
    let (kernel, initramfs) = (size("vmlinux.zst")?, size("initramfs.cpio.zst")?);
    let limit = spec.limits.kernel_and_initramfs_mb * 1_000_000;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    eprintln!(
        "image: kernel {:.1} MB + initramfs {:.1} MB",
        mb(kernel),
        mb(initramfs)
    );
    ensure!(
        kernel + initramfs <= limit,
        "kernel and initramfs are {:.1} MB, the limit is {:.1} MB",
        mb(kernel + initramfs),
        mb(limit)
    );
    Ok(())
}

fn compress(bytes: &[u8]) -> Result<Vec<u8>> {
    zstd::bulk::compress(bytes, ZSTD_LEVEL).context("cannot compress")
}

fn zstd_file(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    fs::write(to, compress(&bytes)?).with_context(|| format!("cannot write {}", to.display()))
}
