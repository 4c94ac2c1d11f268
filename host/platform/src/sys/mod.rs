//! What differs from system to system: the same names in each file, so that nothing above
//! this folder asks which system it runs on.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub use linux::*;

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
pub use macos::*;

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub use unix::*;

#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub use windows::*;

#[cfg(not(target_os = "linux"))]
mod unwatched;
#[cfg(not(target_os = "linux"))]
pub use unwatched::{ResolutionWatch, RouteWatch, routes};

#[cfg(not(target_os = "linux"))]
mod plain_ports;
#[cfg(not(target_os = "linux"))]
pub use plain_ports::*;

#[cfg(target_os = "linux")]
use linux::keep_standard_streams_only;
#[cfg(target_os = "macos")]
use macos::keep_standard_streams_only;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// The user on whose behalf everything runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostUser {
    /// Numeric user id (0 where the system has none).
    pub uid: u32,
    /// Numeric group id (0 where the system has none).
    pub gid: u32,
    /// Login name.
    pub name: String,
    /// Home folder.
    pub home: PathBuf,
}

/// Who has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortOwner {
    /// A process that this user may look at.
    Process {
        /// Its program's name; any characters a program's name may have.
        name: String,
        /// Its number.
        pid: u32,
    },
    /// Some process of a user, whose processes this one may not look at.
    User {
        /// The user's number.
        id: u32,
        /// The user's name, where there is one.
        name: Option<String>,
    },
}

/// A route of this host's, other than its default one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where it leads: the first address.
    pub to: IpAddr,
    /// How many bits of it count, at least one.
    pub prefix: u8,
    /// Whether no router is between.
    pub direct: bool,
}

/// A datagram that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its length in bytes.
    pub length: usize,
    /// Where it came from.
    pub client: SocketAddr,
    /// The address of this host that it came to; unspecified where that is not known.
    pub to: IpAddr,
}

/// A time zone at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeZone {
    /// How far its clocks are ahead of UTC.
    pub seconds_east: i32,
    /// Its short name then, such as `CET`.
    pub name: String,
}

impl TimeZone {
    /// The zone of those who have none.
    #[must_use]
    pub fn utc() -> Self {
        Self {
            seconds_east: 0,
            name: "UTC".to_owned(),
        }
    }
}

/// The host's name resolution as far as containers should follow it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolution {
    /// Name servers, as addresses.
    pub servers: Vec<IpAddr>,
    /// Domains tried for short names.
    pub search: Vec<String>,
}

/// Reads the lines of a resolver configuration that name servers and search domains.
#[must_use]
pub fn parse_resolution(text: &str) -> Resolution {
    let mut resolution = Resolution::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                // A scope (`fe80::1%eth0`) means nothing in another machine.
                resolution
                    .servers
                    .extend(words.next().and_then(|w| w.parse::<IpAddr>().ok()));
            }
            Some("search" | "domain") => {
                resolution.search = words.map(str::to_owned).collect();
            }
            _ => {}
        }
    }
    resolution
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolution_keeps_addresses_and_the_last_search_line() {
        let text = "# made by hand\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver ::1\n\
                    domain a.test\nsearch b.test c.test\noptions ndots:2\n";
        let found = parse_resolution(text);
        assert_eq!(
            found.servers,
            [
                "10.0.0.1".parse::<IpAddr>().unwrap(),
                "::1".parse().unwrap()
            ]
        );
        assert_eq!(found.search, ["b.test", "c.test"]);
    }
}
