//! The images that tests run people's programs from, each of Debian packages in one layer.
//!
//! Called by `cargo xtask test`. Made of packages as they are, without their installation scripts, and kept in the
//! cache: the tests need programs that people really run, and there is no registry to ask. [`DEBIAN`] is for the tests
//! of folders and names, [`APPS`] for the applications of `tests/apps`, and
//! [`NOTES`] for the one of them that is run where every megabyte counts.

use std::fs::{self, File};
use std::io::BufReader;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::{cmd, image_archive, packages};

mod apps;
mod debian;
mod kept;
mod notes;
mod python;

pub use apps::APPS;
pub use debian::DEBIAN;
pub use notes::NOTES;

/// Packs to a third, also where the packer is built without optimisation, in a minute.
const ZSTD_LEVEL: i32 = 6;

/// One image.
pub struct Recipe {
    /// Raised when the way of building changes in a way that changes the result.
    number: u32,
    /// Its folder in the cache.
    folder: &'static str,
    /// The archive in there; packed if its name ends in `.zst`.
    archive: &'static str,
    /// The name it is loaded under.
    tag: &'static str,
    /// What is asked for; apt adds what these need.
    packages: &'static [&'static str],
    /// How the names of packages start that are needed by name and never by what the tests run.
    left_out: &'static [&'static str],
    /// The same within the packages: an image that is loaded into test machines is to be small.
    pruned: &'static [&'static str],
    /// All that stays, with the libraries that these programs name; with nothing here, all that is not pruned.
    kept: &'static [&'static str],
    /// The Python whose modules are compiled.
    python: Option<&'static str>,
    /// Links that installation scripts would have made, and what they lead to.
    links: &'static [(&'static str, &'static str)],
    /// Files that those would have made.
    files: &'static [(&'static str, &'static str)],
    /// Where its containers look for programs.
    path: &'static str,
    /// Programs without which it is not what it is for.
    programs: &'static [&'static str],
}

/// The archive for `docker load`, built if it was not yet.
///
/// # Errors
///
/// When apt or dpkg-deb fails; a half-made archive is never returned.
pub fn archive(cache: &Path, of: &Recipe) -> Result<PathBuf> {
    let folder = cache.join(of.folder);
    let archive = folder.join(of.archive);
    let stamp = folder.join("recipe");
    let recipe = format!("{} {}", of.number, of.packages.join(" "));
    if archive.is_file() && fs::read_to_string(&stamp).is_ok_and(|have| have == recipe) {
        return Ok(archive);
    }
    eprintln!("building {} from Debian packages (once)", of.tag);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    for name in ["lists/partial", "archives/partial", "root"] {
        fs::create_dir_all(folder.join(name))?;
    }
    download(&folder, of)?;
    let root = folder.join("root");
    unpack(&folder.join("archives"), &root, of)?;
    complete(&root, of)?;
    let config = json!({
        "Cmd": ["bash"],
        "Env": [format!("PATH={}", of.path)],
    });
    write(&root, of.tag, &config, &archive)?;
    for name in ["lists", "archives", "root"] {
        fs::remove_dir_all(folder.join(name))?;
    }
    fs::write(stamp, recipe)?;
    Ok(archive)
}

/// The root's archive, which appears whole or not at all.
fn write(root: &Path, tag: &str, config: &serde_json::Value, archive: &Path) -> Result<()> {
    if archive.extension().is_none_or(|kind| kind != "zst") {
        return image_archive::write(root, tag, config, archive);
    }
    let plain = archive.with_extension("");
    image_archive::write(root, tag, config, &plain)?;
    let half = archive.with_extension("new");
    let from = BufReader::new(File::open(&plain)?);
    zstd::stream::copy_encode(from, File::create(&half)?, ZSTD_LEVEL).context("cannot compress")?;
    fs::rename(&half, archive)?;
    Ok(fs::remove_file(&plain)?)
}

/// All packages with what they need, as on a system that has none.
fn download(folder: &Path, of: &Recipe) -> Result<()> {
    let nothing = folder.join("status");
    File::create(&nothing)?;
    let mut apt = packages::apt();
    for (key, value) in [
        ("Dir::State::status", nothing.display().to_string()),
        ("Dir::Cache", folder.display().to_string()),
        ("APT::Install-Recommends", "false".to_owned()),
        ("APT::Sandbox::User", "root".to_owned()),
    ] {
        apt.arg("-o").arg(format!("{key}={value}"));
    }
    apt.args(["-y", "install", "--download-only"])
        .args(of.packages)
        .stdout(std::process::Stdio::null());
    cmd::run(&mut apt)
}

fn unpack(debs: &Path, root: &Path, of: &Recipe) -> Result<()> {
    for deb in fs::read_dir(debs)? {
        let deb = deb?.path();
        let name = deb.file_name().unwrap_or_default().to_string_lossy();
        if !name.ends_with(".deb") || of.left_out.iter().any(|left| name.starts_with(left)) {
            continue;
        }
        cmd::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(root))?;
    }
    Ok(())
}

fn complete(root: &Path, of: &Recipe) -> Result<()> {
    for pruned in of.pruned {
        let path = root.join(pruned);
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else if path.exists() {
            fs::remove_file(path)?;
        }
    }
    if !of.kept.is_empty() {
        kept::keep(root, of.kept)?;
    }
    if let Some(program) = of.python {
        python::compile(root, program)?;
    }
    for folder in ["dev", "etc", "proc", "root", "sys", "tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    for (name, target) in of.links {
        symlink(target, root.join(name)).with_context(|| (*name).to_owned())?;
    }
    for (name, text) in of.files {
        fs::write(root.join(name), text).with_context(|| (*name).to_owned())?;
    }
    for program in of.programs {
        ensure!(
            root.join(program).is_file(),
            "Debian's packages have no `{program}`"
        );
    }
    Ok(())
}
