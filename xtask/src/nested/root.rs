//! The initramfs of the outer machine: one archive with all that its tests touch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::image::cpio::Archive;
use crate::image::debian;

/// Programs of this system, with the libraries they name.
pub const PROGRAMS: &[&str] = &["/usr/bin/qemu-system-x86_64"];
/// What QEMU reads at the start of a machine without graphics or network.
const FIRMWARE: &[&str] = &[
    "/usr/share/seabios/bios-256k.bin",
    "/usr/share/qemu/kvmvapic.bin",
    "/usr/share/qemu/linuxboot_dma.bin",
    "/usr/share/qemu/pvh.bin",
];
const FOLDERS: &[&str] = &["dev", "etc", "proc", "root", "run", "sys", "tmp"];
const TESTS: &[(&str, &str)] = &[
    (
        "10_boots_to_ready",
        include_str!("tests/10_boots_to_ready.sh"),
    ),
    ("15_is_confined", include_str!("tests/15_is_confined.sh")),
    (
        "20_hello_container",
        include_str!("tests/20_hello_container.sh"),
    ),
    (
        "30_streams_are_exact",
        include_str!("tests/30_streams_are_exact.sh"),
    ),
    (
        "40_folder_is_shared",
        include_str!("tests/40_folder_is_shared.sh"),
    ),
    (
        "85_panic_leaves_its_words",
        include_str!("tests/85_panic_leaves_its_words.sh"),
    ),
    ("90_goes_down", include_str!("tests/90_goes_down.sh")),
];
/// Seconds one test may take: a boot in a machine that is emulated itself takes thirty, many times
/// that where others compile.
const LIMIT: &str = "400\n";

/// What differs from build to build.
pub struct Parts<'a> {
    /// Kernel modules, in the order in which they are loaded.
    pub modules: Vec<PathBuf>,
    /// The program under test.
    pub lighter: PathBuf,
    /// The folder of the image it boots.
    pub image: PathBuf,
    /// A part of the names of the tests to run. The first and the last test are its frame.
    pub only: Option<&'a str>,
}

enum Content {
    File(PathBuf),
    Text(String),
}

/// Files by their path without the leading slash, with their mode.
type Tree = BTreeMap<String, (u32, Content)>;

/// Writes the archive; returns the names of the tests in it.
pub fn write(parts: &Parts<'_>, to: &Path) -> Result<Vec<String>> {
    let mut tree = Tree::new();
    let mut put = |name: &str, mode, content| {
        tree.insert(name.trim_start_matches('/').to_owned(), (mode, content));
    };
    put("init", 0o755, Content::Text(include_str!("init.sh").into()));
    put("limit", 0o644, Content::Text(LIMIT.into()));
    put(
        "etc/passwd",
        0o644,
        Content::Text("root:x:0:0:root:/root:/bin/sh\n".into()),
    );
    put("etc/group", 0o644, Content::Text("root:x:0:\n".into()));
    put("bin/busybox", 0o755, Content::File("/bin/busybox".into()));
    put("bin/lighter", 0o755, Content::File(parts.lighter.clone()));
    for path in PROGRAMS.iter().chain(FIRMWARE) {
        put(path, 0o755, Content::File(path.into()));
    }
    let programs = PROGRAMS.iter().map(PathBuf::from);
    for library in libraries(programs.chain([parts.lighter.clone()]))? {
        put(&library, 0o755, Content::File(library.clone().into()));
    }
    let mut order = String::new();
    for module in &parts.modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        order.push_str(&format!("{name}\n"));
        put(
            &format!("modules/{name}"),
            0o644,
            Content::File(module.clone()),
        );
    }
    put("modules/order", 0o644, Content::Text(order));
    for file in fs::read_dir(&parts.image).context("the image's folder")? {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Under QEMU the packed forms and the other loader's kernel are not read.
        if name != "bzImage" && !name.ends_with("initramfs.cpio.zst") {
            put(&format!("image/{name}"), 0o644, Content::File(path.clone()));
        }
    }
    let wanted: Vec<_> = TESTS
        .iter()
        .filter(|(name, _)| {
            let frame = name.starts_with("10_") || name.starts_with("90_");
            frame || parts.only.is_none_or(|part| name.contains(part))
        })
        .collect();
    for (name, text) in &wanted {
        put(
            &format!("tests/{name}"),
            0o755,
            Content::Text((*text).into()),
        );
    }
    archive(&tree, to)?;
    Ok(wanted.iter().map(|(name, _)| (*name).to_owned()).collect())
}

/// The shared libraries of these programs, the loader included.
fn libraries(programs: impl Iterator<Item = PathBuf>) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for program in programs {
        let text = debian::run_quiet("ldd", &[&program.to_string_lossy()])?;
        ensure!(
            !text.contains("not found"),
            "{} lacks libraries: {text}",
            program.display()
        );
        let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
        found.extend(paths.map(str::to_owned));
    }
    Ok(found)
}

fn archive(tree: &Tree, to: &Path) -> Result<()> {
    let mut archive = Archive::new(BufWriter::new(File::create(to)?));
    let mut folders: BTreeSet<PathBuf> = FOLDERS.iter().map(PathBuf::from).collect();
    for name in tree.keys() {
        let above = Path::new(name).ancestors().skip(1);
        folders.extend(
            above
                .filter(|p| !p.as_os_str().is_empty())
                .map(Path::to_owned),
        );
    }
    // In the order of paths a folder comes before what lies in it.
    for folder in folders {
        archive.directory(&folder.to_string_lossy(), 0o755)?;
    }
    archive.character_device("dev/console", 0o600, (5, 1))?;
    for (name, (mode, content)) in tree {
        match content {
            Content::Text(text) => archive.file(name, *mode, text.as_bytes())?,
            Content::File(path) => {
                let bytes = fs::read(path).with_context(|| path.display().to_string())?;
                archive.file(name, *mode, &bytes)?;
            }
        }
    }
    archive.finish()?.flush()?;
    Ok(())
}
