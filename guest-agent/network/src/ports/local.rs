//! What programs listen on in the host's namespace: containers of that network.
//!
//! A socket for datagrams listens if it is connected to nobody and has a port that the kernel would not choose: on
//! those that it does choose are clients. What is bound to a group hears the group, and nobody at a loopback.
//! Source: proc_pid_net(5), `tcp`, `tcp6`, `udp` and `udp6`: of connections, those that listen stand first.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use lighter_protocol::Transport;

/// The state of a socket that listens.
const LISTENS: &str = "0A";
/// That of one for datagrams that is not connected.
const UNCONNECTED: &str = "07";

/// What listens.
pub type Listener = (Transport, SocketAddr);

/// The sockets of the calling thread's namespace that listen, with their numbers, but for those of these numbers.
pub(super) fn listeners(own: &HashSet<u64>) -> io::Result<BTreeMap<Listener, u64>> {
    let mut all = BTreeMap::new();
    for file in ["tcp", "tcp6"] {
        for line in lines(file)? {
            let line = line?;
            let Some((address, inode)) = listener(&line, LISTENS) else {
                break;
            };
            if !own.contains(&inode) {
                all.insert((Transport::Tcp, address), inode);
            }
        }
    }
    let of_clients = ports_of_clients()?;
    for file in ["udp", "udp6"] {
        for line in lines(file)? {
            let socket = listener(&line?, UNCONNECTED);
            let socket = socket.filter(|(address, inode)| {
                !own.contains(inode)
                    && !of_clients.contains(&address.port())
                    && !address.ip().is_multicast()
            });
            all.extend(socket.map(|(address, inode)| ((Transport::Udp, address), inode)));
        }
    }
    Ok(all)
}

fn lines(file: &str) -> io::Result<impl Iterator<Item = io::Result<String>>> {
    let path = format!("/proc/thread-self/net/{file}");
    Ok(BufReader::new(std::fs::File::open(path)?).lines().skip(1))
}

/// Which ports the kernel chooses itself, in the calling thread's namespace.
fn ports_of_clients() -> io::Result<RangeInclusive<u16>> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let mut words = text.split_whitespace().map(str::parse);
    match (words.next(), words.next()) {
        (Some(Ok(first)), Some(Ok(last))) => Ok(first..=last),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Address and number of a socket in that state.
fn listener(line: &str, wanted: &str) -> Option<(SocketAddr, u64)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let address = fields.next()?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    (state == wanted).then_some((parsed(address)?, inode))
}

/// `0100007F:1F90`, in words of the machine's own order.
fn parsed(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok();
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?.to_ne_bytes()).into(),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?.to_ne_bytes());
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let v4 = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0";
        let read = listener(v4, LISTENS).unwrap();
        assert_eq!(read, ("127.0.0.1:8080".parse().unwrap(), 4242));
        let v6 = "   0: B80D0120000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1 0 100 0 0 10 0";
        assert_eq!(
            listener(v6, LISTENS).unwrap().0,
            "[2001:db8::1]:22".parse().unwrap()
        );
        assert_eq!(listener(&v4.replace(" 0A ", " 01 "), LISTENS), None);
        for wrong in [
            "",
            "0:",
            "0: x:1 y 0A 1 2 3 4 5 6",
            "0: 0100007F y 0A 1 2 3 4 5 6",
        ] {
            assert_eq!(listener(wrong, LISTENS), None);
        }
    }

    #[test]
    fn a_listener_is_seen_and_ones_own_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = (Transport::Tcp, listener.local_addr().unwrap());
        let number = rustix::fs::fstat(&listener).unwrap().st_ino;
        let seen = |own: &HashSet<u64>| listeners(own).unwrap().get(&address).copied();
        assert_eq!(seen(&HashSet::new()), Some(number));
        assert_eq!(seen(&HashSet::from([number])), None);
    }

    #[test]
    fn who_takes_datagrams_is_seen_and_clients_are_not() {
        let seen = |socket: &UdpSocket, own: &HashSet<u64>| {
            let address = (Transport::Udp, socket.local_addr().unwrap());
            listeners(own).unwrap().contains_key(&address)
        };
        let none = HashSet::new();
        let of_clients = ports_of_clients().unwrap();
        let free = (1_024..*of_clients.start()).rev();
        let server = free.map(|port| UdpSocket::bind(("127.0.0.1", port)));
        let server = server.into_iter().find_map(Result::ok).unwrap();
        assert!(seen(&server, &none));
        let own = HashSet::from([rustix::fs::fstat(&server).unwrap().st_ino]);
        assert!(!seen(&server, &own));
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(!seen(&client, &none));
        let port = server.local_addr().unwrap().port();
        let group = UdpSocket::bind(("224.0.0.251", port)).unwrap();
        assert!(!seen(&group, &none));
        server.connect(client.local_addr().unwrap()).unwrap();
        assert!(!seen(&server, &none));
    }
}
