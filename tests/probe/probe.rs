//! What a hostile program in a container tries. Built static, put into a container by the tests.
//!
//! Prints one line an attempt: the attempt, `open` or the error's number.

mod sweep;

use std::arch::asm;
use std::ffi::{c_int, c_long, c_void};
use std::io::{Error, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

unsafe extern "C" {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn connect(socket: c_int, address: *const c_void, length: u32) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn mmap(at: *mut c_void, length: usize, protection: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
}

const AF_VSOCK: c_int = 40;
const AF_ALG: c_int = 38;
const SOCK_STREAM: c_int = 1;
const SOCK_SEQPACKET: c_int = 5;
const SYS_SOCKET: c_long = 41;
const SYS_BPF: c_long = 321;
const SYS_USERFAULTFD: c_long = 323;
const SYS_KEXEC_LOAD: c_long = 246;
const SYS_INIT_MODULE: c_long = 175;
const X32: c_long = 0x4000_0000;
const I386_SOCKETCALL: u32 = 102;
const I386_SOCKET: u32 = 359;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |at: usize| args.get(at).map_or("", String::as_str);
    match arg(0) {
        "sockets" => sockets(),
        "syscalls" => syscalls(),
        "descriptors" => descriptors(),
        "find" => find(arg(1), args.get(2..).unwrap_or_default()),
        "vsock" => vsock(arg(1).parse().unwrap_or(0)),
        "connect" => reach(arg(1)),
        "watch" => watch(arg(1)),
        "ping" => ping(arg(1)),
        "projects" => projects(arg(1)),
        "leave" => leave(arg(1)),
        "sweep" => sweep::sweep(arg(1), arg(2)),
        "serve" => sweep::serve(arg(1).parse().unwrap_or(0)),
        "listening" => sweep::listening(),
        "answer" => answer(arg(1)),
        "part" => part(arg(1)),
        other => println!("unknown probe {other}"),
    }
}

/// Answers datagrams with who sent them and how long they were.
fn answer(port: &str) {
    let port = port.parse().unwrap_or(0);
    let Ok(socket) = std::net::UdpSocket::bind(("0.0.0.0", port)) else {
        println!("no socket");
        return;
    };
    println!("ready");
    let mut buffer = vec![0; 1 << 16];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        // Whoever asked may have gone.
        let _ = socket.send_to(format!("{} {length}", from.ip()).as_bytes(), from);
    }
}

/// Breaks off a connection on which it is told `part`, behind half an answer; of one on which it is told `stay`, it says
/// what came and how it ended.
fn part(port: &str) {
    use std::io::{Read as _, Write as _};
    let port = port.parse().unwrap_or(0);
    let Ok(server) = std::net::TcpListener::bind(("0.0.0.0", port)) else {
        println!("no socket");
        return;
    };
    println!("ready");
    while let Ok((mut stream, _)) = server.accept() {
        let mut said = vec![0; 4];
        if stream.read_exact(&mut said).is_err() {
            continue;
        }
        if said == b"part" {
            // With something unread, its close is a reset.
            let _ = stream.peek(&mut [0]);
            let _ = stream.write_all(b"half");
            continue;
        }
        let end = match stream.read_to_end(&mut said) {
            Ok(_) => "end",
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => "reset",
            Err(_) => "another error",
        };
        println!("{}: {end}", String::from_utf8_lossy(&said));
    }
}

fn say(attempt: &str, result: c_long) {
    if result >= 0 {
        println!("{attempt} open");
    } else {
        println!("{attempt} {}", Error::last_os_error().raw_os_error().unwrap_or(0));
    }
}

/// The families that reach the host or the kernel's ciphers, by every way to ask for a socket.
fn sockets() {
    for (name, family, kind) in [("vsock", AF_VSOCK, SOCK_STREAM), ("alg", AF_ALG, SOCK_SEQPACKET)] {
        // SAFETY: plain system calls with constant arguments.
        unsafe {
            say(name, socket(family, kind, 0).into());
            say(&format!("{name} x32"), syscall(SYS_SOCKET | X32, family, kind, 0));
        }
        say_raw(&format!("{name} i386"), int80(I386_SOCKET, family as u32, kind as u32));
        say_raw(&format!("{name} socketcall"), socketcall(family, kind));
    }
    // The way that has to stay open, or the ones above prove nothing.
    say_raw("unix socketcall", socketcall(1, SOCK_STREAM));
}

