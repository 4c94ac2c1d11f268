//! Messages of the packet filter, as bytes: attributes in attributes, numbers with their highest byte first.
//!
//! Source: `linux/netlink.h`, `linux/netfilter/nfnetlink.h`.

/// That an attribute holds others.
const NESTED: u16 = 1 << 15;
/// Length of a message's header, and of the family, version and resource behind it.
const HEADERS: usize = 16 + 4;

/// A list of attributes.
#[derive(Debug, Default, Clone)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    /// Adds one of these bytes.
    pub fn bytes(&mut self, kind: u16, bytes: &[u8]) {
        let length = u16::try_from(4 + bytes.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Adds a text.
    pub fn text(&mut self, kind: u16, text: &str) {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes);
    }

    /// Adds a number.
    pub fn number(&mut self, kind: u16, number: u32) {
        self.bytes(kind, &number.to_be_bytes());
    }

    /// Adds a list.
    pub fn nested(&mut self, kind: u16, list: &Self) {
        self.bytes(kind | NESTED, &list.0);
    }
}

/// Adds a message to a batch.
pub(super) fn message(
    batch: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    (family, resource): (u8, u16),
    body: &Attributes,
) {
    let length = u32::try_from(HEADERS + body.0.len()).unwrap_or(u32::MAX);
    batch.extend_from_slice(&length.to_ne_bytes());
    batch.extend_from_slice(&kind.to_ne_bytes());
    batch.extend_from_slice(&flags.to_ne_bytes());
    batch.extend_from_slice(&sequence.to_ne_bytes());
    // The kernel knows who sends.
    batch.extend_from_slice(&0_u32.to_ne_bytes());
    batch.extend_from_slice(&[family, 0]);
    batch.extend_from_slice(&resource.to_be_bytes());
    batch.extend_from_slice(&body.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested() {
        let mut inner = Attributes::default();
        inner.text(1, "ab");
        inner.number(2, 7);
        let expected = [7, 0, 1, 0, b'a', b'b', 0, 0, 8, 0, 2, 0, 0, 0, 0, 7];
        assert_eq!(inner.0, expected);
        let mut outer = Attributes::default();
        outer.nested(4, &inner);
        assert_eq!(outer.0[..4], [20, 0, 4, 0x80]);
        let mut batch = Vec::new();
        message(&mut batch, 0x0a06, 5, 3, (1, 10), &inner);
        assert_eq!(batch.len(), 36);
        assert_eq!(batch[..8], [36, 0, 0, 0, 6, 10, 5, 0]);
        assert_eq!(batch[16..20], [1, 0, 0, 10]);
    }
}
