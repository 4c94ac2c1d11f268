//! The initramfs of the outer machine: one archive with all that its tests touch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::clients::Clients;
use super::order::{self, Test};
use super::suites::Suite;
use crate::image::cpio::Archive;
use crate::image::debian;

/// Programs of this system, with the libraries they name.
const PROGRAMS: &[&str] = &[
    "/usr/bin/qemu-system-x86_64",
    "/usr/bin/prlimit",
    "/usr/bin/setpriv",
];
/// What QEMU reads at the start of a machine without graphics or network.
const FIRMWARE: &[&str] = &[
    "/usr/share/seabios/bios-256k.bin",
    "/usr/share/qemu/kvmvapic.bin",
    "/usr/share/qemu/linuxboot_dma.bin",
    "/usr/share/qemu/pvh.bin",
    "/usr/share/qemu/qboot.rom",
    "/usr/share/seabios/bios-microvm.bin",
];
const FOLDERS: &[&str] = &["dev", "etc", "proc", "root", "run", "sys", "tmp"];
/// Seconds one test may take: one that hangs ends, and one that is slow does not, as the longest takes two minutes on
/// two quiet processors and many times that where others compile.
const LIMIT: &str = "1200\n";

/// What differs from build to build.
pub struct Parts<'a> {
    /// Kernel modules, in the order in which they are loaded.
    pub modules: &'a [PathBuf],
    /// The program under test and those that drive it, with their files.
    pub clients: &'a Clients,
    /// The folder of the image it boots.
    pub image: &'a Path,
    /// Test programs.
    pub suites: &'a [Suite],
    /// The initial file system of their machines.
    pub guest: &'a Path,
    /// What is run.
    pub tests: Vec<&'a Test>,
}

enum Content {
    File(PathBuf),
    Text(String),
}

/// Files by their path without the leading slash, with their mode.
type Tree = BTreeMap<String, (u32, Content)>;

/// Writes the archive.
pub fn write(parts: &Parts<'_>, to: &Path) -> Result<()> {
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
    put(
        order::LIBRARY_PLACE,
        0o644,
        Content::Text(order::LIBRARY.into()),
    );
    put("etc/group", 0o644, Content::Text("root:x:0:\n".into()));
    put("bin/busybox", 0o755, Content::File("/bin/busybox".into()));
    for (place, file) in parts.clients.programs.iter().chain(&parts.clients.files) {
        put(place, 0o755, Content::File(file.clone()));
    }
    for path in PROGRAMS.iter().chain(FIRMWARE) {
        put(path, 0o755, Content::File(path.into()));
    }
    let programs = PROGRAMS.iter().map(PathBuf::from);
    let suites = parts.suites.iter().map(|suite| suite.file.clone());
    for library in libraries(
        programs
            .chain(parts.clients.programs.iter().map(|(_, file)| file.clone()))
            .chain(suites),
    )? {
        put(&library, 0o755, Content::File(library.clone().into()));
    }
    let mut order = String::new();
    for module in parts.modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        order.push_str(&format!("{name}\n"));
        put(
            &format!("modules/{name}"),
            0o644,
            Content::File(module.clone()),
        );
    }
    put("modules/order", 0o644, Content::Text(order));
    for file in fs::read_dir(parts.image).context("the image's folder")? {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Under QEMU the packed forms and the other loader's kernel are not read.
        if name != "bzImage" && !name.ends_with("initramfs.cpio.zst") {
            put(&format!("image/{name}"), 0o644, Content::File(path.clone()));
        }
    }
    put(
        "suites/guest.cpio",
        0o644,
        Content::File(parts.guest.to_owned()),
    );
    for suite in parts.suites {
        put(&suite.place(), 0o755, Content::File(suite.file.clone()));
    }
    let mut lines = String::new();
    for test in &parts.tests {
        lines.push_str(&format!("{} {}\n", test.name, test.command));
        if let Some(text) = test.script {
            put(&test.command, 0o755, Content::Text(text.into()));
        }
    }
    put("order", 0o644, Content::Text(lines));
    archive(&tree, to)
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
