//! From text to a tree.

use serde_json::{Number, Value};

/// How deep a template may be nested: it is walked by recursion.
const DEEPEST: usize = 64;

/// A piece of a template.
#[derive(Debug, PartialEq)]
pub enum Node {
    /// Stands as it is.
    Text(String),
    /// Its value is printed, unless it only names one.
    Print(Pipe),
    /// The first branch whose condition holds, else the last.
    If(Vec<(Pipe, Vec<Node>)>, Vec<Node>),
    /// Once for each item, else the last if there is none.
    Range(Pipe, Vec<Node>, Vec<Node>),
    /// With another dot, else the last if that is empty.
    With(Pipe, Vec<Node>, Vec<Node>),
    /// Ends the innermost range.
    Break,
    /// Goes on with the next item of the innermost range.
    Continue,
}

/// Commands, each of which gets the value of the one before it.
#[derive(Debug, PartialEq)]
pub struct Pipe {
    /// The variables it names; in a range one or two.
    pub names: Vec<String>,
    /// Whether they are those of before (`=`), and not new ones (`:=`).
    pub assigns: bool,
    /// The commands.
    pub commands: Vec<Vec<Operand>>,
}

/// Part of a command.
#[derive(Debug, PartialEq)]
pub enum Operand {
    /// A value as it is written.
    Literal(Value),
    /// A function.
    Function(String),
    /// A path of fields from somewhere.
    Path(Base, Vec<String>),
}

/// Where a path begins.
#[derive(Debug, PartialEq)]
pub enum Base {
    /// The dot.
    Dot,
    /// A variable; the empty name is the whole data.
    Variable(String),
    /// The value of a pipeline in parentheses.
    Pipe(Pipe),
}

/// Takes a template apart.
pub fn template(text: &str) -> Result<Vec<Node>, String> {
    let mut parser = Parser {
        rest: text,
        depth: 0,
    };
    match parser.nodes()? {
        (nodes, Stop::Eof) => Ok(nodes),
        (_, Stop::End) => Err("unexpected {{end}}".to_owned()),
        (_, Stop::Else(_)) => Err("unexpected {{else}}".to_owned()),
    }
}

/// What ended a run of nodes.
enum Stop {
    Eof,
    End,
    /// With what follows it: nothing, or the words of an `if` or `with`.
    Else(String),
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn nodes(&mut self) -> Result<(Vec<Node>, Stop), String> {
        let mut nodes = Vec::new();
        loop {
            let Some((before, after)) = self.rest.split_once("{{") else {
                text_node(&mut nodes, self.rest);
                self.rest = "";
                return Ok((nodes, Stop::Eof));
            };
            let end = action_end(after)?;
            let (action, rest) = (&after[..end], &after[end + 2..]);
            let trims = |c: char| c.is_ascii_whitespace();
            let (action, before) = match action.strip_prefix('-') {
                Some(action) if action.starts_with(trims) => (action, before.trim_end()),
                _ => (action, before),
            };
            let (action, rest) = match action.strip_suffix('-') {
                Some(action) if action.ends_with(trims) => (action, rest.trim_start()),
                _ => (action, rest),
            };
            text_node(&mut nodes, before);
            self.rest = rest;
            let action = action.trim();
            if action.starts_with("/*") {
                continue;
            }
            let (word, tail) = action
                .split_once(|c: char| c.is_whitespace())
                .unwrap_or((action, ""));
            match word {
                "end" => return Ok((nodes, Stop::End)),
                "else" => return Ok((nodes, Stop::Else(tail.trim().to_owned()))),
                "break" => nodes.push(Node::Break),
                "continue" => nodes.push(Node::Continue),
                "define" | "template" | "block" => {
                    return Err(format!("{{{{{word}}}}} is not supported"));
                }
                "if" | "with" | "range" => nodes.push(self.nested(word, tail)?),
                _ => nodes.push(Node::Print(one_name(pipe(action)?, "command")?)),
            }
        }
    }

