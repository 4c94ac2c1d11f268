//! Tars made byte by byte, as no honest program would make them.

/// A tar being made.
#[derive(Default, Clone)]
pub struct Tar(pub Vec<u8>);

/// What a header says.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    pub kind: u8,
    pub name: &'a [u8],
    pub link: &'a [u8],
    pub size: u64,
    pub mode: u32,
}

impl Default for Head<'_> {
    fn default() -> Self {
        Self {
            kind: b'0',
            name: b"file",
            link: b"",
            size: 0,
            mode: 0o644,
        }
    }
}

/// A header block.
pub fn block(head: Head<'_>) -> [u8; 512] {
    let mut block = [0; 512];
    block[..head.name.len()].copy_from_slice(head.name);
    block[100..108].copy_from_slice(format!("{:07o}\0", head.mode).as_bytes());
    block[108..124].copy_from_slice(b"0000000\x000000000\0");
    block[124..136].copy_from_slice(format!("{:011o}\0", head.size).as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = head.kind;
    block[157..157 + head.link.len()].copy_from_slice(head.link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    sealed(block)
}

/// The block with its checksum set.
pub fn sealed(mut block: [u8; 512]) -> [u8; 512] {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

impl Tar {
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn content(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        let padded = self.0.len().next_multiple_of(512);
        self.0.resize(padded, 0);
        self
    }

    pub fn file(self, name: &str, content: &[u8]) -> Self {
        let head = Head {
            name: name.as_bytes(),
            size: content.len() as u64,
            ..Head::default()
        };
        self.raw(&block(head)).content(content)
    }

    pub fn directory(self, name: &str) -> Self {
        self.entry(b'5', name, "")
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name, target)
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(b'1', name, target)
    }

    pub fn entry(self, kind: u8, name: &str, link: &str) -> Self {
        let head = Head {
            kind,
            name: name.as_bytes(),
            link: link.as_bytes(),
            mode: 0o755,
            ..Head::default()
        };
        self.raw(&block(head))
    }

    /// An extended header for the entry behind it.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let body: Vec<u8> = records
            .iter()
            .flat_map(|(key, value)| record(key, value))
            .collect();
        let head = Head {
            kind: b'x',
            name: b"pax",
            size: body.len() as u64,
            ..Head::default()
        };
        self.raw(&block(head)).content(&body)
    }

    /// The whole archive.
    pub fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }
}

/// `length key=value\n`, where the length counts itself.
pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest != length {
        length = length.to_string().len() + rest;
    }
    let mut record = format!("{length} {key}=").into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}
