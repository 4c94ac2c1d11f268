//! The keys that let go of a container.

use crate::exit::CliError;

/// What became of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It ended.
    End,
    /// The keys were typed.
    Detach,
}

/// A sequence of keys, and how far it has been typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys {
    keys: Vec<u8>,
    typed: usize,
}

impl DetachKeys {
    /// Reads `ctrl-p,ctrl-q` and the like; nothing means that.
    pub fn parse(text: Option<&str>) -> Result<Self, CliError> {
        let text = text
            .filter(|text| !text.is_empty())
            .unwrap_or("ctrl-p,ctrl-q");
        let keys = text.split(',').map(key).collect::<Option<Vec<u8>>>();
        match keys {
            Some(keys) => Ok(Self { keys, typed: 0 }),
            None => Err(CliError::usage(format!("invalid detach keys ({text})"))
                .with_hint("write keys such as `ctrl-p,ctrl-q` or `ctrl-],x`")),
        }
    }

    /// Takes what was typed; what goes on to the container, and whether the sequence is whole.
    ///
    /// Keys that begin the sequence are held back until it is clear that it is none.
    pub fn pass(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(typed.len());
        for byte in typed {
            if self.keys.get(self.typed) == Some(byte) {
                self.typed += 1;
                if self.typed == self.keys.len() {
                    self.typed = 0;
                    return (out, true);
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.typed]);
            self.typed = 0;
            if self.keys.first() == Some(byte) {
                self.typed = 1;
            } else {
                out.push(*byte);
            }
        }
        (out, false)
    }
}

fn key(text: &str) -> Option<u8> {
    if let Some(name) = text.strip_prefix("ctrl-") {
        let [name] = name.as_bytes() else { return None };
        return match name {
            b'a'..=b'z' => Some(name - b'a' + 1),
            b'@' => Some(0),
            b'[' => Some(27),
            b'\\' => Some(28),
            b']' => Some(29),
            b'^' => Some(30),
            b'_' => Some(31),
            _ => None,
        };
    }
    match text.as_bytes() {
        [key] => Some(*key),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_lets_go_and_its_beginning_is_held_back() {
        let mut keys = DetachKeys::parse(None).unwrap();
        assert_eq!(keys.pass(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(keys.pass(b"x"), (b"\x10x".to_vec(), false));
        assert_eq!(keys.pass(b"\x10\x10\x11z"), (b"\x10".to_vec(), true));
    }

    #[test]
    fn sequences_are_read_as_docker_reads_them() {
        assert_eq!(
            DetachKeys::parse(Some("ctrl-],x")).unwrap().keys,
            [29, b'x']
        );
        assert!(DetachKeys::parse(Some("ctrl-")).is_err());
        assert!(DetachKeys::parse(Some("alt-x")).is_err());
    }
}
