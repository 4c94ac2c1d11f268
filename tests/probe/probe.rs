//! What a hostile program in a container tries. Built static, put into a container by the tests.
//!
//! Prints one line an attempt: the attempt, `open` or the error's number.

use std::ffi::{c_int, c_long};
use std::io::{Error, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

unsafe extern "C" {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
}

const AF_VSOCK: c_int = 40;
const AF_ALG: c_int = 38;
const SOCK_STREAM: c_int = 1;
const SOCK_SEQPACKET: c_int = 5;
const SYS_BPF: c_long = 321;
const SYS_USERFAULTFD: c_long = 323;
const SYS_KEXEC_LOAD: c_long = 246;
const SYS_INIT_MODULE: c_long = 175;

fn main() {
    let what = std::env::args().nth(1).unwrap_or_default();
    match what.as_str() {
        "sockets" => sockets(),
        "syscalls" => syscalls(),
        "descriptors" => descriptors(),
        "find" => find(&std::env::args().nth(2).unwrap_or_default()),
        "connect" => connect(&std::env::args().nth(2).unwrap_or_default()),
        "watch" => watch(&std::env::args().nth(2).unwrap_or_default()),
        "ping" => ping(&std::env::args().nth(2).unwrap_or_default()),
        other => println!("unknown probe {other}"),
    }
}

fn say(attempt: &str, result: c_long) {
    if result >= 0 {
        println!("{attempt} open");
    } else {
        println!("{attempt} {}", Error::last_os_error().raw_os_error().unwrap_or(0));
    }
}

fn sockets() {
    // SAFETY: plain system calls with constant arguments.
    unsafe {
        say("vsock", socket(AF_VSOCK, SOCK_STREAM, 0).into());
        say("alg", socket(AF_ALG, SOCK_SEQPACKET, 0).into());
    }
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

/// Looks for a text in everything of /proc, /sys and /dev that can be read as a file.
fn find(text: &str) {
    let mut open = vec!["/proc".into(), "/sys".into(), "/dev".into(), "/run".into()];
    let mut looked = 0;
    while let Some(dir) = open.pop() {
        let dir: std::path::PathBuf = dir;
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            if kind.is_dir() && !path.ends_with("task") {
                open.push(path);
            } else if kind.is_file() && !path.ends_with("kmsg") && !path.ends_with("trace_pipe") {
                let mut bytes = Vec::new();
                let file = std::fs::File::open(&path);
                let _ = file.and_then(|f| f.take(1 << 20).read_to_end(&mut bytes));
                looked += 1;
                if bytes.windows(text.len()).any(|w| w == text.as_bytes()) && !path.ends_with("cmdline") {
                    println!("found in {}", path.display());
                }
            }
        }
    }
    println!("looked into {}", if looked > 100 { "many files" } else { "few files" });
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

fn connect(target: &str) {
    let Some(address) = target.to_socket_addrs().ok().and_then(|mut a| a.next()) else {
        println!("{target} no address");
        return;
    };
    match TcpStream::connect_timeout(&address, Duration::from_secs(2)) {
        Ok(_) => println!("{target} open"),
        Err(e) => println!("{target} {}", e.raw_os_error().unwrap_or(0)),
    }
}
