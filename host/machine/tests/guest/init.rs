//! The guest's half of the machine's tests: an init that answers on vsock ports.
//!
//! Built by the tests with plain `rustc`, static, so it has no crates: the few system calls it needs
//! are declared below. It is the whole user space of its machine; a panic here is a kernel panic,
//! and the test sees it on the console.
//!
//! Ports: 10 echo, 11 duplex pattern, 12 half-close seen from the guest, 13 stalled reader, 14 its
//! release, 15 orders, 16 connects back to the host, 17 endless source, 18 echo for a crowd (one
//! thread for all its streams), 19 echo with the digest of what it heard, 20 records on the disk, 21 takes
//! all and tells how much, 22 a journal on the disk.

use std::{
    ffi::{c_int, c_ulong, c_void},
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::FileExt,
    },
    sync::{Condvar, Mutex},
    thread,
};

unsafe extern "C" {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn bind(fd: c_int, address: *const SockaddrVm, length: u32) -> c_int;
    fn connect(fd: c_int, address: *const SockaddrVm, length: u32) -> c_int;
    fn listen(fd: c_int, backlog: c_int) -> c_int;
    fn accept(fd: c_int, address: *mut c_void, length: *mut c_void) -> c_int;
    fn shutdown(fd: c_int, how: c_int) -> c_int;
    fn reboot(command: c_int) -> c_int;
    fn mount(
        source: *const u8,
        target: *const u8,
        kind: *const u8,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    fn epoll_create1(flags: c_int) -> c_int;
    fn epoll_ctl(epoll: c_int, operation: c_int, fd: c_int, event: *const EpollEvent) -> c_int;
    fn epoll_wait(epoll: c_int, events: *mut EpollEvent, max: c_int, timeout: c_int) -> c_int;
    fn setrlimit(resource: c_int, limit: *const [u64; 2]) -> c_int;
    fn sched_setaffinity(thread: c_int, size: usize, processors: *const u64) -> c_int;
    fn sched_getcpu() -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
}

const AF_VSOCK: c_int = 40;
const HOST: u32 = 2;
const ANY: u32 = u32::MAX;
const SHUT_WR: c_int = 1;

#[repr(C)]
struct SockaddrVm {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    flags: u8,
    zero: [u8; 3],
}

fn address(cid: u32, port: u32) -> SockaddrVm {
    SockaddrVm {
        family: AF_VSOCK as u16,
        reserved: 0,
        port,
        cid,
        flags: 0,
        zero: [0; 3],
    }
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn stream() -> io::Result<OwnedFd> {
    // SAFETY: plain numbers; the descriptor returned is owned by nobody else.
    unsafe {
        Ok(OwnedFd::from_raw_fd(check(socket(
            AF_VSOCK,
            1 | 0o2000000,
            0,
        ))?))
    }
}

fn connect_host(port: u32) -> io::Result<File> {
    let fd = stream()?;
    let to = address(HOST, port);
    // SAFETY: `to` is a whole address and outlives the call.
    check(unsafe { connect(fd.as_raw_fd(), &to, size_of::<SockaddrVm>() as u32) })?;
    Ok(File::from(fd))
}

fn listen_on(port: u32) -> io::Result<OwnedFd> {
    let fd = stream()?;
    let at = address(ANY, port);
    // SAFETY: `at` is a whole address and outlives the call; the rest are numbers.
    unsafe {
        check(bind(fd.as_raw_fd(), &at, size_of::<SockaddrVm>() as u32))?;
        check(listen(fd.as_raw_fd(), 4096))?;
    }
    Ok(fd)
}

fn serve(port: u32, handler: fn(File) -> io::Result<()>) {
    let listener = listen_on(port).expect("a port of our own");
    thread::spawn(move || {
        loop {
            // SAFETY: null pointers mean that the peer's address is not wanted.
            let fd = unsafe {
                accept(
                    listener.as_raw_fd(),
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                )
            };
            let Ok(fd) = check(fd) else { continue };
            // SAFETY: just accepted, owned by nobody else.
            let stream = unsafe { File::from_raw_fd(fd) };
            let spawned = thread::Builder::new().stack_size(96 << 10).spawn(move || {
                if let Err(error) = handler(stream) {
                    eprintln!("port {port}: {error}");
                }
            });
            if let Err(error) = spawned {
                eprintln!("no thread: {error}");
            }
        }
    });
}

fn half_close(stream: &File) {
    // SAFETY: an open socket and a number.
    unsafe { shutdown(stream.as_raw_fd(), SHUT_WR) };
}

fn echo(mut stream: File) -> io::Result<()> {
    let mut bytes = vec![0; 32 << 10];
    loop {
        let n = stream.read(&mut bytes)?;
        if n == 0 {
            // A close alone is a break to a client of TCP: it is reset, if all that was said has come by then.
            half_close(&stream);
            return Ok(());
        }
        stream.write_all(&bytes[..n])?;
    }
}

/// As the echo; at the end of the host's words it says the digest of them.
fn echo_with_digest(mut stream: File) -> io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    let mut digest = Digest::new();
    loop {
        let n = stream.read(&mut bytes)?;
        if n == 0 {
            return stream.write_all(&digest.value().to_le_bytes());
        }
        digest.add(&bytes[..n]);
        stream.write_all(&bytes[..n])?;
    }
}

/// The host's tests have the same: every byte and its place count, at the cost of a multiplication for eight.
struct Digest {
    sum: u64,
    rest: Vec<u8>,
}

impl Digest {
    fn new() -> Self {
        Self { sum: 0, rest: Vec::new() }
    }

    fn add(&mut self, mut bytes: &[u8]) {
        if !self.rest.is_empty() {
            let n = bytes.len().min(8 - self.rest.len());
            self.rest.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if self.rest.len() < 8 {
                return;
            }
            let whole = std::mem::take(&mut self.rest);
            self.words(&whole);
        }
        let whole = bytes.len() / 8 * 8;
        self.words(&bytes[..whole]);
        self.rest.extend_from_slice(&bytes[whole..]);
    }

    fn words(&mut self, bytes: &[u8]) {
        for word in bytes.chunks_exact(8) {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            self.sum = (self.sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
    }

    fn value(mut self) -> u64 {
        self.rest.resize(8, 0);
        let last = std::mem::take(&mut self.rest);
        self.words(&last);
        self.sum
    }
}

/// The same pattern on both sides: eight bytes a step of a multiplicative generator.
struct Pattern(u64);

impl Pattern {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Takes `[bytes, seed]`; sends that many of pattern `seed`, takes that many of pattern `!seed`,
/// both at once, then sends one verdict byte.
fn duplex(mut stream: File) -> io::Result<()> {
    let mut head = [0; 16];
    stream.read_exact(&mut head)?;
    let total = u64::from_le_bytes(head[..8].try_into().expect("eight bytes"));
    let seed = u64::from_le_bytes(head[8..].try_into().expect("eight bytes"));
    let mut writer = stream.try_clone()?;
    let sender = thread::Builder::new()
        .stack_size(96 << 10)
        .spawn(move || -> io::Result<()> {
            let mut pattern = Pattern(seed);
            let mut bytes = vec![0; 64 << 10];
            let mut left = total;
            while left > 0 {
                let n = left.min(bytes.len() as u64) as usize;
                pattern.fill(&mut bytes[..n]);
                writer.write_all(&bytes[..n])?;
                left -= n as u64;
            }
            Ok(())
        })?;
    let right = take_pattern(&mut stream, total, !seed)?;
    sender.join().expect("the sender does not panic")?;
    stream.write_all(&[u8::from(right)])
}

fn take_pattern(stream: &mut File, total: u64, seed: u64) -> io::Result<bool> {
    let mut pattern = Pattern(seed);
    let (mut bytes, mut expected) = (vec![0; 16 << 10], vec![0; 16 << 10]);
    let mut left = total;
    let mut right = true;
    while left > 0 {
        let n = left.min(bytes.len() as u64) as usize;
        stream.read_exact(&mut bytes[..n])?;
        pattern.fill(&mut expected[..n]);
        right &= bytes[..n] == expected[..n];
        left -= n as u64;
    }
    Ok(right)
}

/// Ends its own direction first, then reads to the end and tells the count over a stream that the
/// guest opens.
fn guest_half_close(mut stream: File) -> io::Result<()> {
    stream.write_all(b"guest speaks first")?;
    half_close(&stream);
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    connect_host(1026)?.write_all(&(bytes.len() as u64).to_le_bytes())
}

static RELEASED: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

fn stalled(mut stream: File) -> io::Result<()> {
    let mut released = RELEASED.0.lock().expect("not poisoned");
    while !*released {
        released = RELEASED.1.wait(released).expect("not poisoned");
    }
    drop(released);
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    stream.write_all(&(bytes.len() as u64).to_le_bytes())
}

fn release(_stream: File) -> io::Result<()> {
    *RELEASED.0.lock().expect("not poisoned") = true;
    RELEASED.1.notify_all();
    Ok(())
}

fn orders(mut stream: File) -> io::Result<()> {
    let mut order = [0];
    stream.read_exact(&mut order)?;
    match order[0] {
        b'c' => std::fs::write("/proc/sysrq-trigger", "c")?,
        b'e' => std::process::exit(7),
        // SAFETY: the number is LINUX_REBOOT_CMD_RESTART.
        b'r' => drop(check(unsafe { reboot(0x0123_4567) })?),
        b'w' => {
            fill_disk()?;
            stream.write_all(b"written")?;
        }
        order @ (b'W' | b'R') => stream.write_all(&timed(order)?)?,
        b'n' => println!("{}", "console noise ".repeat(200_000)),
        b'p' => stream.write_all(&processors()?)?,
        other => eprintln!("order {other} is unknown"),
    }
    Ok(())
}

/// Writes the first 16 MiB of the disk, to the disk itself, and reads them again.
fn fill_disk() -> io::Result<()> {
    let mut disk = File::options().read(true).write(true).open("/dev/vda")?;
    let bytes: Vec<u8> = (0..16 << 20).map(|n: u32| (n % 253) as u8).collect();
    disk.write_all(&bytes)?;
    disk.sync_all()?;
    // Nothing of it may come from the page cache.
    std::fs::write("/proc/sys/vm/drop_caches", "3")?;
    let mut again = vec![0; bytes.len()];
    io::Seek::rewind(&mut disk)?;
    disk.read_exact(&mut again)?;
    if again == bytes { Ok(()) } else { Err(io::Error::other("the disk forgot")) }
}

/// Has every processor work at once, each its own thread; the numbers of those that did.
fn processors() -> io::Result<Vec<u8>> {
    let all = thread::available_parallelism()?.get() as u8;
    let threads: Vec<_> = (0..all).map(|number| thread::spawn(move || work_on(number))).collect();
    threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
}

fn work_on(number: u8) -> io::Result<u8> {
    // SAFETY: a set of as many bytes as is said, of the calling thread.
    check(unsafe { sched_setaffinity(0, 8, &(1 << number)) })?;
    let mut bytes = vec![0; 1 << 20];
    Pattern(number.into()).fill(&mut bytes);
    std::hint::black_box(&bytes);
    // SAFETY: it takes nothing.
    Ok(unsafe { sched_getcpu() } as u8)
}

const RECORD: u64 = 4096;

/// Takes `w` and a seed, and writes record after record of it, each acknowledged when it is on the disk; or `r`, a seed
/// and a count, and tells which record is the first that is not there: the count, if all are.
fn records(mut stream: File) -> io::Result<()> {
    let mut disk = File::options().read(true).write(true).open("/dev/vda")?;
    let size = io::Seek::seek(&mut disk, io::SeekFrom::End(0))?;
    io::Seek::rewind(&mut disk)?;
    let mut head = [0; 17];
    stream.read_exact(&mut head)?;
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let (seed, count) = (number(1), number(9).min(size / RECORD));
    let (mut found, mut expected) = ([0; RECORD as usize], [0; RECORD as usize]);
    for record in 0..count {
        Pattern(seed ^ record).fill(&mut expected);
        if head[0] == b'w' {
            disk.write_all(&expected)?;
            disk.sync_data()?;
            stream.write_all(&record.to_le_bytes())?;
            continue;
        }
        disk.read_exact(&mut found)?;
        if found != expected {
            return stream.write_all(&record.to_le_bytes());
        }
    }
    stream.write_all(&count.to_le_bytes())
}

/// Bytes of a block of a journal, the blocks of one of its records, and how many records it keeps.
const BLOCK: u64 = 4096;
const BLOCKS: u64 = 4;
const KEPT: u64 = 7;

/// Takes its number and a seed, and then a byte for each record: writes its blocks, which are far from each other, and
/// when they are on the disk its number into the journal's first block, and acknowledges it when that is. The fourth of
/// four records is of zeroes, and the second is written where the disk was told that nothing is wanted any more.
fn journal(mut stream: File) -> io::Result<()> {
    let disk = File::options().read(true).write(true).open("/dev/vda")?;
    let mut head = [0; 16];
    stream.read_exact(&mut head)?;
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let (start, seed) = (number(0) * (1 + BLOCKS * KEPT) * BLOCK, number(8));
    let mut bytes = [0; BLOCK as usize];
    let mut record = 0_u64;
    while stream.read(&mut [0])? == 1 {
        record += 1;
        for block in 0..BLOCKS {
            let at = start + (1 + block * KEPT + record % KEPT) * BLOCK;
            if record % 4 == 0 {
                range(&disk, BLKZEROOUT, at)?;
                continue;
            }
            if record % 4 == 2 {
                range(&disk, BLKDISCARD, at)?;
            }
            Pattern(seed ^ record << 8 ^ block).fill(&mut bytes);
            disk.write_all_at(&bytes, at)?;
        }
        disk.sync_data()?;
        disk.write_all_at(&record.to_le_bytes(), start)?;
        disk.sync_data()?;
        stream.write_all(&record.to_le_bytes())?;
    }
    Ok(())
}

/// `_IO(0x12, 119)` and `_IO(0x12, 127)`: a range of a disk is not wanted, or is to be zeroes.
const BLKDISCARD: c_ulong = 0x1277;
const BLKZEROOUT: c_ulong = 0x127f;

/// Has the disk do that with a block.
fn range(disk: &File, what: c_ulong, at: u64) -> io::Result<()> {
    // SAFETY: an open disk, and a whole range that outlives the call.
    check(unsafe { ioctl(disk.as_raw_fd(), what, &[at, BLOCK]) })?;
    Ok(())
}

/// Bytes that the disk is timed with.
const TIMED: usize = 64 << 20;

/// Writes the disk's first bytes and has them there, or reads them; how many, and in how many nanoseconds.
fn timed(order: u8) -> io::Result<[u8; 16]> {
    let mut disk = File::options().read(true).write(true).open("/dev/vda")?;
    let mut bytes = vec![0x5a; 1 << 20];
    std::fs::write("/proc/sys/vm/drop_caches", "3")?;
    let start = std::time::Instant::now();
    for _ in 0..TIMED / bytes.len() {
        match order {
            b'W' => disk.write_all(&bytes)?,
            _ => disk.read_exact(&mut bytes)?,
        }
    }
    if order == b'W' {
        disk.sync_all()?;
    }
    let mut answer = [0; 16];
    answer[..8].copy_from_slice(&(TIMED as u64).to_le_bytes());
    answer[8..].copy_from_slice(&(start.elapsed().as_nanos() as u64).to_le_bytes());
    Ok(answer)
}

/// Takes a host port, connects there, and passes on what it reads; a refusal closes the stream.
fn connect_back(mut stream: File) -> io::Result<()> {
    let mut port = [0; 4];
    stream.read_exact(&mut port)?;
    let mut bytes = Vec::new();
    match connect_host(u32::from_le_bytes(port)) {
        Ok(mut host) => {
            host.write_all(b"guest calls")?;
            half_close(&host);
            host.read_to_end(&mut bytes)?;
        }
        Err(error) => bytes.extend_from_slice(format!("refused: {:?}", error.kind()).as_bytes()),
    }
    stream.write_all(&bytes)
}

fn sink(mut stream: File) -> io::Result<()> {
    let mut bytes = vec![0; 128 << 10];
    let mut total = 0_u64;
    loop {
        let n = stream.read(&mut bytes)?;
        if n == 0 {
            return stream.write_all(&total.to_le_bytes());
        }
        total += n as u64;
    }
}

fn source(mut stream: File) -> io::Result<()> {
    let bytes = vec![b's'; 64 << 10];
    while stream.write_all(&bytes).is_ok() {}
    Ok(())
}

#[derive(Clone, Copy)]
#[repr(C, packed)]
struct EpollEvent {
    events: u32,
    data: u64,
}

/// Small messages of any number of streams; what is read at once is written at once.
fn crowd(listener: &OwnedFd) {
    // SAFETY: a number.
    let epoll = check(unsafe { epoll_create1(0) }).expect("an epoll set");
    let add = |fd: c_int| {
        let event = EpollEvent { events: 1, data: fd as u64 };
        // SAFETY: open descriptors and a whole event.
        check(unsafe { epoll_ctl(epoll, 1, fd, &event) }).expect("room in the epoll set");
    };
    add(listener.as_raw_fd());
    let mut events = [EpollEvent { events: 0, data: 0 }; 64];
    let mut bytes = [0; 4096];
    loop {
        // SAFETY: room for as many events as is said.
        let n = check(unsafe { epoll_wait(epoll, events.as_mut_ptr(), 64, -1) }).unwrap_or(0);
        for event in &events[..n as usize] {
            let fd = event.data as c_int;
            if fd == listener.as_raw_fd() {
                // SAFETY: null pointers mean that the peer's address is not wanted.
                let fd = unsafe { accept(fd, std::ptr::null_mut(), std::ptr::null_mut()) };
                if fd >= 0 {
                    add(fd);
                }
                continue;
            }
            // SAFETY: only this thread owns the streams of this set.
            let mut stream = unsafe { File::from_raw_fd(fd) };
            let n = stream.read(&mut bytes).unwrap_or(0);
            if n > 0 && stream.write_all(&bytes[..n]).is_ok() {
                // It stays open: the set owns it on.
                std::mem::forget(stream);
            }
        }
    }
}

fn mount_at(kind: &std::ffi::CStr, target: &std::ffi::CStr) {
    let path = target.to_str().expect("a plain name");
    std::fs::create_dir_all(path).expect("the root is writable");
    // SAFETY: three strings with an end, and no data.
    unsafe {
        mount(kind.as_ptr().cast(), target.as_ptr().cast(), kind.as_ptr().cast(), 0, std::ptr::null());
    }
}

fn main() {
    mount_at(c"proc", c"/proc");
    mount_at(c"devtmpfs", c"/dev");
    // SAFETY: RLIMIT_NOFILE and a whole limit.
    unsafe { setrlimit(7, &[65_536, 65_536]) };
    serve(10, echo);
    serve(11, duplex);
    serve(12, guest_half_close);
    serve(13, stalled);
    serve(14, release);
    serve(16, connect_back);
    serve(17, source);
    serve(19, echo_with_digest);
    serve(20, records);
    serve(21, sink);
    serve(22, journal);
    let listener = listen_on(18).expect("a port of our own");
    thread::spawn(move || crowd(&listener));
    // Last: whoever reaches the orders finds all others.
    serve(15, orders);
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    println!("guest: up after {}", uptime.trim());
    loop {
        thread::park();
    }
}
