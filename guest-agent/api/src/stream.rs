//! Docker's multiplexed stream: each piece of output behind eight bytes that say whose it is.

use lighter_engine::logs::StreamKind;

/// Appends `payload` as one frame.
pub(crate) fn frame(out: &mut Vec<u8>, kind: StreamKind, payload: &[&[u8]]) {
    let length: usize = payload.iter().map(|part| part.len()).sum();
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let tag = match kind {
        StreamKind::Stdout => 1,
        StreamKind::Stderr => 2,
    };
    out.extend_from_slice(&[tag, 0, 0, 0]);
    out.extend_from_slice(&length.to_be_bytes());
    payload.iter().for_each(|part| out.extend_from_slice(part));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_as_dockerd_sends_them() {
        let mut out = Vec::new();
        frame(&mut out, StreamKind::Stderr, &[b"2026 ", b"err\n"]);
        assert_eq!(out, b"\x02\0\0\0\0\0\0\x092026 err\n");
    }
}
