//! One FUSE request, from the guest's buffers to the reply in them.
//!
//! Most opcodes are decoded by fuse-backend-rs' server. Four are decoded here, for it lacks them: INIT
//! (with the flag that leaves setuid and setgid to this server), TMPFILE, COPY_FILE_RANGE and SYNCFS.
//!
//! Called by the device's workers, concurrently. A request that makes no sense is answered with EINVAL and
//! never ends the process: whoever wrote it may be the guest's worst program.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use fuse_backend_rs::abi::fuse_abi::{EntryOut, InHeader, Opcode};
use fuse_backend_rs::api::server::Server;
use fuse_backend_rs::transport::{Reader, Writer};
use rustix::io::Errno;
use vm_memory::ByteValued;
use vm_memory::bitmap::BitmapSlice;

use super::fs::{Caller, ShareFs};

const COPY_FILE_RANGE: u32 = 47;
const SYNCFS: u32 = 50;
const TMPFILE: u32 = 51;

/// FUSE 7.x is what is spoken; the minor number is Linux 6.6's, whose every addition is behind a flag.
const MAJOR: u32 = 7;
const MINOR: u32 = 38;

/// Longest read or write: 256 pages, with MAX_PAGES.
const MAX_TRANSFER: u32 = 1 << 20;
const MAX_PAGES: u16 = 256;

/// Mounts that are worth a line in the log.
const MAX_LOGGED: u32 = 16;

/// What is asked of the guest's kernel, by FUSE's flag bits.
mod flag {
    /// Reads of one file may be under way together.
    pub const ASYNC_READ: u64 = 1 << 0;
    /// O_TRUNC comes with OPEN.
    pub const ATOMIC_O_TRUNC: u64 = 1 << 3;
    /// Writes are longer than a page.
    pub const BIG_WRITES: u64 = 1 << 5;
    /// Pages of a file are dropped when its size or time turns out to be another.
    pub const AUTO_INVAL_DATA: u64 = 1 << 12;
    /// Direct reads and writes may be under way together.
    pub const ASYNC_DIO: u64 = 1 << 15;
    /// Lookups and listings in one directory may be under way together.
    pub const PARALLEL_DIROPS: u64 = 1 << 18;
    /// `max_pages` is meant.
    pub const MAX_PAGES: u64 = 1 << 22;
    /// This server takes setuid and setgid away, so that not every write asks for `security.capability`.
    pub const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    /// More flags stand in a word of their own.
    pub const INIT_EXT: u64 = 1 << 30;
    /// Mounts may map the owners of files. Requests then say who asks only where something is made,
    /// which is where this server wants to know: it is the guest's kernel that judges by owners.
    pub const ALLOW_IDMAP: u64 = 1 << 40;
}

/// Locks (POSIX_LOCKS, FLOCK_LOCKS) are the guest kernel's own, listings without attributes (READDIRPLUS)
/// are shorter as long as no attribute may be believed, and write-back caching waits for invalidation.
const WANTED: u64 = flag::ASYNC_READ
    | flag::ATOMIC_O_TRUNC
    | flag::BIG_WRITES
    | flag::AUTO_INVAL_DATA
    | flag::ASYNC_DIO
    | flag::PARALLEL_DIROPS
    | flag::MAX_PAGES
    | flag::HANDLE_KILLPRIV_V2
    | flag::INIT_EXT
    | flag::ALLOW_IDMAP;

/// Answers requests.
pub struct Service {
    fs: Arc<ShareFs>,
    /// Mounts that were logged: the guest decides how often it mounts, and the log is the host's disk.
    logged: AtomicU32,
    server: Server<Arc<ShareFs>>,
}

impl Service {
    /// A service of `fs`.
    pub fn new(fs: Arc<ShareFs>) -> Self {
        Self {
            server: Server::new(Arc::clone(&fs)),
            fs,
            logged: AtomicU32::new(0),
        }
    }

    /// Answers one request; returns the length of the reply, 0 where there is none.
    pub fn handle<S: BitmapSlice>(
        &self,
        reader: Reader<'_, S>,
        mut writer: Writer<'_, S>,
    ) -> usize {
        let mut rest = reader.clone();
        let Ok(header) = rest.read_obj::<InHeader>() else {
            return 0;
        };
        let answer = match header.opcode {
            op if op == Opcode::Init as u32 => self.init(&mut rest),
            COPY_FILE_RANGE => self.copy_file_range(&mut rest),
            SYNCFS => self.fs.sync_all().map(|()| Vec::new()),
            TMPFILE => self.unnamed_file(&header, &mut rest),
            _ => return self.delegate(&header, reader, writer),
        };
        reply(&mut writer, header.unique, answer)
    }

    fn delegate<S: BitmapSlice>(
        &self,
        header: &InHeader,
        reader: Reader<'_, S>,
        writer: Writer<'_, S>,
    ) -> usize {
        // The server takes the writer with it when it gives up on a malformed request without a reply.
        let spare = match &writer {
            Writer::VirtioFs(writer) => Some(writer.clone()),
            _ => None,
        };
        match (
            self.server.handle_message(reader, writer, None, None),
            spare,
        ) {
            (Ok(length), _) => length,
            (Err(_), Some(_)) if has_no_reply(header.opcode) => 0,
            (Err(_), Some(spare)) => reply(&mut spare.into(), header.unique, Err(Errno::INVAL)),
            (Err(_), None) => 0,
        }
    }

