//! Words as a Dockerfile's shell reads them: quotes, backslashes and variables.

use crate::error::{Error, Result};

/// Splits at blanks outside quotes; quotes, closed or not, and backslashes stay for [`expand`].
pub(super) fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, letter) if letter.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), letter) if open == letter => quote = None,
            (None | Some('"'), '\\') => {
                word.push('\\');
                word.extend(letters.next());
                continue;
            }
            _ => {}
        }
        word.push(letter);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn unterminated(quote: char) -> Error {
    let name = match quote {
        '\'' => "single-quote",
        '"' => "double-quote",
        _ => return Error::invalid("syntax error: missing '}'"),
    };
    let text = "unexpected end of statement while looking for matching";
    Error::invalid(format!("{text} {name}"))
}

/// Takes quotes and backslashes away and puts variables in.
pub(super) fn expand(text: &str, environment: &[String]) -> Result<String> {
    let mut reader = Reader {
        letters: text.chars().collect(),
        at: 0,
        environment,
        depth: 0,
    };
    reader
        .until(None)
        .map_err(|error| Error::invalid(format!("failed to process {text:?}: {}", error.text())))
}

/// Variables within variables that are followed.
const DEPTH: u32 = 16;

struct Reader<'a> {
    letters: Vec<char>,
    at: usize,
    environment: &'a [String],
    depth: u32,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let letter = self.letters.get(self.at).copied();
        self.at += usize::from(letter.is_some());
        letter
    }

    fn peek(&self) -> Option<char> {
        self.letters.get(self.at).copied()
    }

    /// Up to `end`, which is taken, or to the end of the text.
    fn until(&mut self, end: Option<char>) -> Result<String> {
        let mut out = String::new();
        while let Some(letter) = self.next() {
            match letter {
                _ if Some(letter) == end => return Ok(out),
                '\'' => out.push_str(&self.single()?),
                '"' => out.push_str(&self.double()?),
                '\\' => out.extend(self.next()),
                '$' => out.push_str(&self.variable()?),
                _ => out.push(letter),
            }
        }
        match end {
            None => Ok(out),
            Some(end) => Err(unterminated(end)),
        }
    }

    fn single(&mut self) -> Result<String> {
        let mut out = String::new();
        loop {
            match self.next() {
                Some('\'') => return Ok(out),
                Some(letter) => out.push(letter),
                None => return Err(unterminated('\'')),
            }
        }
    }

    fn double(&mut self) -> Result<String> {
        let mut out = String::new();
        loop {
            match self.next() {
                Some('"') => return Ok(out),
                Some('$') => out.push_str(&self.variable()?),
                Some('\\') => match self.next() {
                    Some(letter @ ('"' | '$' | '\\')) => out.push(letter),
                    Some(letter) => out.extend(['\\', letter]),
                    None => return Err(unterminated('"')),
                },
                Some(letter) => out.push(letter),
                None => return Err(unterminated('"')),
            }
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(letter) = self.peek() {
            if !(letter.is_ascii_alphanumeric() || letter == '_') {
                break;
            }
            name.push(letter);
            self.at += 1;
        }
        name
    }

    fn value(&self, name: &str) -> Option<String> {
        let pairs = self.environment.iter();
        let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.to_owned())
    }

    /// What stands behind a dollar sign.
    fn variable(&mut self) -> Result<String> {
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() {
                "$".to_owned()
            } else {
                self.value(&name).unwrap_or_default()
            });
        }
        self.at += 1;
        let name = self.name();
        let value = self.value(&name);
        let filled = value.as_ref().is_some_and(|value| !value.is_empty());
        self.depth += 1;
        if name.is_empty() || self.depth > DEPTH {
            return Err(Error::invalid("syntax error: bad substitution"));
        }
        let expanded = match (self.next(), self.peek()) {
            (Some('}'), _) => value.unwrap_or_default(),
            (Some(':'), Some(sign @ ('-' | '+'))) => {
                self.at += 1;
                let other = self.until(Some('}'))?;
                match (sign, filled) {
                    ('-', true) => value.unwrap_or_default(),
                    ('-', false) | ('+', true) => other,
                    _ => String::new(),
                }
            }
            _ => return Err(Error::invalid("unsupported modifier in substitution")),
        };
        self.depth -= 1;
        Ok(expanded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_shells() {
        let environment = ["A=1".to_owned(), "EMPTY=".to_owned()];
        let said = |text: &str| expand(text, &environment).unwrap();
        for (text, expected) in [
            ("a$A-${A}b", "a1-1b"),
            ("'$A' \"$A\" \\$A", "$A 1 $A"),
            ("${EMPTY:-x}${A:-x}${A:+y}${NO:+z}", "x1y"),
            ("${NO:-a$A}", "a1"),
            ("\"\\\"\\n\"", "\"\\n"),
            ("$", "$"),
        ] {
            assert_eq!(said(text), expected, "{text}");
        }
        assert!(expand("${A", &environment).is_err());
        assert!(expand("'x", &environment).is_err());
        assert!(expand(&"${A:-".repeat(100), &environment).is_err());
        assert_eq!(split("a 'b c' d\\ e \"f"), ["a", "'b c'", "d\\ e", "\"f"]);
    }
}
