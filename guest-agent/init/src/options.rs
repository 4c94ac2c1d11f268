//! The command line: none in the guest, where the kernel may add words of its own.

use std::ffi::OsString;
use std::path::PathBuf;

/// How init runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// As the guest's first process.
    Guest,
    /// As the first process of a namespace on an ordinary system.
    Native(Native),
}

/// Where things are in native mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Native {
    /// Sockets, data and run directory.
    pub dir: PathBuf,
    /// The agent's program.
    pub agent: PathBuf,
    /// The program that enters containers, for the agent to know.
    pub enter: PathBuf,
}

/// A command line that makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// A word nobody knows.
    #[error("unknown option `{0}`")]
    Unknown(String),
    /// An option without its value.
    #[error("option `{0}` needs a value")]
    Value(&'static str),
}

/// Reads the words after the program's name.
///
/// Without `--native` as the first word they are ignored: the kernel passes on whatever it does
/// not know from its own command line.
pub fn parse(words: impl Iterator<Item = OsString>) -> Result<Mode, OptionError> {
    let mut words = words;
    if words.next().is_none_or(|first| first != "--native") {
        return Ok(Mode::Guest);
    }
    let (mut dir, mut agent, mut enter) = (None, None, None);
    while let Some(word) = words.next() {
        let (slot, name) = match word.to_str() {
            Some("--dir") => (&mut dir, "--dir"),
            Some("--agent") => (&mut agent, "--agent"),
            Some("--enter") => (&mut enter, "--enter"),
            _ => return Err(OptionError::Unknown(word.to_string_lossy().into_owned())),
        };
        *slot = Some(PathBuf::from(words.next().ok_or(OptionError::Value(name))?));
    }
    Ok(Mode::Native(Native {
        dir: dir.ok_or(OptionError::Value("--dir"))?,
        agent: agent.ok_or(OptionError::Value("--agent"))?,
        enter: enter.ok_or(OptionError::Value("--enter"))?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Mode, OptionError> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn words_of_the_kernel_are_ignored() {
        assert_eq!(parse_words(&[]), Ok(Mode::Guest));
        assert_eq!(parse_words(&["splash", "--native"]), Ok(Mode::Guest));
    }

    #[test]
    fn native_needs_all_its_paths() {
        let words = ["--native", "--dir", "/d", "--agent", "/a", "--enter", "/e"];
        let native = Native {
            dir: "/d".into(),
            agent: "/a".into(),
            enter: "/e".into(),
        };
        assert_eq!(parse_words(&words), Ok(Mode::Native(native)));
        assert_eq!(parse_words(&words[..5]), Err(OptionError::Value("--enter")));
        assert_eq!(parse_words(&words[..6]), Err(OptionError::Value("--enter")));
        let unknown = OptionError::Unknown("--dri".into());
        assert_eq!(parse_words(&["--native", "--dri", "/d"]), Err(unknown));
    }
}