    fn init<S: BitmapSlice>(&self, request: &mut Reader<'_, S>) -> Result<Vec<u8>, Errno> {
        let [major, _minor, read_ahead, offered] = words::<4, S>(request)?;
        let mut offered = u64::from(offered);
        if major < MAJOR {
            return Err(Errno::PROTO);
        }
        // A mount begins: what an earlier one held is nobody's.
        self.fs.forget_all();
        if major > MAJOR {
            // The guest asks again in our version.
            return Ok(init_reply(0, 0));
        }
        if offered & flag::INIT_EXT != 0 {
            let [more] = words::<1, S>(request)?;
            offered |= u64::from(more) << 32;
        }
        if self
            .logged
            .fetch_update(Relaxed, Relaxed, |n| (n < MAX_LOGGED).then_some(n + 1))
            .is_ok()
        {
            tracing::info!(
                offered = format!("{offered:#x}"),
                "the guest mounts the shares"
            );
        }
        Ok(init_reply(read_ahead.min(MAX_TRANSFER), offered & WANTED))
    }

    fn unnamed_file<S: BitmapSlice>(
        &self,
        header: &InHeader,
        request: &mut Reader<'_, S>,
    ) -> Result<Vec<u8>, Errno> {
        let [flags, mode, _umask, _open_flags] = words::<4, S>(request)?;
        let who = Caller {
            uid: header.uid,
            gid: header.gid,
        };
        let (entry, handle) = self.fs.create_unnamed(who, header.nodeid, (flags, mode))?;
        let mut answer = EntryOut::from(entry).as_slice().to_vec();
        answer.extend(handle.to_ne_bytes());
        answer.extend([0; 8]);
        Ok(answer)
    }

    fn copy_file_range<S: BitmapSlice>(
        &self,
        request: &mut Reader<'_, S>,
    ) -> Result<Vec<u8>, Errno> {
        let mut body = [0; 56];
        request.read_exact(&mut body).map_err(|_| Errno::INVAL)?;
        let word = |index: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&body[index * 8..index * 8 + 8]);
            u64::from_ne_bytes(bytes)
        };
        if word(6) != 0 {
            return Err(Errno::INVAL);
        }
        let copied = self
            .fs
            .copy((word(0), word(1)), (word(3), word(4)), word(5))?;
        let mut answer = u32::try_from(copied)
            .map_err(|_| Errno::IO)?
            .to_ne_bytes()
            .to_vec();
        answer.extend([0; 4]);
        Ok(answer)
    }
}

fn has_no_reply(opcode: u32) -> bool {
    [
        Opcode::Forget as u32,
        Opcode::BatchForget as u32,
        Opcode::Interrupt as u32,
    ]
    .contains(&opcode)
}

fn words<const N: usize, S: BitmapSlice>(request: &mut Reader<'_, S>) -> Result<[u32; N], Errno> {
    let mut words = [0; N];
    for word in &mut words {
        let mut bytes = [0; 4];
        request.read_exact(&mut bytes).map_err(|_| Errno::INVAL)?;
        *word = u32::from_ne_bytes(bytes);
    }
    Ok(words)
}

/// `fuse_init_out`, 64 bytes.
fn init_reply(read_ahead: u32, flags: u64) -> Vec<u8> {
    let [low, high] = [flags as u32, (flags >> 32) as u32];
    // Requests the guest may have waiting, and from where on it slows down.
    let background: [u16; 2] = [64, 48];
    let mut answer = Vec::with_capacity(64);
    answer.extend(
        [MAJOR, MINOR, read_ahead, low]
            .into_iter()
            .flat_map(u32::to_ne_bytes),
    );
    answer.extend(background.into_iter().flat_map(u16::to_ne_bytes));
    // Longest write, granularity of times in nanoseconds.
    answer.extend([MAX_TRANSFER, 1].into_iter().flat_map(u32::to_ne_bytes));
    answer.extend([MAX_PAGES, 0].into_iter().flat_map(u16::to_ne_bytes));
    answer.extend(high.to_ne_bytes());
    answer.resize(64, 0);
    answer
}

fn reply<S: BitmapSlice>(
    writer: &mut Writer<'_, S>,
    unique: u64,
    answer: Result<Vec<u8>, Errno>,
) -> usize {
    let (error, body) = match answer {
        Ok(body) => (0, body),
        Err(error) => (-error.raw_os_error(), Vec::new()),
    };
    let length = 16 + body.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(error.to_ne_bytes());
    bytes.extend(unique.to_ne_bytes());
    bytes.extend(body);
    match writer.write_all(&bytes) {
        Ok(()) => length,
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_init_has_the_kernels_layout() {
        let answer = init_reply(0x1122, WANTED);
        assert_eq!(answer.len(), 64);
        assert_eq!(answer[..4], 7u32.to_ne_bytes());
        assert_eq!(answer[12..16], (WANTED as u32).to_ne_bytes());
        assert_eq!(answer[32..36], (1u32 << 8).to_ne_bytes());
        assert_eq!(answer[20..24], MAX_TRANSFER.to_ne_bytes());
        assert_eq!(answer[24..28], 1u32.to_ne_bytes());
        assert_eq!(answer[28..30], MAX_PAGES.to_ne_bytes());
    }
}
