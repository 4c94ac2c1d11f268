//! Which ports of the host containers have, in docker's order.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use lighter_network::ports::Transport;

use crate::containers::lock;

/// A port of one address.
type Entry = (Transport, IpAddr, u16);

/// Why there is no port.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPort {
    /// A container has it.
    #[error("Bind for {}:{} failed: port is already allocated", .at.ip(), .at.port())]
    Allocated {
        /// Where it has it.
        at: SocketAddr,
        /// The id of the container.
        owner: Arc<str>,
    },
    /// Containers have all of the range.
    #[error("all ports are allocated")]
    All,
}

/// The ports that containers have. Cheap to clone: all are the same book.
#[derive(Debug, Clone, Default)]
pub(crate) struct Book(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    /// By whom each is taken: ids of containers.
    taken: HashMap<Entry, Arc<str>>,
    /// Behind the last one that was given out of a range: one that was given back is not given at once to another.
    next: HashMap<(Transport, u16, u16), u16>,
}

/// A port that a container has; it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    book: Book,
    transport: Transport,
    addresses: Vec<IpAddr>,
    pub(crate) port: u16,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut entries = lock(&self.book.0);
        for address in &self.addresses {
            entries.taken.remove(&(self.transport, *address, self.port));
        }
    }
}

impl Book {
    /// Takes one port of a range for a container, at all of these addresses.
    pub fn take(
        &self,
        owner: &str,
        transport: Transport,
        addresses: &[IpAddr],
        (first, last): (u16, u16),
    ) -> Result<Taken, NoPort> {
        let mut entries = lock(&self.0);
        let range = (transport, first, last);
        let begin = entries.next.get(&range).copied().unwrap_or(first);
        let mut order = (begin..=last).chain(first..begin);
        let has = |entries: &Entries, port: u16| {
            let mut own = addresses.iter();
            own.find_map(|address| entries.conflict(transport, *address, port))
        };
        let port = match order.find(|port| has(&entries, *port).is_none()) {
            Some(port) => port,
            None => {
                let only = has(&entries, first).filter(|_| first == last);
                return Err(only.map_or(NoPort::All, |(ip, owner)| NoPort::Allocated {
                    at: SocketAddr::new(ip, first),
                    owner,
                }));
            }
        };
        if first != last {
            let next = if port == last { first } else { port + 1 };
            entries.next.insert(range, next);
        }
        Ok(self.enter(&mut entries, owner, transport, addresses, port))
    }

    /// Takes one that a container has already.
    pub fn note(
        &self,
        owner: &str,
        transport: Transport,
        addresses: &[IpAddr],
        port: u16,
    ) -> Taken {
        self.enter(&mut lock(&self.0), owner, transport, addresses, port)
    }

    fn enter(
        &self,
        entries: &mut Entries,
        owner: &str,
        transport: Transport,
        addresses: &[IpAddr],
        port: u16,
    ) -> Taken {
        let owner: Arc<str> = owner.into();
        for address in addresses {
            let entry = (transport, *address, port);
            entries.taken.insert(entry, Arc::clone(&owner));
        }
        Taken {
            book: self.clone(),
            transport,
            addresses: addresses.to_vec(),
            port,
        }
    }
}

impl Entries {
    /// The address of a family at which somebody has a port so that it cannot be had at this one, and who.
    fn conflict(
        &self,
        transport: Transport,
        address: IpAddr,
        port: u16,
    ) -> Option<(IpAddr, Arc<str>)> {
        let any = match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let has = |ip: IpAddr| {
            let owner = self.taken.get(&(transport, ip, port))?;
            Some((ip, Arc::clone(owner)))
        };
        let own = has(address).or_else(|| has(any));
        let other = || {
            let mut taken = self.taken.iter();
            taken.find_map(|((kind, ip, number), owner)| {
                let same = (*kind, *number) == (transport, port);
                (same && ip.is_ipv4() == address.is_ipv4()).then(|| (*ip, Arc::clone(owner)))
            })
        };
        own.or_else(|| (address == any).then(other).flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    fn text(book: &Book, list: &[&str], port: u16) -> String {
        let error = book.take("c", Transport::Tcp, &ips(list), (port, port));
        error.unwrap_err().to_string()
    }

    #[test]
    fn a_port_is_given_once_for_addresses_that_mean_each_other() {
        let book = Book::default();
        let take = |list: &[&str], port| book.take("c", Transport::Tcp, &ips(list), (port, port));
        let all = take(&["0.0.0.0", "::"], 8080).unwrap();
        let failed = |ip: &str| format!("Bind for {ip}:8080 failed: port is already allocated");
        assert_eq!(text(&book, &["127.0.0.1"], 8080), failed("0.0.0.0"));
        let (at, owner) = ("0.0.0.0:8080".parse().unwrap(), "c".into());
        assert_eq!(
            take(&["1.2.3.4"], 8080).unwrap_err(),
            NoPort::Allocated { at, owner }
        );
        assert_eq!(text(&book, &["0.0.0.0"], 8080), failed("0.0.0.0"));
        assert_eq!(text(&book, &["::1"], 8080), failed("::"));
        assert!(
            book.take("c", Transport::Udp, &ips(&["::"]), (8080, 8080))
                .is_ok()
        );
        drop(all);
        let one = take(&["127.0.0.1"], 8080).unwrap();
        assert!(take(&["127.0.0.2"], 8080).is_ok());
        assert!(take(&["::"], 8080).is_ok());
        assert_eq!(text(&book, &["0.0.0.0"], 8080), failed("127.0.0.1"));
        drop(one);
        assert!(take(&["0.0.0.0"], 8080).is_ok());
    }

    #[test]
    fn two_at_once_do_not_get_one_port() {
        let book = Book::default();
        for _ in 0..200 {
            let barrier = std::sync::Barrier::new(2);
            let take = || {
                barrier.wait();
                book.take("c", Transport::Tcp, &ips(&["0.0.0.0"]), (80, 80))
                    .ok()
            };
            let (one, other) = std::thread::scope(|scope| {
                let (one, other) = (scope.spawn(take), scope.spawn(take));
                (one.join().unwrap(), other.join().unwrap())
            });
            assert!(one.is_some() != other.is_some());
        }
    }

    #[test]
    fn ranges_go_on_behind_the_last_one() {
        let book = Book::default();
        let take = || book.take("c", Transport::Tcp, &ips(&["0.0.0.0"]), (9000, 9002));
        let first = take().unwrap();
        assert_eq!(first.port, 9000);
        drop(first);
        let second = take().unwrap();
        let third = take().unwrap();
        assert_eq!((second.port, third.port), (9001, 9002));
        let first = take().unwrap();
        assert_eq!(first.port, 9000);
        assert_eq!(take().unwrap_err(), NoPort::All);
        drop(second);
        assert_eq!(take().unwrap().port, 9001);
    }
}
