//! Lists: docker's tables, `--quiet`, `--format`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::template::Template;
use crate::exit::CliError;
use crate::printer::Printer;

/// One column: the field's name in templates, and its heading.
pub type Column = (&'static str, &'static str);

/// How a list is to be shown.
pub enum Format {
    /// The columns of docker's table.
    Table,
    /// The columns that a template names, with headings.
    TableOf(Template),
    /// A line of JSON an object.
    Json,
    /// What a template makes of each object.
    Lines(Template),
}

/// Reads `--format`.
pub fn format(text: Option<&str>) -> Result<Format, CliError> {
    // `\\t` and `\\n`, as people type them in shells.
    let template = |text: &str| {
        Template::parse(&text.replace("\\t", "\t").replace("\\n", "\n"))
            .map_err(|error| CliError::new(format!("template parsing error: {error}")))
    };
    Ok(match text {
        None | Some("" | "table") => Format::Table,
        Some("json") => Format::Json,
        Some(text) => match text.strip_prefix("table ") {
            Some(columns) => Format::TableOf(template(columns)?),
            None => Format::Lines(template(text)?),
        },
    })
}

/// The field of a row by which templates ask for one of its labels: `{{.Label "name"}}`.
pub const LABEL: &str = "Label";

/// The fields of a row, written as an object.
pub fn row(fields: Value) -> Map<String, Value> {
    match fields {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Whether only names are to be printed: a template wins over `--quiet`, a table does not.
pub fn is_quiet(arguments: &clap::ArgMatches) -> bool {
    let format = super::flags::text(arguments, "format");
    super::flags::is_set(arguments, "quiet")
        && matches!(format.as_deref(), None | Some("" | "table"))
}

/// Prints objects, whose values are what the columns show.
///
/// `columns` are the table's; an object may have more fields, for templates and JSON. `headings`
/// are those of all fields.
pub fn print(
    printer: &Printer,
    format: &Format,
    columns: &[&str],
    headings: &[Column],
    rows: &[Map<String, Value>],
) -> Result<(), CliError> {
    printer.data(&text(format, columns, headings, rows)?);
    Ok(())
}

/// What [`print`] prints.
pub fn text(
    format: &Format,
    columns: &[&str],
    headings: &[Column],
    rows: &[Map<String, Value>],
) -> Result<String, CliError> {
    let render = |template: &Template, row: &Map<String, Value>| {
        let text = template.render_as(&Value::Object(row.clone()), &json(row));
        text.map_err(|error| CliError::new(format!("template parsing error: {error}")))
    };
    Ok(match format {
        Format::Json => rows.iter().map(|row| json(row) + "\n").collect(),
        Format::Lines(template) => {
            let line = |row| Ok(render(template, row)? + "\n");
            rows.iter().map(line).collect::<Result<_, CliError>>()?
        }
        Format::TableOf(template) => {
            let heading: Map<String, Value> = headings
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).into()))
                .collect();
            let line = |row| {
                let text = render(template, row)?;
                Ok(text.split('\t').map(str::to_owned).collect())
            };
            let all = std::iter::once(&heading).chain(rows);
            aligned(&all.map(line).collect::<Result<Vec<_>, CliError>>()?)
        }
        Format::Table => {
            let heading = |name: &&str| {
                let found = headings.iter().find(|(field, _)| field == name);
                found
                    .map(|(_, text)| (*text).to_owned())
                    .unwrap_or_default()
            };
            let mut lines: Vec<Vec<String>> = vec![columns.iter().map(heading).collect()];
            for row in rows {
                let cell = |name: &&str| match row.get(*name) {
                    Some(Value::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                    None => String::new(),
                };
                lines.push(columns.iter().map(cell).collect());
            }
            aligned(&lines)
        }
    })
}

/// A row as docker's lists write one: names in the order of the alphabet, and what could be read as
/// a tag of HTML escaped.
fn json(row: &Map<String, Value>) -> String {
    let shown: BTreeMap<&String, &Value> = row.iter().filter(|(f, _)| *f != LABEL).collect();
    html_safe(&serde_json::to_string(&shown).unwrap_or_default())
}

/// JSON with what could be read as a tag of HTML escaped.
pub fn html_safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            other => out.push(other),
        }
    }
    out
}

/// Columns at least ten wide and three apart, as docker sets them.
pub fn aligned(lines: &[Vec<String>]) -> String {
    set(lines, 10)
}

/// Columns at least so wide and three apart.
pub fn set(lines: &[Vec<String>], least: usize) -> String {
    const APART: usize = 3;
    let mut widths: Vec<usize> = Vec::new();
    for line in lines {
        for (index, cell) in line.iter().enumerate().take(line.len().saturating_sub(1)) {
            let width = (cell.chars().count() + APART).max(least);
            match widths.get_mut(index) {
                Some(known) => *known = width.max(*known),
                None => widths.push(width),
            }
        }
    }
    let mut out = String::new();
    for line in lines {
        for (index, cell) in line.iter().enumerate() {
            if index + 1 == line.len() {
                out.push_str(cell);
            } else {
                let width = widths.get(index).copied().unwrap_or(0);
                // Writing to a string cannot fail.
                let _ = write!(out, "{cell:<width$}");
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_set_as_docker_sets_them() {
        let lines = [vec!["ID", "NAME"], vec!["123456789012", "x"]]
            .map(|line| line.into_iter().map(str::to_owned).collect());
        assert_eq!(aligned(&lines), "ID             NAME\n123456789012   x\n");
        let narrow = [vec!["A".to_owned(), "B".to_owned()]];
        assert_eq!(aligned(&narrow), "A         B\n");
    }

    #[test]
    fn a_row_is_written_as_docker_writes_it() {
        let row = serde_json::json!({ "Tag": "<none>", "ID": "a&b", LABEL: { "x": "y" } });
        let expected = r#"{"ID":"a\u0026b","Tag":"\u003cnone\u003e"}"#;
        assert_eq!(json(row.as_object().unwrap()), expected);
    }

    #[test]
    fn formats_are_told_apart() {
        assert!(matches!(format(None), Ok(Format::Table)));
        assert!(matches!(format(Some("json")), Ok(Format::Json)));
        assert!(matches!(
            format(Some("table {{.ID}}\t{{.Name}}")),
            Ok(Format::TableOf(_))
        ));
        assert!(matches!(format(Some("{{.ID}}")), Ok(Format::Lines(_))));
        assert!(format(Some("{{.ID")).is_err());
    }
}
