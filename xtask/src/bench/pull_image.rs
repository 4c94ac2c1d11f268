//! An image of 500 MB, of five layers or another number, that looks like a real one: busybox, many small files and some large, half
//! of it text and half like programs, which gzip halves and more. The same bytes on every machine, but for busybox.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use tar::{Builder, EntryType, Header};

use crate::image::sha256_file;

/// Layers of the usual one.
pub const LAYERS: u64 = 5;
/// What it is called in its archive.
pub const TAG: &str = "bench:1";
const BYTES: u64 = 500_000_000;
const PROGRAM: &str = "/bin/busybox";

/// Writes an image of so many layers as `docker save` would.
///
/// # Errors
///
/// When a file cannot be read or written.
pub fn write(archive: &Path, layers: u64) -> Result<()> {
    let bytes = usize::try_from(BYTES / layers.max(1))?;
    let mut names = Vec::new();
    let folder = archive.parent().context("a folder")?;
    let mut out = Builder::new(BufWriter::new(File::create(archive)?));
    for number in 0..layers {
        let path = folder.join(format!("layer{number}"));
        layer(number, bytes, &path)?;
        let digest = sha256_file(&path)?;
        let mut file = File::open(&path)?;
        let name = format!("{digest}/layer.tar");
        let length = file.metadata()?.len();
        append(&mut out, &name, 0o644, length, &mut file)?;
        std::fs::remove_file(&path)?;
        names.push((name, format!("sha256:{digest}")));
    }
    let (layers, diff_ids): (Vec<_>, Vec<_>) = names.into_iter().unzip();
    let config = serde_json::to_vec(&json!({
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
        "config": { "Cmd": ["sh"], "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    }))?;
    let manifest = serde_json::to_vec(&json!([{
        "Config": "config.json", "RepoTags": [TAG], "Layers": layers,
    }]))?;
    for (name, bytes) in [("config.json", config), ("manifest.json", manifest)] {
        append(&mut out, name, 0o644, bytes.len() as u64, &mut &bytes[..])?;
    }
    out.into_inner()?.flush()?;
    Ok(())
}

fn append(
    out: &mut Builder<impl Write>,
    name: &str,
    mode: u32,
    length: u64,
    content: &mut impl Read,
) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(mode);
    header.set_size(length);
    out.append_data(&mut header, name, content)
        .with_context(|| name.to_owned())
}

fn layer(number: u64, bytes: usize, path: &Path) -> Result<()> {
    let mut out = Builder::new(BufWriter::new(File::create(path)?));
    let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ (number + 1));
    let mut written = 0;
    if number == 0 {
        let program = std::fs::read(PROGRAM).context(PROGRAM)?;
        for name in ["bin/sh", "bin/sleep", "bin/true"] {
            append(
                &mut out,
                name,
                0o755,
                program.len() as u64,
                &mut &program[..],
            )?;
            written += program.len();
        }
    }
    let words = words(&mut random);
    for file in 0.. {
        if written >= bytes {
            break;
        }
        let length = random.length().min(bytes - written).max(1);
        let bytes = if random.below(2) == 0 {
            text(&mut random, &words, length)
        } else {
            program(&mut random, length)
        };
        let name = format!("usr/share/l{number}/d{}/f{file}", file / 50);
        append(&mut out, &name, 0o644, length as u64, &mut &bytes[..])?;
        written += length;
    }
    out.into_inner()?.flush()?;
    Ok(())
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from((self.next() >> 33) % limit as u64).unwrap_or(0)
    }

    /// Of a file: most are a few KiB, one in fifty some MiB.
    fn length(&mut self) -> usize {
        let class = self.below(50);
        match class {
            0 => 1_000_000 + self.below(4_000_000),
            1..10 => 20_000 + self.below(180_000),
            _ => 200 + self.below(12_000),
        }
    }
}

fn words(random: &mut Random) -> Vec<Vec<u8>> {
    let mut word = || {
        let length = 2 + random.below(9);
        (0..length)
            .map(|_| b'a' + u8::try_from(random.below(26)).unwrap_or(0))
            .collect()
    };
    (0..4096).map(|_| word()).collect()
}

/// Words, the first of the list more often than the last, in lines.
fn text(random: &mut Random, words: &[Vec<u8>], length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(length + 16);
    while out.len() < length {
        let rank = random.below(words.len()).min(random.below(words.len()));
        out.extend_from_slice(&words[rank]);
        out.push(if random.below(12) == 0 { b'\n' } else { b' ' });
    }
    out.truncate(length);
    out
}

/// Like machine code: few shapes of instruction, each with operands of its own.
fn program(random: &mut Random, length: usize) -> Vec<u8> {
    let shapes: Vec<[u8; 8]> = (0..512).map(|_| random.next().to_le_bytes()).collect();
    let mut out = Vec::with_capacity(length + 16);
    while out.len() < length {
        out.extend_from_slice(&shapes[random.below(shapes.len())][..4 + random.below(4)]);
        let operand = random.next().to_le_bytes();
        out.extend_from_slice(&operand[..1 + random.below(3)]);
    }
    out.truncate(length);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_the_same_every_time_and_compresses_like_a_real_image() {
        let make = || {
            let mut random = Random(7);
            let words = words(&mut random);
            let mut all = text(&mut random, &words, 1 << 20);
            all.extend(program(&mut random, 1 << 20));
            all
        };
        let all = make();
        assert_eq!(all, make());
        let packed = zstd::bulk::compress(&all, 3).expect("packed");
        let part = packed.len() * 100 / all.len();
        assert!((30..70).contains(&part), "{part} % are left");
    }
}
