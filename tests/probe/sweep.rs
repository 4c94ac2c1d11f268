//! Sweeps of ports: which of them take a connection, and which answer a datagram; and the server that does both.
//!
//! A sweep prints a line for each transport and address: `tcp 172.17.0.1 [53, 80]`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{c_char, c_int, c_short, c_void};
use std::io::{Error, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd};

unsafe extern "C" {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn connect(socket: c_int, address: *const c_void, length: u32) -> c_int;
    fn poll(sockets: *mut Watched, count: u64, milliseconds: c_int) -> c_int;
    fn if_nametoindex(name: *const c_char) -> u32;
}

/// `struct pollfd`.
#[repr(C)]
struct Watched {
    fd: c_int,
    events: c_short,
    happened: c_short,
}

impl Watched {
    fn new(socket: &impl AsRawFd, events: c_short) -> Self {
        Self { fd: socket.as_raw_fd(), events, happened: 0 }
    }
}

/// Waits for something to happen to one of these; false if nothing did.
fn stirs(watched: &mut [Watched]) -> bool {
    // SAFETY: so many of them are there, and live until the call returns.
    unsafe { poll(watched.as_mut_ptr(), watched.len() as u64, QUIET) > 0 }
}

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const SOCK_STREAM_NONBLOCK: c_int = 0o4001;
const POLLIN: c_short = 1;
const POLLOUT: c_short = 4;
const EINPROGRESS: i32 = 115;
/// Connections on their way at a time: fewer than a process may have descriptors.
const AT_ONCE: usize = 512;
/// How long nothing at all may happen before those on their way count as not answered: milliseconds.
const QUIET: c_int = 5000;

/// What is sent in a datagram: the question for the address of host.docker.internal, which a server of names
/// answers and everything else may take for anything.
const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04host\x06docker\x08internal\0\0\x01\0\x01";

/// `ports`: numbers and ranges (`1-1024`), parted by commas. `addresses`: parted by commas; `%` and a card's name
/// stand behind one of a link.
pub fn sweep(ports: &str, addresses: &str) {
    let ports: BTreeSet<u16> = ports.split(',').flat_map(range).collect();
    let addresses: Vec<(&str, SocketAddr)> =
        addresses.split(',').map(|text| (text, address(text).expect("an address"))).collect();
    for (text, to) in &addresses {
        println!("tcp {text} {:?}", taken(&ports, *to));
    }
    let answered = answered(&ports, &addresses);
    for (text, to) in &addresses {
        println!("udp {text} {:?}", answered.get(&to.ip()).cloned().unwrap_or_default());
    }
}

fn range(text: &str) -> std::ops::RangeInclusive<u16> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    first.parse().expect("a port")..=last.parse().expect("a port")
}

fn address(text: &str) -> Option<SocketAddr> {
    let Some((ip, card)) = text.split_once('%') else {
        return Some(SocketAddr::new(text.parse().ok()?, 0));
    };
    let card = std::ffi::CString::new(card).ok()?;
    // SAFETY: the name ends with a zero and lives until the call returns.
    let scope = unsafe { if_nametoindex(card.as_ptr()) };
    Some(SocketAddrV6::new(ip.parse().ok()?, 0, 0, scope).into())
}

fn with_port(mut to: SocketAddr, port: u16) -> SocketAddr {
    to.set_port(port);
    to
}

/// The ports that take a connection.
fn taken(ports: &BTreeSet<u16>, to: SocketAddr) -> BTreeSet<u16> {
    let ports: Vec<u16> = ports.iter().copied().collect();
    let mut open = BTreeSet::new();
    for ports in ports.chunks(AT_ONCE) {
        let mut under_way: Vec<(u16, TcpStream)> = vec![];
        for port in ports {
            match begin(with_port(to, *port)) {
                Ok(stream) => under_way.push((*port, stream)),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                // Without a way there is none for the other ports either.
                Err(error) if matches!(error.raw_os_error(), Some(101 | 113 | 13 | 22 | 99)) => return open,
                Err(error) => panic!("{to} {port}: {error}"),
            }
        }
        settle(under_way, &mut open);
    }
    open
}

/// Begins to connect; those that are refused at once, as nearby ones are, are an error at once.
fn begin(to: SocketAddr) -> Result<TcpStream, Error> {
    let (family, length, bytes) = raw(to);
    // SAFETY: the address has the length given at least and lives until the call returns; the descriptor was
    // returned a moment ago and belongs to nobody else.
    unsafe {
        let number = socket(family.into(), SOCK_STREAM_NONBLOCK, 0);
        if number < 0 {
            panic!("no socket: {}", Error::last_os_error());
        }
        let stream = TcpStream::from_raw_fd(number);
        if connect(number, bytes.as_ptr().cast(), length) == 0 {
            return Ok(stream);
        }
        let error = Error::last_os_error();
        if error.raw_os_error() == Some(EINPROGRESS) { Ok(stream) } else { Err(error) }
    }
}

