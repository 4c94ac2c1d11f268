//! Reading and changing single settings in the file, which stays as its owner wrote it, comments included.
//!
//! Called by `lighter config`.
//! Must never: leave a file that cannot be read.

use std::io;
use std::path::Path;

use lighter_platform::DirError;
use toml_edit::{DocumentMut, Item, TableLike, Value};

use super::keys::{self, Key, Kind};
use super::size::ByteSize;
use super::{SECTIONS, Settings, SettingsError, error, removal, unknown};

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
    let syntax = |error: toml_edit::TomlError| SettingsError::Syntax {
        path: path.to_path_buf(),
        message: error.to_string().trim().to_owned(),
    };
    let mut after = text.clone();
    let mut changed = Vec::new();
    for Change { name, value } in changes {
        let mut document: DocumentMut = after.parse().map_err(syntax)?;
        let Some(key) = keys::find(name) else {
            // What is no setting can only be taken out of a file that has it; of a section, one by one.
            let there = !SECTIONS.contains(name) && find(&document, name).is_some();
            if value.is_some() || !there {
                return Err(unknown((*name).to_owned()));
            }
            after = removal::without(&after, name).map_err(syntax)?;
            continue;
        };
        let has_value = find(&document, name).is_some_and(Item::is_value);
        if value.is_none() || !has_value {
            after = removal::without(&after, name).map_err(syntax)?;
            document = after.parse().map_err(syntax)?;
        }
        if let Some(value) = value {
            let value = read_value(key, value)?;
            put(&mut document, name, value).map_err(|section| SettingsError::Syntax {
                path: path.to_path_buf(),
                message: format!("`{section}` is no table of settings there"),
            })?;
            after = document.to_string();
        }
        changed.push(key);
    }
    let mut wrong = Settings::judge(&after, path)?;
    if !wrong.is_empty() {
        // One that was wrong before is named too, although it was just put right: by itself it cannot be.
        let before = Settings::judge(&text, path).unwrap_or_default();
        let others: Vec<_> = before
            .into_iter()
            .filter(|old| wrong.iter().all(|new| new.key != old.key))
            .collect();
        wrong.extend(others);
        error::of(wrong)?;
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|source| DirError::Create {
            path: dir.to_path_buf(),
            source,
        })?;
    }
    lighter_platform::write_durably(path, after.as_bytes())?;
    Ok(changed)
}

fn find<'a>(document: &'a DocumentMut, name: &str) -> Option<&'a Item> {
    match name.split_once('.') {
        Some((section, inner)) => document.get(section)?.get(inner),
        None => document.get(name),
    }
}

/// Writes a setting; otherwise what is something else in the file than the table that it belongs to.
fn put<'a>(document: &mut DocumentMut, name: &'a str, value: Value) -> Result<(), &'a str> {
    let Some((section, inner)) = name.split_once('.') else {
        write(document.as_table_mut(), name, value);
        return Ok(());
    };
    let table = document.entry(section).or_insert_with(toml_edit::table);
    let table = table.as_table_like_mut().ok_or(section)?;
    write(table, inner, value);
    Ok(())
}

/// Writes a value, with what is written around the one before.
fn write(table: &mut dyn TableLike, name: &str, mut value: Value) {
    match table.get_mut(name) {
        Some(old) => {
            if let Some(before) = old.as_value() {
                *value.decor_mut() = before.decor().clone();
            }
            *old = Item::Value(value);
        }
        None => drop(table.insert(name, Item::Value(value))),
    }
}

/// A value from the command line: TOML where it is TOML, else text; a comma makes a list.
fn read_value(key: &'static Key, text: &str) -> Result<Value, SettingsError> {
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
mod tests;
