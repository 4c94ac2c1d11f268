//! Reading and changing single settings in the file, which stays as its owner wrote it, comments included.
//!
//! Called by `lighter config`.
//! Must never: leave a file that cannot be read.

use std::io;
use std::path::Path;

use lighter_platform::DirError;
use toml_edit::{Decor, DocumentMut, Item, TableLike};

use super::keys::{self, Key, Kind};
use super::size::ByteSize;
use super::{Settings, SettingsError, unknown};

/// The value of one setting as the file has it, or its default, as TOML; for the two whose default
/// depends on the host, what this host gives.
///
/// # Errors
/// An unknown name, or a file that cannot be read.
pub fn get(path: &Path, name: &str) -> Result<Option<String>, SettingsError> {
    if keys::find(name).is_none() {
        return Err(unknown(name.to_owned()));
    }
    let mut settings = Settings::load(path)?;
    settings.cpus = Some(settings.effective_cpus());
    settings.memory = Some(ByteSize(settings.effective_memory()));
    let Ok(toml::Value::Table(table)) = toml::Value::try_from(&settings) else {
        return Ok(None);
    };
    let value = match name.split_once('.') {
        Some((section, inner)) => table.get(section).and_then(|table| table.get(inner)),
        None => table.get(name),
    };
    Ok(value.map(|value| match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }))
}

/// One change of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'a> {
    /// The setting.
    pub name: &'a str,
    /// Its new value; nothing takes it out of the file, so that its default counts.
    pub value: Option<&'a str>,
}

/// Changes settings in the file and keeps everything else in it. What they are is judged when all are changed: some
/// only fit each other.
///
/// # Errors
/// See [`SettingsError`]; the file is unchanged then.
pub fn change(path: &Path, changes: &[Change<'_>]) -> Result<Vec<&'static Key>, SettingsError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => {
            return Err(SettingsError::Read {
                path: path.to_path_buf(),
                source,
            });
        }
    };
    let mut document: DocumentMut =
        text.parse()
            .map_err(|error: toml_edit::TomlError| SettingsError::Syntax {
                path: path.to_path_buf(),
                message: error.to_string().trim().to_owned(),
            })?;
    let mut changed = Vec::new();
    for Change { name, value } in changes {
        let key = keys::find(name).ok_or_else(|| unknown((*name).to_owned()))?;
        match value {
            Some(value) => {
                let value = read_value(key, value)?;
                put(&mut document, name, value).map_err(|section| SettingsError::Syntax {
                    path: path.to_path_buf(),
                    message: format!("`{section}` is no table of settings there"),
                })?;
            }
            None => take_out(&mut document, name),
        }
        changed.push(key);
    }
    let after = document.to_string();
    Settings::parse(&after, path).map_err(|error| match (error, changes) {
        // Where the file could be read before, it is the new value that does not fit.
        (SettingsError::Syntax { message, .. }, [one])
            if let (Some(key), Some(value)) = (changed.first(), one.value)
                && Settings::parse(&text, path).is_ok() =>
        {
            SettingsError::Value {
                key: key.name,
                value: value.to_owned(),
                why: message.lines().last().unwrap_or_default().to_owned(),
            }
        }
        (other, _) => other,
    })?;
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|source| DirError::Create {
            path: dir.to_path_buf(),
            source,
        })?;
    }
    lighter_platform::write_durably(path, after.as_bytes())?;
    Ok(changed)
}

/// Writes a setting; otherwise what is something else in the file than the table that it belongs to.
fn put<'a>(
    document: &mut DocumentMut,
    name: &'a str,
    value: toml_edit::Value,
) -> Result<(), &'a str> {
    let item = toml_edit::value(value);
    let Some((section, inner)) = name.split_once('.') else {
        document[name] = item;
        return Ok(());
    };
    let table = document.entry(section).or_insert_with(toml_edit::table);
    let table = table.as_table_like_mut().ok_or(section)?;
    match table.get_mut(inner) {
        Some(old) => *old = item,
        None => drop(table.insert(inner, item)),
    }
    Ok(())
}

