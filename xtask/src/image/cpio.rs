//! Writes the archive that the kernel unpacks as its first root (cpio, "newc" format, documented with the kernel
//! in `Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! Owners are root and times zero, so that the same content gives the same bytes.

use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_000;
const LINK: u32 = 0o120_000;

/// An archive being written. Parents come before what lies in them.
pub struct Archive<W> {
    out: W,
    inode: u32,
    written: usize,
}

impl<W: Write> Archive<W> {
    /// Starts an archive.
    pub fn new(out: W) -> Self {
        Self {
            out,
            inode: 0,
            written: 0,
        }
    }

    /// Adds an empty folder.
    pub fn directory(&mut self, name: &str, mode: u32) -> io::Result<()> {
        self.entry(name, DIRECTORY | mode, (0, 0), &[])
    }

    /// Adds a regular file.
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entry(name, FILE | mode, (0, 0), content)
    }

    /// Adds a symbolic link.
    pub fn symbolic_link(&mut self, name: &str, target: &str) -> io::Result<()> {
        self.entry(name, LINK | 0o777, (0, 0), target.as_bytes())
    }

    /// Adds a character device.
    pub fn character_device(
        &mut self,
        name: &str,
        mode: u32,
        device: (u32, u32),
    ) -> io::Result<()> {
        self.entry(name, CHARACTER | mode, device, &[])
    }

    /// Writes the end mark.
    pub fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.out)
    }

    fn entry(
        &mut self,
        name: &str,
        mode: u32,
        device: (u32, u32),
        content: &[u8],
    ) -> io::Result<()> {
        let too_long = |_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name} is too large for cpio"),
            )
        };
        let size = u32::try_from(content.len()).map_err(too_long)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_long)?;
        self.inode += 1;
        let links = if mode & DIRECTORY == 0 { 1 } else { 2 };
        let mut header = String::from("070701");
        for field in [
            self.inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ] {
            header.push_str(&format!("{field:08x}"));
        }
        self.put(header.as_bytes())?;
        self.put(name.as_bytes())?;
        self.put(&[0])?;
        self.pad()?;
        self.put(content)?;
        self.pad()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len();
        self.out.write_all(bytes)
    }

    fn pad(&mut self) -> io::Result<()> {
        let gap = self.written.next_multiple_of(4) - self.written;
        self.put(&[0; 4][..gap])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_the_format_says() {
        let mut archive = Archive::new(Vec::new());
        archive.directory("dev", 0o755).expect("a folder");
        archive
            .character_device("dev/console", 0o600, (5, 1))
            .expect("a device");
        archive.file("init", 0o755, b"hello").expect("a file");
        let bytes = archive.finish().expect("an end");
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.starts_with("07070100000001000041ed"),
            "folder with mode 0755: {text:.60}"
        );
        let console = text.find("dev/console").expect("the device is there");
        let header = &text[console - 110..console];
        assert_eq!(&header[14..22], "00002180", "a character device, 0600");
        assert_eq!((&header[78..86], &header[86..94]), ("00000005", "00000001"));
        assert!(
            text.contains("init\0\0hello\0\0\0"),
            "name and content are padded to four bytes"
        );
        assert!(text.trim_end_matches('\0').ends_with("TRAILER!!!"));
    }
}