fn say_raw(attempt: &str, result: i32) {
    if result >= 0 {
        println!("{attempt} works");
    } else {
        println!("{attempt} {}", -result);
    }
}

/// `socket` as old 32-bit C libraries call it: number 1 of `socketcall`, arguments in memory.
fn socketcall(family: c_int, kind: c_int) -> i32 {
    const READ_WRITE: c_int = 3;
    const PRIVATE_ANONYMOUS_32BIT: c_int = 0x62;
    // SAFETY: a fresh mapping below 4 GiB, where a 32-bit call can name it, large enough for three words.
    let arguments = unsafe {
        let page = mmap(std::ptr::null_mut(), 4096, READ_WRITE, PRIVATE_ANONYMOUS_32BIT, -1, 0).cast::<i32>();
        assert!(page as usize != usize::MAX, "no page below 4 GiB");
        page.write(family);
        page.add(1).write(kind);
        page.add(2).write(0);
        page as usize as u32
    };
    int80(I386_SOCKETCALL, 1, arguments)
}

/// A system call as a 32-bit program makes it; the third argument is 0.
fn int80(number: u32, first: u32, second: u32) -> i32 {
    let result: i32;
    // SAFETY: the kernel keeps every register but eax, and r8 to r11; rbx is put back.
    unsafe {
        asm!(
            "push rbx",
            "mov ebx, {first:e}",
            "int 0x80",
            "pop rbx",
            first = in(reg) first,
            inlateout("eax") number as i32 => result,
            in("ecx") second,
            in("edx") 0,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
        );
    }
    result
}

fn syscalls() {
    // SAFETY: each call has arguments that can do no harm if it is let through.
    unsafe {
        say("bpf", syscall(SYS_BPF, 0, 0, 0));
        say("userfaultfd", syscall(SYS_USERFAULTFD, 0));
        say("kexec_load", syscall(SYS_KEXEC_LOAD, 0, 0, 0, 0));
        say("init_module", syscall(SYS_INIT_MODULE, 0, 0, 0));
    }
}

/// The projects of a file system that have files or a limit: number, files, limit in KiB.
fn projects(path: &str) {
    const SYS_QUOTACTL_FD: c_long = 443;
    const NEXT_OF_PROJECTS: c_int = 0x80_0009 << 8 | 2;
    let disk = match std::fs::File::open(path) {
        Ok(disk) => disk,
        Err(error) => return println!("{error}"),
    };
    let mut from = 1;
    loop {
        let mut entry = [0u64; 9];
        // SAFETY: the kernel writes a `struct if_nextdqblk`, which is as large as these nine words.
        let found = unsafe { syscall(SYS_QUOTACTL_FD, disk.as_raw_fd(), NEXT_OF_PROJECTS, from, entry.as_mut_ptr()) };
        if found < 0 {
            return println!("end {}", Error::last_os_error().raw_os_error().unwrap_or(0));
        }
        let project = (entry[8] >> 32) as u32;
        println!("{project} files {} limit {}", entry[5], entry[0]);
        from = project + 1;
    }
}

/// Takes a file out of its project.
fn leave(path: &str) {
    const SYS_IOCTL: c_long = 16;
    const GET_ATTRIBUTES: c_long = 0x801c_581f;
    const SET_ATTRIBUTES: c_long = 0x401c_5820;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) => return println!("{error}"),
    };
    let mut attributes = [0u32; 7];
    // SAFETY: the kernel writes and reads a `struct fsxattr`, which is as large as these seven words.
    unsafe {
        say("project", syscall(SYS_IOCTL, file.as_raw_fd(), GET_ATTRIBUTES, attributes.as_mut_ptr()));
        let had = std::mem::replace(&mut attributes[3], 0);
        println!("{}", if had == 0 { "none" } else { "one" });
        say("leave", syscall(SYS_IOCTL, file.as_raw_fd(), SET_ATTRIBUTES, attributes.as_ptr()));
    }
}

