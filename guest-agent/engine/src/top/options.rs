//! The options of `ps`, in the two of its three languages that people use: `-ef` and `aux`.
//!
//! A container's processes are all that are shown, so options that select every process do
//! nothing, and those that select some are refused by name.

use super::columns::{Column, FORMATS};

/// What the options ask for.
#[derive(Debug)]
pub(super) struct View {
    pub(super) columns: Vec<Column>,
    /// Whether there is a line of headings.
    pub(super) headings: bool,
}

/// dockerd's own look at the options: no column but `pid` may be headed `PID…`.
pub(super) fn check(options: &str) -> Result<(), String> {
    // It looks only at words that follow a blank.
    let after = usize::from(!options.starts_with([' ', '\t']));
    let words = options.split_ascii_whitespace().skip(after);
    for word in words {
        if let Some((name, heading)) = word.rsplit_once('=')
            && heading.starts_with("PID")
            && name != "pid"
        {
            return Err(format!("specifying \"{name}={heading}\" is not allowed"));
        }
    }
    Ok(())
}

/// Flags that choose among the formats `ps` has ready.
#[derive(Debug, Default)]
struct Chosen {
    letters: Vec<char>,
    bsd: Option<char>,
    /// Whether anything was said in BSD's language, which has its own default.
    bsd_style: bool,
    own: Vec<Column>,
    names_only: bool,
    headless: bool,
}

/// Reads the options.
pub(super) fn parse(options: &str) -> Result<View, String> {
    let mut chosen = Chosen::default();
    let mut words = options.split(' ').filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--") {
            chosen.long(long, &mut words)?;
        } else if let Some(letters) = word.strip_prefix('-') {
            chosen.unix(letters, &mut words)?;
        } else {
            chosen.bsd(word, &mut words)?;
        }
    }
    chosen.view()
}

fn refused(option: &str) -> String {
    format!("ps: the option \"{option}\" is not supported")
}

impl Chosen {
    fn long<'a>(
        &mut self,
        word: &str,
        more: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), String> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        match name {
            "format" => {
                let value = value.or_else(|| more.next());
                self.format(value)
            }
            "no-headers" | "no-heading" | "noheaders" | "noheading" => {
                self.headless = true;
                Ok(())
            }
            "headers" | "cumulative" | "width" | "cols" | "columns" => Ok(()),
            _ => Err(refused(&format!("--{name}"))),
        }
    }

    fn unix<'a>(
        &mut self,
        letters: &str,
        more: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), String> {
        for (at, letter) in letters.char_indices() {
            match letter {
                'e' | 'A' | 'w' => {}
                'f' | 'F' | 'l' | 'j' | 'y' => self.letters.push(letter),
                'o' => {
                    let rest = &letters[at + 1..];
                    let value = if rest.is_empty() {
                        more.next()
                    } else {
                        Some(rest)
                    };
                    return self.format(value);
                }
                other => return Err(refused(&format!("-{other}"))),
            }
        }
        Ok(())
    }

    fn bsd<'a>(
        &mut self,
        letters: &str,
        more: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), String> {
        self.bsd_style = true;
        for (at, letter) in letters.char_indices() {
            match letter {
                'a' | 'x' | 'g' | 'w' => {}
                'u' | 'l' | 'j' | 's' | 'v' => self.bsd = Some(letter),
                'c' => self.names_only = true,
                'h' => self.headless = true,
                'o' => {
                    let rest = &letters[at + 1..];
                    let value = if rest.is_empty() {
                        more.next()
                    } else {
                        Some(rest)
                    };
                    return self.format(value);
                }
                'e' | 'f' | 'k' | 'm' | 'n' | 'p' | 'q' | 'r' | 't' | 'H' | 'L' | 'M' | 'N'
                | 'O' | 'S' | 'T' | 'U' | 'V' | 'X' | 'Z' => {
                    return Err(refused(&letter.to_string()));
                }
                _ => return Err("ps: error: unsupported option (BSD syntax)".into()),
            }
        }
        Ok(())
    }

    /// `pid,comm`, `user:20`, `cmd=HEADING`.
    fn format(&mut self, value: Option<&str>) -> Result<(), String> {
        let value = value.filter(|value| !value.is_empty());
        let value = value.ok_or("ps: error: format specification must follow -o")?;
        for item in value.strip_suffix(',').unwrap_or(value).split(',') {
            let (name, heading) = match item.split_once('=') {
                Some((name, heading)) => (name, Some(heading.to_owned())),
                None => (item, None),
            };
            let (name, width) = match name.split_once(':') {
                Some((name, width)) => (name, Some(width)),
                None => (name, None),
            };
            let known = Column::named(name).filter(|_| !name.starts_with('_'));
            let mut column = known.ok_or_else(|| {
                format!("ps: error: unknown user-defined format specifier \"{name}\"")
            })?;
            if let Some(width) = width {
                let width = width.parse().ok().filter(|width| *width > 0);
                column.width =
                    Some(width.ok_or("ps: error: column widths must be unsigned decimal numbers")?);
            }
            column.heading = heading;
            self.own.push(column);
        }
        Ok(())
    }

    fn view(self) -> Result<View, String> {
        let mut columns = if self.own.is_empty() {
            let format = self.ready()?;
            FORMATS
                .iter()
                .find(|(name, _)| *name == format)
                .map(|(_, columns)| *columns)
                .unwrap_or_default()
                .split(' ')
                .filter_map(Column::named)
                .collect::<Vec<_>>()
        } else {
            self.own
        };
        let headless = self.headless || columns.iter().all(|column| column.title().is_empty());
        // What is last may be as long as it is.
        if let Some(last) = columns.last_mut() {
            last.width = None;
        }
        if self.names_only {
            columns.iter_mut().for_each(Column::only_the_name);
        }
        Ok(View {
            columns,
            headings: !headless,
        })
    }

    /// The name of the ready format that the flags choose.
    fn ready(&self) -> Result<&'static str, String> {
        let has = |letter: char| self.letters.contains(&letter);
        if let Some(letter) = self.bsd {
            if !self.letters.is_empty() {
                return Err("ps: error: conflicting format options".into());
            }
            return Ok(match letter {
                'u' => "u",
                'l' => "l",
                'j' => "j",
                's' => "s",
                _ => "v",
            });
        }
        Ok(match (has('l'), has('F'), has('f'), has('j')) {
            (true, false, false, false) if has('y') => "-ly",
            (true, false, true, false) if has('y') => "-lfy",
            (true, false, false, false) => "-l",
            (true, false, true, false) => "-lf",
            (false, true, _, false) => "-F",
            (false, false, true, false) => "-f",
            (false, false, false, true) => "-j",
            (false, false, true, true) => "-jf",
            (false, false, false, false) if self.bsd_style => "bsd",
            (false, false, false, false) => "-",
            _ => return Err("ps: these formats are not supported together".into()),
        })
    }
}
