//! The template of the data disk: an empty ext4 of the size most people keep, in our own sparse format.
//!
//! `host/platform/src/disk_template.rs` describes the format and makes disks of it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use lighter_platform::disk_template::{Header, MAX_EXTENT};
use rustix::fs::{SeekFrom, seek};

use super::cache::{Cache, Key, remove_all};
use super::spec::{DataDisk, Package};
use super::{compress, debian, manifest};
use crate::{cmd, packages};

/// Raised when the way of building changes in a way that changes the result.
const RECIPE: u32 = 2;
/// The template's name in its part.
pub const TEMPLATE: &str = "data-disk.sparse";
const BLOCK: usize = 4096;
/// Fixed, so that the same inputs give the same bytes; two disks never meet in one machine.
const UUID: &str = "6c696768-7465-7200-6461-746100000001";
const HASH_SEED: &str = "6c696768-7465-7200-6461-746100000002";
/// 2026-01-01, in place of the time of building.
const TIME: &str = "1767225600";
/// Blocks that only the engine may use (64 MiB), so that its database can be written when containers filled the disk.
const RESERVED_BLOCKS: &str = "16384";
/// The owner of the reserve: nobody. The default, root, is what most containers run as;
/// the engine gets at it with CAP_SYS_RESOURCE, which containers lack by default.
const RESERVE_OWNER: &str = "65533";

/// The folder with [`TEMPLATE`], built if these settings were never built before.
pub fn part(cache: &Cache, spec: &DataDisk) -> Result<PathBuf> {
    let key = Key::new("disk", RECIPE)
        .with(serde_json::to_vec(spec)?)
        .finish();
    cache.part("disk", &key, |to| {
        packages::ensure(&[packages::package("e2fsprogs")])?;
        let image = cache.build("data-disk.img");
        remove_all(&image)?;
        make_file_system(spec, &image)?;
        pack(&File::open(&image)?, &to.join(TEMPLATE))?;
        remove_all(&image)?;
        manifest::write_used(to, &e2fsprogs()?)
    })
}

fn make_file_system(spec: &DataDisk, image: &Path) -> Result<()> {
    // Everything is said on the command line: the host's own mke2fs.conf must not add to it.
    let config = image.with_extension("conf");
    fs::write(&config, "[fs_types]\n\text4 = {\n\t}\n")?;
    File::create(image)?.set_len(spec.size_gib << 30)?;
    let growable_blocks = (spec.growable_gib << 30) / BLOCK as u64;
    let extended = format!(
        "resize={growable_blocks},lazy_itable_init=1,lazy_journal_init=1,nodiscard,quotatype=prjquota,root_owner=0:0,hash_seed={HASH_SEED}"
    );
    let mut mkfs = tool("mkfs.ext4");
    mkfs.env("MKE2FS_CONFIG", &config);
    mkfs.args([
        "-q", "-F", "-b", "4096", "-I", "256", "-i", "16384", "-m", "0", "-L", "lighter", "-U",
        UUID,
    ])
    .args(["-J", &format!("size={}", spec.journal_mib)])
    .args([
        "-O",
        &format!(
            "none,has_journal,ext_attr,filetype,{}",
            spec.features.join(",")
        ),
    ])
    .args(["-E", &extended])
    .arg(image);
    cmd::run(&mut mkfs)?;
    cmd::run(
        tool("tune2fs")
            .args(["-r", RESERVED_BLOCKS, "-u", RESERVE_OWNER])
            .arg(image)
            .stdout(std::process::Stdio::null()),
    )?;
    cmd::run(
        tool("e2fsck")
            .args(["-f", "-n"])
            .arg(image)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null()),
    )
    .context("the new file system does not pass e2fsck")
}

/// A tool of e2fsprogs that does not follow the host's clock.
fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("E2FSPROGS_FAKE_TIME", TIME);
    command.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    command
}

fn e2fsprogs() -> Result<Package> {
    let version = debian::run_quiet("dpkg-query", &["-W", "-f", "${Version}", "e2fsprogs"])?;
    Ok(Package {
        package: "e2fsprogs".into(),
        version,
        deb_sha256: String::new(),
    })
}

/// Writes the template of `disk`.
pub fn pack(disk: &File, to: &Path) -> Result<()> {
    let mut body = Vec::new();
    let mut data_bytes = 0;
    for extent in extents(disk)? {
        let mut bytes = vec![0; extent.length as usize];
        disk.read_exact_at(&mut bytes, extent.offset)?;
        body.write_all(&extent.offset.to_le_bytes())?;
        body.write_all(&extent.length.to_le_bytes())?;
        body.write_all(&bytes)?;
        data_bytes += u64::from(extent.length);
    }
    body.write_all(&[0; 12])?;
    let header = Header {
        disk_size: disk.metadata()?.len(),
        data_bytes,
    };
    let mut out = header.encode().to_vec();
    out.extend(compress(&body)?);
    fs::write(to, out).with_context(|| format!("cannot write {}", to.display()))
}

/// A run of blocks that are not all zero.
struct Extent {
    offset: u64,
    length: u32,
}

fn extents(disk: &File) -> Result<Vec<Extent>> {
    let size = disk.metadata()?.len();
    let mut found: Vec<Extent> = Vec::new();
    let mut block = [0; BLOCK];
    let mut offset = 0;
    while let Some(data) = next_data(disk, offset, size)? {
        offset = data - data % BLOCK as u64;
        disk.read_exact_at(&mut block, offset)?;
        if block.iter().any(|byte| *byte != 0) {
            let joins = found
                .last_mut()
                .filter(|e| e.offset + u64::from(e.length) == offset && e.length < MAX_EXTENT);
            match joins {
                Some(last) => last.length += BLOCK as u32,
                None => found.push(Extent {
                    offset,
                    length: BLOCK as u32,
                }),
            }
        }
        offset += BLOCK as u64;
    }
    Ok(found)
}

fn next_data(disk: &File, offset: u64, size: u64) -> io::Result<Option<u64>> {
    if offset >= size {
        return Ok(None);
    }
    match seek(disk, SeekFrom::Data(offset)) {
        Err(rustix::io::Errno::NXIO) => Ok(None),
        other => Ok(Some(other?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_disk_expands_to_itself() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disk = tempfile::tempfile().expect("a disk");
        disk.set_len(3 << 30).expect("a size");
        for (offset, byte) in [(0, 1), (4096, 2), (1 << 20, 0), ((3 << 30) - 4096, 9)] {
            disk.write_all_at(&[byte; 4096], offset).expect("written");
        }
        disk.write_all_at(&vec![7; 3 << 20], 1 << 30)
            .expect("more than one extent's worth");
        let template = folder.path().join("t");
        pack(&disk, &template).expect("packs");
        let copy = tempfile::tempfile().expect("a disk");
        let header =
            lighter_platform::disk_template::expand(File::open(&template).expect("open"), &copy)
                .expect("expands");
        assert_eq!(
            header,
            Header {
                disk_size: 3 << 30,
                data_bytes: 3 * 4096 + (3 << 20)
            }
        );
        let (mut a, mut b) = (vec![0; 4 << 20], vec![0; 4 << 20]);
        for offset in [0, 1 << 30, (3 << 30) - (4 << 20)] {
            disk.read_exact_at(&mut a, offset).expect("read");
            copy.read_exact_at(&mut b, offset).expect("read");
            assert!(a == b, "differs after {offset}");
        }
    }
}
