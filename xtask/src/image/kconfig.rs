//! The kernel's configuration: fragments in, and the proof that each line of theirs came out.
//!
//! Kconfig drops without a word what lacks its parent, and turns on without a word what something else selects.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// What one line of a fragment wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    pub symbol: String,
    /// The value as it stands in `.config`; `None` where the option is to be off.
    pub value: Option<String>,
    pub from: String,
}

/// The fragments of a folder, in the order of their names.
pub fn fragments(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    found.retain(|path| path.extension().is_some_and(|e| e == "config"));
    found.sort();
    Ok(found)
}

/// Reads what fragments want. A symbol that two lines set differently is an error.
pub fn wishes(fragments: &[PathBuf]) -> Result<Vec<Wish>> {
    let mut all = BTreeMap::<String, Wish>::new();
    for path in fragments {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        for (number, line) in text.lines().enumerate() {
            let from = format!("{name}:{}", number + 1);
            let Some((symbol, value)) = parse_line(line)
                .with_context(|| format!("{from}: not a line of Kconfig: {line}"))?
            else {
                continue;
            };
            let wish = Wish {
                symbol,
                value,
                from,
            };
            if let Some(other) = all
                .get(&wish.symbol)
                .filter(|other| other.value != wish.value)
            {
                bail!(
                    "{} is set differently in {} and {}",
                    wish.symbol,
                    other.from,
                    wish.from
                );
            }
            all.insert(wish.symbol.clone(), wish);
        }
    }
    Ok(all.into_values().collect())
}

fn parse_line(line: &str) -> Result<Option<(String, Option<String>)>> {
    let line = line.trim_end();
    if let Some(symbol) = line
        .strip_prefix("# CONFIG_")
        .and_then(|rest| rest.strip_suffix(" is not set"))
    {
        return Ok(Some((symbol.to_owned(), None)));
    }
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (symbol, value) = line
        .strip_prefix("CONFIG_")
        .and_then(|rest| rest.split_once('='))
        .context("CONFIG_X=… expected")?;
    Ok(Some((
        symbol.to_owned(),
        (value != "n").then(|| value.to_owned()),
    )))
}

/// Compares what was wanted with the `.config` that came out; an error names every line that did not come true.
pub fn check(wishes: &[Wish], config: &str) -> Result<()> {
    let mut set = BTreeMap::new();
    for line in config.lines() {
        if let Some((symbol, value)) = line
            .strip_prefix("CONFIG_")
            .and_then(|rest| rest.split_once('='))
        {
            set.insert(symbol, value);
        }
    }
    let shown = |value: Option<&str>| value.map_or("not set".to_owned(), |v| format!("={v}"));
    let wrong: Vec<String> = wishes
        .iter()
        .filter(|wish| set.get(wish.symbol.as_str()).copied() != wish.value.as_deref())
        .map(|wish| {
            let got = set.get(wish.symbol.as_str()).copied();
            format!(
                "{}: CONFIG_{} should be {}, is {}",
                wish.from,
                wish.symbol,
                shown(wish.value.as_deref()),
                shown(got)
            )
        })
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    bail!(
        "the kernel's configuration is not what the fragments say:\n  {}",
        wrong.join("\n  ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Wish>> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("a.config"), text).expect("write");
        wishes(&fragments(folder.path())?)
    }

    #[test]
    fn a_line_that_was_dropped_is_named_with_its_place() {
        let wanted = read("# why\nCONFIG_A=y\nCONFIG_B=16\n").expect("parses");
        let error =
            check(&wanted, "CONFIG_A=y\n# CONFIG_B is not set\n").expect_err("B is missing");
        assert!(
            error
                .to_string()
                .contains("a.config:3: CONFIG_B should be =16, is not set"),
            "{error}"
        );
    }

    #[test]
    fn an_option_that_was_to_be_off_and_was_selected_is_named() {
        let wanted = read("# CONFIG_MODULES is not set\n").expect("parses");
        assert!(check(&wanted, "CONFIG_MODULES=y\n").is_err());
        assert!(check(&wanted, "# CONFIG_MODULES is not set\n").is_ok());
        assert!(check(&wanted, "").is_ok());
    }

    #[test]
    fn a_value_must_match_wholly() {
        let wanted = read("CONFIG_NR_CPUS=64\n").expect("parses");
        assert!(check(&wanted, "CONFIG_NR_CPUS=640\n").is_err());
        assert!(check(&wanted, "CONFIG_NR_CPUS=64\n").is_ok());
    }

    #[test]
    fn contradictions_and_rubbish_are_refused() {
        assert!(read("CONFIG_A=y\n# CONFIG_A is not set\n").is_err());
        assert!(read("A=y\n").is_err());
    }
}