/// `struct sockaddr_in` or `sockaddr_in6`: its family, its length, its bytes.
fn raw(to: SocketAddr) -> (u16, u32, [u8; 28]) {
    let mut bytes = [0; 28];
    bytes[2..4].copy_from_slice(&to.port().to_be_bytes());
    let (family, length) = match to {
        SocketAddr::V4(to) => {
            bytes[4..8].copy_from_slice(&to.ip().octets());
            (AF_INET, 16)
        }
        SocketAddr::V6(to) => {
            bytes[8..24].copy_from_slice(&to.ip().octets());
            bytes[24..28].copy_from_slice(&to.scope_id().to_ne_bytes());
            (AF_INET6, 28)
        }
    };
    bytes[..2].copy_from_slice(&family.to_ne_bytes());
    (family, length, bytes)
}

/// Waits for the end of each attempt, or for silence.
fn settle(mut under_way: Vec<(u16, TcpStream)>, open: &mut BTreeSet<u16>) {
    while !under_way.is_empty() {
        let mut watched: Vec<Watched> = under_way.iter().map(|(_, stream)| Watched::new(stream, POLLOUT)).collect();
        if !stirs(&mut watched) {
            return;
        }
        let mut happened = watched.iter().map(|one| one.happened != 0);
        under_way.retain(|(port, stream)| {
            let settled = happened.next().unwrap_or(false);
            // A port of one's own that nobody has may be connected to itself.
            let ends = (stream.peer_addr().ok(), stream.local_addr().ok());
            if settled && matches!(stream.take_error(), Ok(None)) && ends.0.is_some() && ends.0 != ends.1 {
                open.insert(*port);
            }
            !settled
        });
    }
}

/// The ports that answer, by the address that their answers come from.
fn answered(ports: &BTreeSet<u16>, addresses: &[(&str, SocketAddr)]) -> BTreeMap<IpAddr, BTreeSet<u16>> {
    let bind = |any: &str| UdpSocket::bind(any).ok().inspect(|one| one.set_nonblocking(true).expect("set"));
    let sockets = [bind("0.0.0.0:0"), bind("[::]:0")];
    // What these send to each other is no answer.
    let own: Vec<u16> = sockets.iter().flatten().map(|one| one.local_addr().expect("bound").port()).collect();
    let mut heard: BTreeMap<IpAddr, BTreeSet<u16>> = BTreeMap::new();
    let mut hear = || {
        let mut buffer = [0; 2048];
        for socket in sockets.iter().flatten() {
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                if !own.contains(&from.port()) {
                    heard.entry(from.ip()).or_default().insert(from.port());
                }
            }
        }
    };
    for (_, to) in addresses {
        let Some(socket) = &sockets[usize::from(to.is_ipv6())] else { continue };
        for port in ports {
            // What has no way is not answered; that is all there is to say.
            let full = |sent: &std::io::Result<usize>| sent.as_ref().is_err_and(|e| e.kind() == ErrorKind::WouldBlock);
            while full(&socket.send_to(QUESTION, with_port(*to, *port))) {
                hear();
            }
            hear();
        }
    }
    let mut watched: Vec<Watched> = sockets.iter().flatten().map(|socket| Watched::new(socket, POLLIN)).collect();
    while stirs(&mut watched) {
        hear();
    }
    heard
}

/// Takes connections and answers datagrams on a port until it is killed; says so when it does.
pub fn serve(port: u16) {
    let listener = TcpListener::bind(("0.0.0.0", port)).expect("a port");
    let socket = UdpSocket::bind(("0.0.0.0", port)).expect("a port");
    println!("serves");
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        loop {
            if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..length], from);
            }
        }
    });
    for mut stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                let _ = stream.write_all(&buffer[..count]);
            }
        });
    }
}

/// What listens here: transport, address and port of every socket that takes connections or datagrams of anyone.
pub fn listening() {
    const LISTENS: &str = "0A";
    const UNCONNECTED: &str = "07";
    for (table, state) in [("tcp", LISTENS), ("tcp6", LISTENS), ("udp", UNCONNECTED), ("udp6", UNCONNECTED)] {
        let text = std::fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [_, local, _, has, ..] = words[..]
                && has == state
                && let Some((address, port)) = local.split_once(':')
            {
                let port = u16::from_str_radix(port, 16).expect("a port");
                println!("{table} {address} {port}");
            }
        }
    }
}
