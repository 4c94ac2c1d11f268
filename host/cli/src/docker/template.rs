//! The part of docker's `--format` templates that people use: fields, `json`, `index`, `len`,
//! `join`, `upper`, `lower`, `range`, `if`/`else` and `with`. Anything else is refused by name.

use serde_json::Value;

/// A template, taken apart.
#[derive(Debug, PartialEq)]
pub struct Template(Vec<Node>);

#[derive(Debug, PartialEq)]
enum Node {
    Text(String),
    Print(Vec<Call>),
    If(Vec<Call>, Vec<Node>, Vec<Node>),
    Range(Vec<Call>, Vec<Node>),
    With(Vec<Call>, Vec<Node>),
}

/// One step of a pipeline: a function or a value, with arguments.
#[derive(Debug, PartialEq)]
struct Call {
    name: Option<String>,
    arguments: Vec<Operand>,
}

#[derive(Debug, PartialEq, Clone)]
enum Operand {
    Path(Vec<String>),
    Literal(Value),
}

const FUNCTIONS: &[&str] = &[
    "json", "index", "len", "join", "upper", "lower", "title", "println", "eq", "ne", "not",
];

impl Template {
    /// Takes a template apart.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text };
        let (nodes, end) = parser.nodes()?;
        match end {
            None => Ok(Self(nodes)),
            Some(word) => Err(format!("unexpected {{{{{word}}}}}")),
        }
    }

    /// The text it makes of `value`.
    pub fn render(&self, value: &Value) -> Result<String, String> {
        let mut out = String::new();
        render(&self.0, value, &mut out)?;
        Ok(out)
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    /// Nodes up to the end or to `end`/`else`.
    fn nodes(&mut self) -> Result<(Vec<Node>, Option<String>), String> {
        let mut nodes = Vec::new();
        loop {
            let Some((before, after)) = self.rest.split_once("{{") else {
                if !self.rest.is_empty() {
                    nodes.push(Node::Text(unescape(self.rest)));
                }
                self.rest = "";
                return Ok((nodes, None));
            };
            let (action, rest) = after.split_once("}}").ok_or("unclosed action")?;
            let (action, trim_before) = match action.strip_prefix("- ") {
                Some(action) => (action, true),
                None => (action, false),
            };
            let before = if trim_before {
                before.trim_end()
            } else {
                before
            };
            if !before.is_empty() {
                nodes.push(Node::Text(unescape(before)));
            }
            let (action, rest) = match action.strip_suffix(" -") {
                Some(action) => (action, rest.trim_start()),
                None => (action, rest),
            };
            self.rest = rest;
            let action = action.trim();
            let (word, tail) = action
                .split_once(char::is_whitespace)
                .unwrap_or((action, ""));
            match word {
                "end" | "else" => return Ok((nodes, Some(word.to_owned()))),
                "if" | "with" => nodes.push(self.branch(word, tail)?),
                "range" => {
                    let (inner, end) = self.nodes()?;
                    if end.as_deref() != Some("end") {
                        return Err("range without end".to_owned());
                    }
                    nodes.push(Node::Range(pipeline(tail)?, inner));
                }
                _ if action.starts_with("/*") => {}
                _ => nodes.push(Node::Print(pipeline(action)?)),
            }
        }
    }

    fn branch(&mut self, word: &str, tail: &str) -> Result<Node, String> {
        let condition = pipeline(tail)?;
        let (yes, end) = self.nodes()?;
        let no = match end.as_deref() {
            Some("end") => Vec::new(),
            Some("else") => {
                let (no, end) = self.nodes()?;
                if end.as_deref() != Some("end") {
                    return Err(format!("{word} without end"));
                }
                no
            }
            _ => return Err(format!("{word} without end")),
        };
        match (word, no.is_empty()) {
            ("with", true) => Ok(Node::With(condition, yes)),
            ("with", false) => Err("`with` with `else` is not supported".to_owned()),
            _ => Ok(Node::If(condition, yes, no)),
        }
    }
}

/// `\t` and `\n` as people type them in shells.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

fn pipeline(text: &str) -> Result<Vec<Call>, String> {
    let words = words(text)?;
    let calls = words
        .split(|word| word == "|")
        .map(call)
        .collect::<Result<Vec<_>, _>>()?;
    if calls.is_empty() {
        Err("an empty action".to_owned())
    } else {
        Ok(calls)
    }
}

/// Words, with quoted texts kept whole.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' | '`' => rest[1..]
                .find(first)
                .map(|at| at + 2)
                .ok_or("unclosed quote")?,
            '(' | ')' => return Err("parentheses are not supported in templates".to_owned()),
            '|' => 1,
            _ => rest
                .find(|c: char| c.is_whitespace() || c == '|')
                .unwrap_or(rest.len()),
        };
        words.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    Ok(words)
}

fn call(words: &[String]) -> Result<Call, String> {
    let (first, rest) = words.split_first().ok_or("an empty action")?;
    if FUNCTIONS.contains(&first.as_str()) {
        let arguments = rest
            .iter()
            .map(|word| operand(word))
            .collect::<Result<_, _>>()?;
        return Ok(Call {
            name: Some(first.clone()),
            arguments,
        });
    }
    if !rest.is_empty() {
        return Err(format!("function \"{first}\" not defined"));
    }
    Ok(Call {
        name: None,
        arguments: vec![operand(first)?],
    })
}

