//! Arithmetic of sequence numbers, which wrap (RFC 9293, section 3.4).

/// Whether `a` comes before `b`.
pub fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// How far `b` is behind `a`; `a` must not be before it.
pub fn distance(a: u32, b: u32) -> usize {
    a.wrapping_sub(b) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_goes_on_over_the_end() {
        for at in [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX] {
            let later = at.wrapping_add(1_000);
            assert!(before(at, later) && !before(later, at) && !before(at, at));
            assert_eq!(distance(later, at), 1_000);
        }
    }
}
