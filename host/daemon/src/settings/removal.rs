//! Takes one setting out of the file's text, by its own lines alone.
//!
//! Called by `edit`. A parsed document keeps a comment with whatever stands behind it, so that it would go with that;
//! here the text stays as it is but for the lines on which the setting is written, its comment on the same line included.
//! Must never: take away a line on which something else is written too.

use std::ops::Range;

use toml_edit::{Document, DocumentMut, Item, Key, Table, TomlError};

/// The text without this setting; the same text where it is not in there.
///
/// # Errors
/// What is no TOML.
pub(super) fn without(text: &str, name: &str) -> Result<String, TomlError> {
    let document = Document::parse(text)?;
    let (section, key) = match name.split_once('.') {
        Some((section, key)) => (document.get(section), key),
        None => (Some(document.as_item()), name),
    };
    let mut places = Vec::new();
    match section {
        Some(Item::Table(table)) => add(table.get_key_value(key), &mut places),
        Some(Item::Value(inline)) if inline.is_inline_table() => {
            return without_inline(text, name);
        }
        _ => {}
    }
    let mut left = String::with_capacity(text.len());
    let mut from = 0;
    let mut lines: Vec<_> = places.iter().map(|place| lines(text, place)).collect();
    lines.sort_by_key(|lines| lines.start);
    for lines in lines {
        left.push_str(text.get(from..lines.start).unwrap_or_default());
        from = lines.end;
    }
    left.push_str(text.get(from..).unwrap_or_default());
    Ok(left)
}

/// Where a setting is written: once, or in parts where it is a table.
fn add(setting: Option<(&Key, &Item)>, places: &mut Vec<Range<usize>>) {
    match setting {
        Some((key, Item::Value(value))) => {
            let ends = key.span().zip(value.span());
            places.extend(ends.map(|(key, value)| key.start..value.end));
        }
        Some((_, Item::Table(table))) => add_table(table, places),
        Some((_, Item::ArrayOfTables(tables))) => {
            tables.iter().for_each(|table| add_table(table, places));
        }
        Some((_, Item::None)) | None => {}
    }
}

fn add_table(table: &Table, places: &mut Vec<Range<usize>>) {
    // Of one that is written as a part of its keys' names there is no header.
    if !table.is_dotted() && !table.is_implicit() {
        places.extend(table.span());
    }
    for (key, _) in table {
        add(table.get_key_value(key), places);
    }
}

/// The lines that a place is on, with the end of the last.
fn lines(text: &str, place: &Range<usize>) -> Range<usize> {
    let before = text.get(..place.start).unwrap_or_default();
    let behind = text.get(place.end..).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let end = behind
        .find('\n')
        .map_or(text.len(), |at| place.end + at + 1);
    start..end
}

/// The same of a section within braces, which is one line.
fn without_inline(text: &str, name: &str) -> Result<String, TomlError> {
    let mut document: DocumentMut = text.parse()?;
    if let Some((section, key)) = name.split_once('.')
        && let Some(table) = document
            .get_mut(section)
            .and_then(Item::as_inline_table_mut)
    {
        table.remove(key);
    }
    Ok(document.to_string())
}