/// Takes a setting out, but not the comments above it where the next one can have them.
fn take_out(document: &mut DocumentMut, name: &str) {
    let comments = match name.split_once('.') {
        Some((section, inner)) => document
            .get_mut(section)
            .and_then(|item| item.as_table_like_mut())
            .and_then(|table| remove(table, inner)),
        None => remove(document.as_table_mut(), name),
    };
    if let Some(comments) = comments {
        let behind = document.trailing().as_str().unwrap_or_default();
        document.set_trailing(format!("{comments}{behind}"));
    }
}

/// Removes a key. What was written above it goes to the next one, or is returned where there is none.
fn remove(table: &mut dyn TableLike, name: &str) -> Option<String> {
    let keys = table.iter().map(|(key, _)| key.to_owned());
    let next = keys.skip_while(|key| key != name).nth(1);
    let (key, _) = table.get_key_value(name)?;
    let above = written_above(key.leaf_decor()).to_owned();
    table.remove(name);
    if !above.contains('#') {
        return None;
    }
    let Some(next) = next else {
        return Some(above);
    };
    if let Some(inner) = table.get_mut(&next).and_then(Item::as_table_mut) {
        let both = format!("{above}{}", written_above(inner.decor()));
        inner.decor_mut().set_prefix(both);
    } else if let Some(mut key) = table.key_mut(&next) {
        let both = format!("{above}{}", written_above(key.leaf_decor()));
        key.leaf_decor_mut().set_prefix(both);
    }
    None
}

fn written_above(decor: &Decor) -> &str {
    let prefix = decor.prefix();
    prefix
        .and_then(|prefix| prefix.as_str())
        .unwrap_or_default()
}

