//! Random identifiers: 64 hexadecimal digits, as Docker's, and names for containers without one.

use crate::error::{Error, Result};

/// Digits of an id.
pub(crate) const LENGTH: usize = 64;

/// A new id of 64 hexadecimal digits.
pub fn new_id() -> Result<String> {
    loop {
        let mut bytes = [0u8; 32];
        fill(&mut bytes)?;
        let id = hex::encode(bytes);
        // A short id that is a decimal number is mistaken for one by tools that parse it; Docker
        // draws again in that case too.
        if id[..12].bytes().any(|digit| digit.is_ascii_alphabetic()) {
            return Ok(id);
        }
    }
}

/// The first twelve digits: what people see and type.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// A random number below `limit`.
pub(crate) fn below(limit: usize) -> Result<usize> {
    let mut bytes = [0u8; 8];
    fill(&mut bytes)?;
    let limit = limit.max(1) as u64;
    Ok(usize::try_from(u64::from_le_bytes(bytes) % limit).unwrap_or(0))
}

fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes)
        .map_err(|error| Error::internal("the system has no random numbers", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_64_hex_digits_and_differ() {
        let (a, b) = (new_id().unwrap(), new_id().unwrap());
        assert_eq!(a.len(), 64);
        assert!(
            a.bytes()
                .all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase())
        );
        assert_ne!(a, b);
        assert_eq!(short(&a).len(), 12);
    }
}
