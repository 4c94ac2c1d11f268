//! `manifest.json`: what an image is made of and what it holds.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::cache::sha256_file;
use super::spec::Package;

/// The file in a part that names the package it was really made from.
const USED: &str = "used.json";

#[derive(Serialize)]
struct Manifest<'a> {
    version: u32,
    architecture: &'a str,
    kernel: &'a str,
    inputs: Vec<Package>,
    outputs: Vec<Output>,
}

#[derive(Serialize)]
struct Output {
    name: String,
    size: u64,
    sha256: String,
}

/// Notes in a part which package it was made from.
pub fn write_used(part: &Path, used: &Package) -> Result<()> {
    fs::write(part.join(USED), serde_json::to_vec_pretty(used)?).context("cannot note the inputs")
}

fn used(part: &Path) -> Result<Package> {
    let text =
        fs::read(part.join(USED)).with_context(|| format!("{} has no {USED}", part.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

/// Writes `manifest.json` into `image`, which holds everything else already.
pub fn write(image: &Path, parts: &[&Path], kernel_release: &str) -> Result<()> {
    let mut outputs = Vec::new();
    for path in super::cache::files_below(image)? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        outputs.push(Output {
            name,
            size: fs::metadata(&path)?.len(),
            sha256: sha256_file(&path)?,
        });
    }
    let inputs = parts.iter().map(|part| used(part)).collect::<Result<_>>()?;
    let manifest = Manifest {
        version: 1,
        architecture: "x86_64",
        kernel: kernel_release,
        inputs,
        outputs,
    };
    let mut text = serde_json::to_vec_pretty(&manifest)?;
    text.push(b'\n');
    fs::write(image.join("manifest.json"), text).context("cannot write the manifest")
}