/// A value from the command line: TOML where it is TOML, else text; a comma makes a list.
fn read_value(key: &'static Key, text: &str) -> Result<toml_edit::Value, SettingsError> {
    let wrong = |why: &str| SettingsError::Value {
        key: key.name,
        value: text.to_owned(),
        why: why.to_owned(),
    };
    match key.kind {
        Kind::Number => Ok(text
            .parse::<i64>()
            .map_err(|_| wrong("it must be a whole number"))?
            .into()),
        Kind::Switch => Ok(text
            .parse::<bool>()
            .map_err(|_| wrong("it must be `true` or `false`"))?
            .into()),
        Kind::Text => Ok(text.into()),
        Kind::List if !text.trim_start().starts_with('[') => {
            let parts = text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty());
            Ok(parts.collect::<toml_edit::Array>().into())
        }
        Kind::List => text
            .parse()
            .map_err(|_| wrong("it must be a list such as `[\"a\", \"b\"]`")),
        Kind::Table => text
            .parse()
            .map_err(|_| wrong("it must be a table such as `{ max-size = \"10m\" }`")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Effect;
    use super::*;

    fn set(path: &Path, name: &str, value: &str) -> Result<&'static Key, SettingsError> {
        let value = Some(value);
        change(path, &[Change { name, value }]).map(|keys| keys[0])
    }

    fn unset(path: &Path, name: &str) -> Result<&'static Key, SettingsError> {
        let value = None;
        change(path, &[Change { name, value }]).map(|keys| keys[0])
    }

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn what_is_taken_out_has_its_default_and_comments_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let written = "# one\ncpus = 2 # two\n# three\nmemory = '2GiB'\n\n# four\n[engine]\n# five\nbip = '10.9.0.1/24'\n";
        std::fs::write(&path, written).unwrap();
        unset(&path, "cpus").unwrap();
        let left =
            "# one\n# three\nmemory = '2GiB'\n\n# four\n[engine]\n# five\nbip = '10.9.0.1/24'\n";
        assert_eq!(text(&path), left);
        unset(&path, "memory").unwrap();
        let left = "# one\n# three\n\n# four\n[engine]\n# five\nbip = '10.9.0.1/24'\n";
        assert_eq!(text(&path), left);
        assert_eq!(unset(&path, "engine.bip").unwrap().name, "engine.bip");
        assert_eq!(text(&path), "# one\n# three\n\n# four\n[engine]\n# five\n");
        assert_eq!(Settings::load(&path).unwrap(), Settings::default());
        // One that is not there is what it shall be.
        unset(&path, "disk").unwrap();
        assert!(matches!(
            unset(&path, "bip"),
            Err(SettingsError::Unknown { .. })
        ));
        std::fs::write(
            &path,
            "engine = { bip = '10.9.0.1/24', ip = '::1' }\nproxies.no-proxy = 'x'\n",
        )
        .unwrap();
        unset(&path, "engine.bip").unwrap();
        unset(&path, "proxies.no-proxy").unwrap();
        let settings = Settings::load(&path).unwrap();
        assert_eq!((&*settings.engine.bip, &*settings.engine.ip), ("", "::1"));
    }

    #[test]
    fn settings_that_only_fit_each_other_are_changed_together() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let to = |bip, range| {
            let change_of = |name, value| Change {
                name,
                value: Some(value),
            };
            change(
                &path,
                &[
                    change_of("engine.bip", bip),
                    change_of("engine.fixed-cidr", range),
                ],
            )
        };
        to("10.9.0.1/24", "10.9.0.128/25").unwrap();
        let before = text(&path);
        for (key, value) in [
            ("engine.bip", "10.8.0.1/24"),
            ("engine.fixed-cidr", "10.8.0.128/25"),
        ] {
            let error = set(&path, key, value).unwrap_err();
            assert!(
                error
                    .hint()
                    .contains("`lighter config set engine.bip VALUE engine.fixed-cidr VALUE`")
            );
        }
        assert!(to("10.8.0.1/24", "10.7.0.128/25").is_err());
        assert_eq!(text(&path), before);
        to("10.8.0.1/24", "10.8.0.128/25").unwrap();
        assert_eq!(
            Settings::load(&path).unwrap().engine.fixed_cidr,
            "10.8.0.128/25"
        );
    }

    #[test]
    fn a_value_that_keeps_the_file_from_being_read_can_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        for written in ["memory = '1m'\n", "memory = 5\n"] {
            std::fs::write(&path, written).unwrap();
            assert!(set(&path, "cpus", "1").is_err());
            assert_eq!(text(&path), written);
            set(&path, "memory", "200MiB").unwrap();
            assert_eq!(text(&path), "memory = \"200MiB\"\n");
        }
        for written in [
            "engine = 5\n",
            "engine = 'x'\n",
            "engine = []\n",
            "[[engine]]\n",
        ] {
            std::fs::write(&path, written).unwrap();
            let error = set(&path, "engine.ip", "::1").unwrap_err();
            assert!(
                error.to_string().contains("`engine` is no table"),
                "{error}"
            );
            assert_eq!(text(&path), written);
        }
    }

    #[test]
    fn setting_one_key_keeps_comments_and_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c/config.toml");
        set(&path, "cpus", "2").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("# mine\n{text}")).unwrap();
        let key = set(
            &path,
            "engine.registry-mirrors",
            "https://a.test,https://b.test",
        )
        .unwrap();
        assert_eq!(key.effect, Effect::NextStart);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# mine\ncpus = 2\n"), "{text}");
        assert_eq!(
            Settings::load(&path).unwrap().engine.registry_mirrors.len(),
            2
        );
        assert_eq!(get(&path, "cpus").unwrap().as_deref(), Some("2"));
        assert_eq!(get(&path, "disk").unwrap().as_deref(), Some("64GiB"));
        set(&path, "engine.userns-remap", "true").unwrap();
        assert!(Settings::load(&path).unwrap().engine.userns_remap);
        for ip in ["127.0.0.1", "::1", ""] {
            set(&path, "engine.ip", ip).unwrap();
            assert_eq!(Settings::load(&path).unwrap().engine.ip, ip);
        }
    }

    #[test]
    fn a_refused_value_leaves_the_file_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        set(&path, "cpus", "2").unwrap();
        assert!(set(&path, "cpus", "1000").is_err());
        assert!(set(&path, "memory", "lots").is_err());
        assert!(set(&path, "engine.userns-remap", "default").is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "cpus = 2\n");
    }

    #[test]
    fn a_switch_that_is_on_where_nobody_says_can_be_turned_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings.toml");
        set(&path, "engine.host-network-ports", "false").unwrap();
        let engine = Settings::load(&path).unwrap().engine;
        assert_eq!(engine.host_network_ports, Some(false));
    }
}
