//! The keys by which a person leaves a session that goes on: how clients write them, and where they are in
//! what was typed.
//!
//! Called by attach and exec, and by the sessions of `hijack`.

use crate::error::ApiError;

/// The keys that detach: `ctrl-p,ctrl-q` unless the client says otherwise.
pub(crate) fn keys(text: Option<&str>) -> Result<Vec<u8>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(vec![16, 17]);
    };
    let key = |word: &str| -> Option<u8> {
        if let [byte] = word.as_bytes() {
            return Some(*byte);
        }
        let letter = word.strip_prefix("ctrl-")?;
        match letter.as_bytes() {
            [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
            [b'@'] => Some(0),
            [b'['] => Some(27),
            [b'\\'] => Some(28),
            [b']'] => Some(29),
            [b'^'] => Some(30),
            [b'_'] => Some(31),
            _ => None,
        }
    };
    let keys = text.split(',').map(|word| {
        key(word)
            .ok_or_else(|| ApiError::bad_request(format!("Invalid detach keys ({text}) provided")))
    });
    keys.collect()
}

/// Takes the detach keys out of `bytes`. What may be their beginning is held back.
pub(crate) fn scan(held: &mut Vec<u8>, bytes: &[u8], keys: &[u8]) -> (Vec<u8>, bool) {
    if keys.is_empty() {
        return (bytes.to_vec(), false);
    }
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        held.push(*byte);
        while !held.is_empty() && !keys.starts_with(held) {
            out.push(held.remove(0));
        }
        if held.len() == keys.len() {
            return (out, true);
        }
    }
    (out, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_docker_writes_them() {
        assert_eq!(keys(None).unwrap(), [16, 17]);
        assert_eq!(keys(Some("ctrl-a,d,ctrl-@")).unwrap(), [1, b'd', 0]);
        assert!(keys(Some("ctrl-1")).is_err());
    }

    #[test]
    fn detach_keys_are_found_across_reads_and_let_others_pass() {
        let mut held = Vec::new();
        assert_eq!(
            scan(&mut held, b"ab\x10", &[16, 17]),
            (b"ab".to_vec(), false)
        );
        assert_eq!(
            scan(&mut held, b"\x10c", &[16, 17]),
            (b"\x10\x10c".to_vec(), false)
        );
        assert_eq!(
            scan(&mut held, b"x\x10\x11y", &[16, 17]),
            (b"x".to_vec(), true)
        );
        assert_eq!(
            scan(&mut Vec::new(), b"\x10\x11", &[]),
            (b"\x10\x11".to_vec(), false)
        );
    }
}
