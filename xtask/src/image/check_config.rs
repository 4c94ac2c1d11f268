//! Docker's own opinion of our kernel: `contrib/check-config.sh` of Debian's docker.io, run over the `.config`.
//!
//! Nothing may be missing under "Generally Necessary"; what is missing under "Optional Features" must stand in the
//! table of `vm-image/README.md` with its reason, and nothing else may stand there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::debian::Debian;
use super::spec::Package;

const SCRIPT: &str = "usr/share/docker.io/contrib/check-config.sh";

/// Runs the script over `config`; an error names what is missing or not explained.
pub fn run(debian: &Debian, package: &Package, config: &Path, vm_image: &Path) -> Result<()> {
    let (folder, _) = debian.unpacked(package)?;
    let output = Command::new("bash")
        .arg(folder.join(SCRIPT))
        .arg(config)
        .output()
        .context("cannot run check-config.sh")?;
    let found = Findings::read(&String::from_utf8_lossy(&output.stdout))?;
    ensure!(
        found.necessary.is_empty(),
        "Docker needs what the kernel lacks: {}",
        list(&found.necessary)
    );
    let readme =
        fs::read_to_string(vm_image.join("README.md")).context("cannot read vm-image/README.md")?;
    let explained = explained(&readme);
    let unexplained: BTreeSet<_> = found.optional.difference(&explained).cloned().collect();
    ensure!(
        unexplained.is_empty(),
        "vm-image/README.md does not say why these are off: {}",
        list(&unexplained)
    );
    let stale: BTreeSet<_> = explained.difference(&found.optional).cloned().collect();
    ensure!(
        stale.is_empty(),
        "vm-image/README.md explains what is not missing: {}",
        list(&stale)
    );
    eprintln!(
        "image: check-config.sh misses nothing necessary; {} optional gaps, all explained",
        explained.len()
    );
    Ok(())
}

fn list(names: &BTreeSet<String>) -> String {
    names
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The options that the script calls missing.
#[derive(Debug, PartialEq, Eq)]
struct Findings {
    necessary: BTreeSet<String>,
    optional: BTreeSet<String>,
}

impl Findings {
    fn read(output: &str) -> Result<Self> {
        let plain = without_colours(output);
        let (necessary, optional) = plain
            .split_once("Generally Necessary:")
            .and_then(|(_, rest)| rest.split_once("Optional Features:"))
            .context("check-config.sh did not say what it usually says")?;
        ensure!(
            necessary.contains("CONFIG_NAMESPACES: enabled"),
            "check-config.sh did not read the configuration"
        );
        Ok(Self {
            necessary: missing(necessary),
            optional: missing(optional),
        })
    }
}

fn missing(text: &str) -> BTreeSet<String> {
    let options = text
        .lines()
        .filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix("CONFIG_"));
    options
        .filter_map(|rest| rest.strip_suffix(": missing"))
        .map(str::to_owned)
        .collect()
}

fn without_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut parts = text.split('\u{1b}');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain
}

/// The options in the first column of the README's tables: "| `CONFIG_A`, `CONFIG_B` | why |".
fn explained(readme: &str) -> BTreeSet<String> {
    let rows = readme.lines().filter(|line| line.starts_with("| `CONFIG_"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let names = cells.flat_map(|cell| cell.split(','));
    names
        .filter_map(|name| name.trim().trim_matches('`').strip_prefix("CONFIG_"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "info: reading\n\n\u{1b}[1mGenerally Necessary:\u{1b}[m\n\
        - \u{1b}[37mCONFIG_NAMESPACES\u{1b}[m: \u{1b}[32menabled\u{1b}[m\n\
        - \u{1b}[37mCONFIG_KEYS\u{1b}[m: \u{1b}[1;31mmissing\u{1b}[m\n\
        Optional Features:\n    - CONFIG_XFRM: missing\n    - CONFIG_VXLAN: enabled\n    - /dev/zfs: missing\n";

    #[test]
    fn necessary_and_optional_gaps_are_told_apart() {
        let found = Findings::read(OUTPUT).expect("reads");
        assert_eq!(found.necessary, BTreeSet::from(["KEYS".to_owned()]));
        assert_eq!(found.optional, BTreeSet::from(["XFRM".to_owned()]));
        assert!(Findings::read("nothing").is_err());
    }

    #[test]
    fn the_table_gives_the_explained_options() {
        let readme = "text `CONFIG_NO`\n| option | why |\n| `CONFIG_A`, `CONFIG_B` | because of `CONFIG_C` |\n";
        assert_eq!(
            explained(readme),
            BTreeSet::from(["A".to_owned(), "B".to_owned()])
        );
    }
}