fn descriptors() {
    let mut open: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().to_string_lossy().parse().ok())
        .collect();
    open.sort_unstable();
    // The last one is the folder just read.
    open.pop();
    println!("{open:?}");
}

/// `struct sockaddr_vm`.
#[repr(C)]
struct VsockAddress {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    flags: u8,
    zero: [u8; 3],
}

/// Tries every CID that means somebody, at `ports` ports and some high ones; what answers at all is
/// asked without the secret. One line a CID: how many ports took a connection, and what they said.
fn vsock(ports: u32) {
    const EXTRA: [u32; 4] = [0x7fff_ffff, 0x8000_0000, 0xdead_beef, u32::MAX - 1];
    for cid in [0, 1, 2, 3] {
        let (mut taken, mut said, mut refusals) = (vec![], String::new(), vec![]);
        // Only the host's device answers at once; for nobody each attempt takes two seconds.
        let (ports, extra) = if cid == 2 { (ports, &EXTRA[..]) } else { (ports.min(1), &EXTRA[..1]) };
        for port in (1..=ports).chain(extra.iter().copied()) {
            match vsock_stream(cid, port) {
                Ok(stream) => {
                    taken.push(port);
                    said.push_str(&ask(stream));
                }
                Err(error) => refusals.push(error),
            }
        }
        refusals.sort_unstable();
        refusals.dedup();
        println!("cid {cid} taken {taken:?} said {said:?} refused {refusals:?}");
    }
}

fn vsock_stream(cid: u32, port: u32) -> Result<OwnedFd, i32> {
    let failed = || Error::last_os_error().raw_os_error().unwrap_or(0);
    let address = VsockAddress { family: AF_VSOCK as u16, reserved: 0, port, cid, flags: 0, zero: [0; 3] };
    // SAFETY: the address lives until the call returns and has the length given; the descriptor was
    // returned a moment ago and belongs to nobody else.
    unsafe {
        let number = socket(AF_VSOCK, SOCK_STREAM, 0);
        if number < 0 {
            return Err(failed());
        }
        let fd = OwnedFd::from_raw_fd(number);
        let at = (&raw const address).cast();
        if connect(number, at, size_of::<VsockAddress>() as u32) == 0 { Ok(fd) } else { Err(failed()) }
    }
}

/// What comes back to a request that lacks the secret.
fn ask(stream: OwnedFd) -> String {
    let mut stream = std::fs::File::from(stream);
    let _ = stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n");
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Looks for secrets, given as hexadecimal digits of their bytes XOR 0x5a and parted by commas so that
/// this program's own arguments do not hold them, in everything below `roots` that can be read, as bytes
/// and as digits. Says which of them (from 0) is where.
fn find(disguised: &str, roots: &[String]) {
    let needles: Vec<Vec<u8>> = disguised.split(',').flat_map(forms).collect();
    let mut looked = Looked::default();
    for root in roots {
        looked.walk(Path::new(root), &needles);
    }
    println!(
        "looked into {} files, {} command lines, {} environments, {} bytes of disks, {} bytes of the log",
        looked.files, looked.commands, looked.environments, looked.disks, looked.log
    );
}

/// The forms in which a secret may be written down.
fn forms(disguised: &str) -> [Vec<u8>; FORMS] {
    let digit = |at: usize| disguised.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Vec<u8> = (0..disguised.len()).step_by(2).filter_map(digit).map(|b| b ^ 0x5a).collect();
    assert!(bytes.len() >= 16, "no secret to look for");
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    [bytes, hex.into_bytes()]
}

const FORMS: usize = 2;

#[derive(Default)]
struct Looked {
    files: usize,
    commands: usize,
    environments: usize,
    disks: usize,
    log: usize,
}

impl Looked {
    fn walk(&mut self, root: &Path, needles: &[Vec<u8>]) {
        let mut open = vec![root.to_owned()];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                let Ok(kind) = entry.file_type() else { continue };
                let path = entry.path();
                if kind.is_dir() {
                    if !skipped(&path) {
                        open.push(path);
                    }
                } else if kind.is_file() && !skipped(&path) {
                    self.file(&path, needles);
                } else if kind.is_block_device() {
                    let read = search(&path, 8 << 20, needles);
                    self.disks += read;
                } else if kind.is_char_device() && entry.metadata().is_ok_and(|m| m.rdev() == 0x10b) {
                    // /dev/kmsg, whatever its name.
                    self.log += search(&path, 16 << 20, needles);
                }
            }
        }
    }

    fn file(&mut self, path: &Path, needles: &[Vec<u8>]) {
        let limit = if of_kernel(path) { 1 << 20 } else { 64 << 20 };
        if search(path, limit, needles) > 0 {
            self.files += 1;
            self.commands += usize::from(path.ends_with("cmdline"));
            self.environments += usize::from(path.ends_with("environ"));
        }
    }
}