fn operand(word: &str) -> Result<Operand, String> {
    if let Some(path) = word.strip_prefix('.') {
        let parts = path.split('.').filter(|part| !part.is_empty());
        return Ok(Operand::Path(parts.map(str::to_owned).collect()));
    }
    let quoted = |quote: char| word.strip_prefix(quote).and_then(|w| w.strip_suffix(quote));
    if let Some(text) = quoted('"').or_else(|| quoted('`')) {
        return Ok(Operand::Literal(Value::String(unescape(text))));
    }
    match serde_json::from_str::<Value>(word) {
        Ok(value) => Ok(Operand::Literal(value)),
        Err(_) => Err(format!("function \"{word}\" not defined")),
    }
}

fn render(nodes: &[Node], dot: &Value, out: &mut String) -> Result<(), String> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Print(calls) => out.push_str(&shown(&evaluate(calls, dot)?)),
            Node::If(condition, yes, no) => {
                let branch = if truth(&evaluate(condition, dot)?) {
                    yes
                } else {
                    no
                };
                render(branch, dot, out)?;
            }
            Node::With(subject, inner) => {
                let subject = evaluate(subject, dot)?;
                if truth(&subject) {
                    render(inner, &subject, out)?;
                }
            }
            Node::Range(list, inner) => {
                let list = evaluate(list, dot)?;
                let items: Vec<&Value> = match &list {
                    Value::Array(items) => items.iter().collect(),
                    Value::Object(map) => map.values().collect(),
                    Value::Null => Vec::new(),
                    other => return Err(format!("range can't iterate over {other}")),
                };
                for item in items {
                    render(inner, item, out)?;
                }
            }
        }
    }
    Ok(())
}

fn evaluate(calls: &[Call], dot: &Value) -> Result<Value, String> {
    let mut piped: Option<Value> = None;
    for call in calls {
        let mut arguments = call
            .arguments
            .iter()
            .map(|operand| resolve(operand, dot))
            .collect::<Result<Vec<_>, _>>()?;
        arguments.extend(piped.take());
        piped = Some(match &call.name {
            Some(name) => apply(name, &arguments)?,
            None => arguments.into_iter().next().unwrap_or_default(),
        });
    }
    Ok(piped.unwrap_or_default())
}

fn resolve(operand: &Operand, dot: &Value) -> Result<Value, String> {
    let path = match operand {
        Operand::Literal(value) => return Ok(value.clone()),
        Operand::Path(path) => path,
    };
    let mut value = dot;
    for part in path {
        value = match value {
            Value::Object(map) => match map.get(part) {
                Some(value) => value,
                None => return Err(format!("map has no entry for key \"{part}\"")),
            },
            Value::Null => return Ok(Value::Null),
            _ => return Err(format!("can't evaluate field {part}")),
        };
    }
    Ok(value.clone())
}

fn apply(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let first = arguments.first().cloned().unwrap_or_default();
    let last = arguments.last().cloned().unwrap_or_default();
    Ok(match name {
        "json" => Value::String(first.to_string()),
        "println" => Value::String(format!("{}\n", shown(&first))),
        "upper" => Value::String(shown(&first).to_uppercase()),
        "lower" => Value::String(shown(&first).to_lowercase()),
        "title" => Value::String(title(&shown(&first))),
        "len" => Value::from(match &first {
            Value::Array(items) => items.len(),
            Value::Object(map) => map.len(),
            other => shown(other).len(),
        }),
        "join" => {
            let Value::Array(items) = &first else {
                return Ok(first);
            };
            let parts: Vec<String> = items.iter().map(shown).collect();
            Value::String(parts.join(&shown(&last)))
        }
        "index" => arguments
            .iter()
            .skip(1)
            .try_fold(first, |value, key| match key {
                Value::Number(number) => {
                    let at = number
                        .as_u64()
                        .and_then(|n| usize::try_from(n).ok())
                        .unwrap_or(usize::MAX);
                    value
                        .get(at)
                        .cloned()
                        .ok_or_else(|| format!("index out of range: {number}"))
                }
                key => Ok(value.get(shown(key)).cloned().unwrap_or_default()),
            })?,
        "eq" => Value::Bool(arguments.iter().skip(1).any(|other| *other == first)),
        "ne" => Value::Bool(first != last),
        "not" => Value::Bool(!truth(&first)),
        _ => return Err(format!("function \"{name}\" not defined")),
    })
}

fn title(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|c| c.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// A value as Go prints it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!(
                "[{}]",
                items.iter().map(shown).collect::<Vec<_>>().join(" ")
            )
        }
        Value::Object(map) => {
            let parts: Vec<_> = map
                .iter()
                .map(|(k, v)| format!("{k}:{}", shown(v)))
                .collect();
            format!("map[{}]", parts.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn made(template: &str) -> Result<String, String> {
        let value = json!({
            "ID": "abc", "State": { "Running": true, "ExitCode": 0 },
            "Names": ["a", "b"], "Labels": { "x.y": "1" },
        });
        Template::parse(template)?.render(&value)
    }

    #[test]
    fn what_people_write_works() {
        for (template, expected) in [
            ("{{.ID}}: {{.State.ExitCode}}", "abc: 0"),
            ("{{json .Names}}", "[\"a\",\"b\"]"),
            ("{{.Names}}", "[a b]"),
            ("{{index .Labels \"x.y\"}}", "1"),
            ("{{index .Names 1}}", "b"),
            ("{{join .Names \",\"}}", "a,b"),
            ("{{range .Names}}<{{.}}>{{end}}", "<a><b>"),
            ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
            ("{{.ID | upper}}\\t{{len .Names}}", "ABC\t2"),
            ("{{with .State}}{{.ExitCode}}{{end}}", "0"),
        ] {
            assert_eq!(made(template).unwrap(), expected, "{template}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for template in [
            "{{.ID",
            "{{range .Names}}",
            "{{frob .ID}}",
            "{{end}}",
            "{{.Nope}}",
            "{{(.ID)}}",
        ] {
            assert!(made(template).is_err(), "{template}");
        }
    }
}
