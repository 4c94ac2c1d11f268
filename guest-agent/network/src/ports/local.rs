//! What programs listen on in the host's namespace: containers of that network.
//!
//! Source: proc_pid_net(5), `tcp` and `tcp6`: those that listen stand first.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The state of a socket that listens.
const LISTENS: &str = "0A";

/// The sockets of the calling thread's namespace that listen for connections, but for those of these numbers.
pub(super) fn listeners(own: &HashSet<u64>) -> io::Result<BTreeSet<SocketAddr>> {
    let mut all = BTreeSet::new();
    for file in ["tcp", "tcp6"] {
        let path = format!("/proc/thread-self/net/{file}");
        let lines = BufReader::new(std::fs::File::open(path)?).lines().skip(1);
        for line in lines {
            let line = line?;
            let Some((address, inode)) = listener(&line) else {
                break;
            };
            if !own.contains(&inode) {
                all.insert(address);
            }
        }
    }
    Ok(all)
}

/// Address and number of a socket that listens.
fn listener(line: &str) -> Option<(SocketAddr, u64)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let address = fields.next()?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    (state == LISTENS).then_some((parsed(address)?, inode))
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
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let v4 = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0";
        let read = listener(v4).unwrap();
        assert_eq!(read, ("127.0.0.1:8080".parse().unwrap(), 4242));
        let v6 = "   0: B80D0120000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1 0 100 0 0 10 0";
        assert_eq!(listener(v6).unwrap().0, "[2001:db8::1]:22".parse().unwrap());
        assert_eq!(listener(&v4.replace(" 0A ", " 01 ")), None);
        for wrong in [
            "",
            "0:",
            "0: x:1 y 0A 1 2 3 4 5 6",
            "0: 0100007F y 0A 1 2 3 4 5 6",
        ] {
            assert_eq!(listener(wrong), None);
        }
    }

    #[test]
    fn a_listener_is_seen_and_ones_own_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(listeners(&HashSet::new()).unwrap().contains(&address));
        let own = HashSet::from([rustix::fs::fstat(&listener).unwrap().st_ino]);
        assert!(!listeners(&own).unwrap().contains(&address));
    }
}