    fn nested(&mut self, word: &str, tail: &str) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("the template is nested too deeply".to_owned());
        }
        let node = match word {
            "if" => self.branches(tail),
            _ => self.body(word, tail),
        };
        self.depth -= 1;
        node
    }

    fn branches(&mut self, condition: &str) -> Result<Node, String> {
        let mut branches = Vec::new();
        let mut condition = one_name(pipe(condition)?, "if")?;
        loop {
            let (nodes, stop) = self.nodes()?;
            branches.push((condition, nodes));
            let again = match stop {
                Stop::Eof => return Err("unexpected EOF".to_owned()),
                Stop::End => return Ok(Node::If(branches, Vec::new())),
                Stop::Else(again) => again,
            };
            match again.strip_prefix("if") {
                Some(next) => condition = one_name(pipe(next)?, "if")?,
                None => return Ok(Node::If(branches, self.last(&again)?)),
            }
        }
    }

    fn body(&mut self, word: &str, subject: &str) -> Result<Node, String> {
        let subject = match word {
            "range" => pipe(subject)?,
            _ => one_name(pipe(subject)?, word)?,
        };
        let (nodes, stop) = self.nodes()?;
        let otherwise = match stop {
            Stop::Eof => return Err("unexpected EOF".to_owned()),
            Stop::End => Vec::new(),
            Stop::Else(again) => self.last(&again)?,
        };
        Ok(match word {
            "range" => Node::Range(subject, nodes, otherwise),
            _ => Node::With(subject, nodes, otherwise),
        })
    }

    /// What follows a plain `else`.
    fn last(&mut self, after_else: &str) -> Result<Vec<Node>, String> {
        if !after_else.is_empty() {
            return Err(format!("unexpected <{after_else}> in {{{{else}}}}"));
        }
        match self.nodes()? {
            (nodes, Stop::End) => Ok(nodes),
            (_, Stop::Else(_)) => Err("expected end; found {{else}}".to_owned()),
            (_, Stop::Eof) => Err("unexpected EOF".to_owned()),
        }
    }
}

fn text_node(nodes: &mut Vec<Node>, text: &str) {
    if !text.is_empty() {
        nodes.push(Node::Text(text.to_owned()));
    }
}

