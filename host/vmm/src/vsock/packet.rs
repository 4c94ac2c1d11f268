//! The header before every vsock packet (virtio 1.2, 5.10.6).

/// Its length in bytes.
pub const HEADER_LEN: usize = 44;
/// The context id of the host.
pub const HOST_CID: u64 = 2;
/// The only socket type carried: a stream.
pub const TYPE_STREAM: u16 = 1;

/// What a packet is for.
pub mod op {
    /// Open a stream.
    pub const REQUEST: u16 = 1;
    /// The stream is open.
    pub const RESPONSE: u16 = 2;
    /// There is no such stream (any more).
    pub const RST: u16 = 3;
    /// The sender will not receive or not send any more; see [`super::shut`].
    pub const SHUTDOWN: u16 = 4;
    /// Payload.
    pub const RW: u16 = 5;
    /// Nothing but the two credit fields.
    pub const CREDIT_UPDATE: u16 = 6;
    /// Asks for a credit update.
    pub const CREDIT_REQUEST: u16 = 7;
}

/// Flags of [`op::SHUTDOWN`], seen from its sender.
pub mod shut {
    /// It will not receive any more.
    pub const RECEIVE: u32 = 1;
    /// It will not send any more.
    pub const SEND: u32 = 2;
    /// Both.
    pub const BOTH: u32 = 3;
}

/// One header, in the host's byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Sender's context.
    pub src_cid: u64,
    /// Receiver's context.
    pub dst_cid: u64,
    /// Sender's port.
    pub src_port: u32,
    /// Receiver's port.
    pub dst_port: u32,
    /// Bytes of payload after the header.
    pub len: u32,
    /// Socket type.
    pub kind: u16,
    /// One of [`op`].
    pub op: u16,
    /// Flags by operation.
    pub flags: u32,
    /// The sender's whole buffer for this stream.
    pub buf_alloc: u32,
    /// How many bytes the sender has taken out of that buffer so far (wraps).
    pub fwd_cnt: u32,
}

impl Header {
    /// Reads a header as it lies in guest memory.
    #[must_use]
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Self {
        let mut rest = bytes.as_slice();
        let mut take = |n: usize| {
            let (head, tail) = rest.split_at(n);
            rest = tail;
            head.iter()
                .rev()
                .fold(0u64, |value, byte| value << 8 | u64::from(*byte))
        };
        // The casts cut nothing: each field was read at its own width.
        Self {
            src_cid: take(8),
            dst_cid: take(8),
            src_port: take(4) as u32,
            dst_port: take(4) as u32,
            len: take(4) as u32,
            kind: take(2) as u16,
            op: take(2) as u16,
            flags: take(4) as u32,
            buf_alloc: take(4) as u32,
            fwd_cnt: take(4) as u32,
        }
    }

    /// Writes the header as it lies in guest memory.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&self.src_cid.to_le_bytes());
        put(&self.dst_cid.to_le_bytes());
        put(&self.src_port.to_le_bytes());
        put(&self.dst_port.to_le_bytes());
        put(&self.len.to_le_bytes());
        put(&self.kind.to_le_bytes());
        put(&self.op.to_le_bytes());
        put(&self.flags.to_le_bytes());
        put(&self.buf_alloc.to_le_bytes());
        put(&self.fwd_cnt.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_lies_in_memory_as_the_standard_says() {
        let header = Header {
            src_cid: 3,
            dst_cid: HOST_CID,
            src_port: 0x0102_0304,
            dst_port: 1026,
            len: 0x1122,
            kind: TYPE_STREAM,
            op: op::RW,
            flags: shut::SEND,
            buf_alloc: 0x4_0000,
            fwd_cnt: 0xffff_fffe,
        };
        let golden: [u8; HEADER_LEN] = [
            3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, // contexts
            4, 3, 2, 1, 2, 4, 0, 0, // ports
            0x22, 0x11, 0, 0, 1, 0, 5, 0, 2, 0, 0, 0, // length, type, operation, flags
            0, 0, 4, 0, 0xfe, 0xff, 0xff, 0xff, // credit
        ];
        assert_eq!(header.encode(), golden);
        assert_eq!(Header::decode(&golden), header);
    }
}
