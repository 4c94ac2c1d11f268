//! Sizes as people write them, read as dockerd reads them: `10m`, `1.5GiB`, plain bytes, in powers of 1024.
//!
//! Called for sizes of containers and of volumes.

/// Bytes of a size. What is larger than any disk is the largest number there is.
///
/// # Errors
///
/// What is wrong with it, in dockerd's words.
pub(crate) fn ram_in_bytes(text: &str) -> Result<u64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let last = text
        .rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')
        .ok_or_else(invalid)?;
    let (number, suffix) = text.split_at(last + 1);
    // One space may stand between them.
    let number = number.strip_suffix(' ').unwrap_or(number);
    let value: f64 = number
        .parse()
        .map_err(|_| format!("strconv.ParseFloat: parsing \"{number}\": invalid syntax"))?;
    if !value.is_finite() || value < 0.0 {
        return Err(invalid());
    }
    Ok((value * factor(suffix)?) as u64)
}

/// What a suffix multiplies by: none, `b`, or one of `kmgtp` with `b` or `ib` behind it.
fn factor(suffix: &str) -> Result<f64, String> {
    let lower = suffix.to_lowercase();
    let wrong = |suffix: &str| Err(format!("invalid suffix: '{suffix}'"));
    if suffix.len() > 3 {
        return wrong(suffix);
    }
    let mut letters = lower.chars();
    let power = match letters.next() {
        None => return Ok(1.0),
        Some('b') if lower.len() == 1 => return Ok(1.0),
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some('p') => 5,
        Some(_) => return wrong(&lower),
    };
    match letters.as_str() {
        "" | "b" | "ib" => Ok(1024_f64.powi(power)),
        _ => wrong(&lower),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockerds() {
        for (text, bytes) in [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32k", 32 << 10),
            ("32 kB", 32 << 10),
            ("32KiB", 32 << 10),
            ("1.5m", 3 << 19),
            (".5g", 1 << 29),
            ("1e3", 1000),
            ("2T", 2 << 40),
            ("2p", 2 << 50),
            ("+5", 5),
            ("1e300", u64::MAX),
        ] {
            assert_eq!(ram_in_bytes(text), Ok(bytes), "{text}");
        }
        for (text, words) in [
            ("", "invalid size: ''"),
            ("hello", "invalid size: 'hello'"),
            ("-32", "invalid size: '-32'"),
            ("1mm", "invalid suffix: 'mm'"),
            ("1MBB", "invalid suffix: 'mbb'"),
            ("1bb", "invalid suffix: 'bb'"),
            ("32ex", "invalid suffix: 'ex'"),
            ("1kilo", "invalid suffix: 'kilo'"),
            ("a1", "strconv.ParseFloat: parsing \"a1\": invalid syntax"),
            (" 32", "strconv.ParseFloat: parsing \" 32\": invalid syntax"),
            (
                "32 m ",
                "strconv.ParseFloat: parsing \"32 m\": invalid syntax",
            ),
        ] {
            assert_eq!(ram_in_bytes(text), Err(words.to_owned()), "{text}");
        }
    }
}