/// Where the `}}` of an action is: not within quotes, not within a comment.
fn action_end(text: &str) -> Result<usize, String> {
    let body = text.trim_start_matches(['-', ' ']);
    if body.starts_with("/*") {
        let end = text.find("*/").ok_or("unclosed comment")?;
        return text[end..]
            .find("}}")
            .map(|at| at + end)
            .ok_or_else(|| "unclosed action".to_owned());
    }
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' | b'`' => at = quote_end(text, at)?,
            b'}' if bytes.get(at + 1) == Some(&b'}') => return Ok(at),
            _ => at += 1,
        }
    }
    Err("unclosed action".to_owned())
}

/// Behind the end of the quoted text that begins at `start`.
fn quote_end(text: &str, start: usize) -> Result<usize, String> {
    let bytes = text.as_bytes();
    let quote = bytes[start];
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quote == b'"' => at += 2,
            byte if byte == quote => return Ok(at + 1),
            _ => at += 1,
        }
    }
    Err("unterminated quoted string".to_owned())
}

fn pipe(text: &str) -> Result<Pipe, String> {
    let words = words(text)?;
    let mut at = 0;
    pipe_of(&words, &mut at, 0)
}

/// Refuses two names where only a range has them.
fn one_name(pipe: Pipe, place: &str) -> Result<Pipe, String> {
    match pipe.names.len() {
        0 | 1 => Ok(pipe),
        _ => Err(format!("too many declarations in {place}")),
    }
}

/// Reads a pipeline up to the end or to a closing parenthesis, which is left for the caller.
fn pipe_of(words: &[String], at: &mut usize, depth: usize) -> Result<Pipe, String> {
    if depth > DEEPEST {
        return Err("the template is nested too deeply".to_owned());
    }
    let (names, assigns) = names(words, at);
    let mut commands = Vec::new();
    let mut command = Vec::new();
    loop {
        match words.get(*at).map(String::as_str) {
            None | Some(")") => break,
            Some("|") => {
                *at += 1;
                commands.push(std::mem::take(&mut command));
            }
            Some("(") => {
                *at += 1;
                let inner = pipe_of(words, at, depth + 1)?;
                if words.get(*at).map(String::as_str) != Some(")") {
                    return Err("unclosed left paren".to_owned());
                }
                *at += 1;
                let fields = match words.get(*at).and_then(|word| word.strip_prefix(")")) {
                    Some(path) => {
                        *at += 1;
                        fields(path)
                    }
                    None => Vec::new(),
                };
                command.push(Operand::Path(Base::Pipe(inner), fields));
            }
            Some(word) => {
                *at += 1;
                command.push(operand(word)?);
            }
        }
    }
    commands.push(command);
    if depth == 0 && *at < words.len() {
        return Err("unexpected right paren".to_owned());
    }
    if commands.iter().any(Vec::is_empty) {
        return Err("missing value for command".to_owned());
    }
    Ok(Pipe {
        names,
        assigns,
        commands,
    })
}

/// `$a :=` or `$a, $b :=`, or the same with `=`; and whether it was that.
fn names(words: &[String], at: &mut usize) -> (Vec<String>, bool) {
    let rest = &words[*at..];
    let name = |at: usize| Some(rest.get(at)?.strip_prefix('$')?.to_owned());
    let word = |at: usize| rest.get(at).map(String::as_str);
    let (names, sign) = match (name(0), word(1), name(2)) {
        (Some(first), Some(","), Some(second)) => (vec![first, second], 3),
        (Some(first), ..) => (vec![first], 1),
        _ => (Vec::new(), 0),
    };
    match word(sign) {
        Some(said @ (":=" | "=")) if !names.is_empty() => {
            *at += sign + 1;
            (names, said == "=")
        }
        _ => (Vec::new(), false),
    }
}

/// Words, with quoted texts kept whole. The fields behind a closing parenthesis are a word of their
/// own, which begins with one.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let plain = |rest: &str| {
            rest.find(|c: char| c.is_whitespace() || "|(),:=".contains(c))
                .unwrap_or(rest.len())
        };
        let end = match first {
            '"' | '`' => quote_end(rest, 0)?,
            '(' | '|' | ',' | '=' => 1,
            ':' if rest.starts_with(":=") => 2,
            ':' => return Err("expected :=".to_owned()),
            ')' => {
                words.push(")".to_owned());
                let path = &rest[1..];
                if path.starts_with('.') {
                    let end = plain(path);
                    words.push(format!("){}", &path[..end]));
                    rest = path[end..].trim_start();
                } else {
                    rest = path.trim_start();
                }
                continue;
            }
            _ => plain(rest),
        };
        words.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    Ok(words)
}

fn fields(path: &str) -> Vec<String> {
    let parts = path.split('.').filter(|part| !part.is_empty());
    parts.map(str::to_owned).collect()
}

fn operand(word: &str) -> Result<Operand, String> {
    if word.starts_with('.') {
        return Ok(Operand::Path(Base::Dot, fields(word)));
    }
    if let Some(variable) = word.strip_prefix('$') {
        let (name, path) = variable.split_once('.').unwrap_or((variable, ""));
        return Ok(Operand::Path(Base::Variable(name.to_owned()), fields(path)));
    }
    if let Some(raw) = word.strip_prefix('`').and_then(|w| w.strip_suffix('`')) {
        return Ok(Operand::Literal(Value::String(raw.to_owned())));
    }
    match word {
        "nil" => return Ok(Operand::Literal(Value::Null)),
        "true" => return Ok(Operand::Literal(Value::Bool(true))),
        "false" => return Ok(Operand::Literal(Value::Bool(false))),
        _ => {}
    }
    if word.starts_with('"') {
        let text = serde_json::from_str(word).map_err(|_| format!("bad string {word}"))?;
        return Ok(Operand::Literal(text));
    }
    if word.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+') {
        let number = word.trim_start_matches('+').parse::<Number>();
        let number = number.map_err(|_| format!("bad number syntax: {word:?}"))?;
        return Ok(Operand::Literal(Value::Number(number)));
    }
    if super::functions::NAMES.contains(&word) {
        Ok(Operand::Function(word.to_owned()))
    } else {
        Err(format!("function {word:?} not defined"))
    }
}