/// What is memory and no file, would never end, or is reached by another name.
fn skipped(path: &Path) -> bool {
    let names = ["task", "map_files", "fd", "mem", "pagemap", "kcore", "kmsg", "clear_refs", "trace_pipe", "kpagecount", "kpageflags", "kpagecgroup", "smaps", "smaps_rollup", "numa_maps", "net"];
    of_kernel(path) && names.iter().any(|name| path.ends_with(name))
}

/// Below a `/proc` or `/sys`, this container's or (through `/proc/1/root`) the machine's.
fn of_kernel(path: &Path) -> bool {
    path.strip_prefix("/proc/1/root").is_ok_and(|rest| rest.starts_with("proc") || rest.starts_with("sys"))
        || (!path.starts_with("/proc/1/root") && (path.starts_with("/proc") || path.starts_with("/sys")))
}

/// Reads a file in pieces that overlap; says where a needle is, returns how much was read.
fn search(path: &Path, limit: usize, needles: &[Vec<u8>]) -> usize {
    const NONBLOCK: i32 = 0o4000;
    let Ok(mut file) = std::fs::OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path) else {
        return 0;
    };
    let longest = needles.iter().map(Vec::len).max().unwrap_or(0);
    let (mut window, mut piece, mut total) = (vec![], vec![0; 1 << 16], 0);
    while total < limit {
        let Ok(count @ 1..) = file.read(&mut piece) else { break };
        total += count;
        window.extend_from_slice(&piece[..count]);
        for (at, _) in needles.iter().enumerate().filter(|(_, needle)| contains(&window, needle)) {
            println!("found {} in {}", at / FORMS, path.display());
        }
        window.drain(..window.len().saturating_sub(longest));
    }
    total
}

/// By the rarest first byte a needle can have: a naive search over megabytes takes minutes here.
fn contains(window: &[u8], needle: &[u8]) -> bool {
    let Some(first) = needle.first() else { return false };
    let mut rest = window;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// Asks whoever listens on a unix socket whether it is an engine.
fn ping(path: &str) {
    let asked = UnixStream::connect(path).and_then(|mut socket| {
        socket.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    });
    match asked {
        Ok(answer) => print!("{answer}"),
        Err(error) => println!("{path} {error}"),
    }
}

/// Holds a connection until it dies and asks on a new one, again and again: a line each time.
fn watch(path: &str) {
    loop {
        if let Ok(mut held) = UnixStream::connect(path) {
            let asked = held.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
            let mut answer = [0; 4096];
            if asked.is_ok() && held.read(&mut answer).is_ok_and(|count| count > 0) {
                println!("alive");
                while held.read(&mut answer).is_ok_and(|count| count > 0) {}
                println!("died");
            }
        }
    }
}

fn reach(target: &str) {
    let Some(address) = target.to_socket_addrs().ok().and_then(|mut a| a.next()) else {
        println!("{target} no address");
        return;
    };
    match TcpStream::connect_timeout(&address, Duration::from_secs(2)) {
        Ok(_) => println!("{target} open"),
        Err(e) => println!("{target} {}", e.raw_os_error().unwrap_or(0)),
    }
}
