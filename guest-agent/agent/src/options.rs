//! The command line, which only init writes.

use std::ffi::OsString;
use std::path::PathBuf;

/// What init says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The inherited socket for requests to init.
    pub supervisor_fd: i32,
    /// The inherited socket for exits.
    pub events_fd: i32,
    /// Set in native mode: where everything is.
    pub native: Option<Native>,
}

/// Where things are in native mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Native {
    /// Sockets, data and run directory.
    pub dir: PathBuf,
    /// The program that enters containers.
    pub enter: PathBuf,
}

/// A command line that makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// A word nobody knows.
    #[error("unknown option `{0}`")]
    Unknown(String),
    /// An option without its value, or missing altogether.
    #[error("option `{0}` needs a value")]
    Value(&'static str),
    /// A value that is no descriptor.
    #[error("`{0}` is no descriptor")]
    Descriptor(String),
}

impl Options {
    /// Reads the words after the program's name.
    pub fn parse(words: impl Iterator<Item = OsString>) -> Result<Self, OptionError> {
        let mut words = words;
        let (mut supervisor, mut events, mut dir, mut enter) = (None, None, None, None);
        let mut native = false;
        while let Some(word) = words.next() {
            let (slot, name) = match word.to_str() {
                Some("--native") => {
                    native = true;
                    continue;
                }
                Some("--supervisor-fd") => (&mut supervisor, "--supervisor-fd"),
                Some("--events-fd") => (&mut events, "--events-fd"),
                Some("--dir") => (&mut dir, "--dir"),
                Some("--enter") => (&mut enter, "--enter"),
                _ => return Err(OptionError::Unknown(word.to_string_lossy().into_owned())),
            };
            *slot = Some(words.next().ok_or(OptionError::Value(name))?);
        }
        let path = |value: Option<OsString>, name| {
            value.map(PathBuf::from).ok_or(OptionError::Value(name))
        };
        Ok(Self {
            supervisor_fd: descriptor(supervisor, "--supervisor-fd")?,
            events_fd: descriptor(events, "--events-fd")?,
            native: if native {
                Some(Native {
                    dir: path(dir, "--dir")?,
                    enter: path(enter, "--enter")?,
                })
            } else {
                None
            },
        })
    }
}

fn descriptor(value: Option<OsString>, name: &'static str) -> Result<i32, OptionError> {
    let value = value
        .ok_or(OptionError::Value(name))?
        .to_string_lossy()
        .into_owned();
    value.parse().map_err(|_| OptionError::Descriptor(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_init_are_understood() {
        let parse = |line: &str| Options::parse(line.split(' ').map(OsString::from));
        let guest = Options {
            supervisor_fd: 3,
            events_fd: 4,
            native: None,
        };
        assert_eq!(parse("--supervisor-fd 3 --events-fd 4"), Ok(guest.clone()));
        let native = Native {
            dir: "/d".into(),
            enter: "/e".into(),
        };
        assert_eq!(
            parse("--supervisor-fd 3 --events-fd 4 --native --dir /d --enter /e"),
            Ok(Options {
                native: Some(native),
                ..guest
            })
        );
        assert_eq!(
            parse("--supervisor-fd 3"),
            Err(OptionError::Value("--events-fd"))
        );
        assert_eq!(
            parse("--supervisor-fd x --events-fd 4"),
            Err(OptionError::Descriptor("x".into()))
        );
        assert_eq!(
            parse("--supervisor-fd 3 --events-fd 4 --native --dir /d"),
            Err(OptionError::Value("--enter"))
        );
    }
}
