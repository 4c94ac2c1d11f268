//! The only way from the registry client to the network.
//!
//! In the VM a dial is answered by the host (its resolver, VPN and proxy apply); natively it is a
//! plain TCP connection. The *purpose* travels with each dial because loopback, link-local and
//! metadata addresses are reachable only for the registry the user named.

use std::fmt::Debug;
use std::io;
use std::net::IpAddr;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DialTarget {
    /// A host name or an address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// Whether TLS will be spoken on it; which proxy of the host applies depends on it.
    pub tls: bool,
}

/// Why it is connected.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DialPurpose {
    /// The registry the user named, as in the reference (`localhost:5000`), or what is fetched
    /// from.
    pub registry: String,
    /// Whether the target is that registry itself (or a mirror from the settings). False for
    /// redirects, token realms and archives: those must not reach the host's own services.
    pub user_named: bool,
}

/// Opens connections for the registry client.
pub trait Dialer: Debug + Send + Sync {
    /// Connects to `target`, or says why not.
    fn dial<'a>(
        &'a self,
        target: &'a DialTarget,
        purpose: &'a DialPurpose,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;
}

/// Dials with this machine's own resolver and sockets: for an engine that runs natively.
#[derive(Debug, Default)]
pub struct TcpDialer;

impl Dialer for TcpDialer {
    fn dial<'a>(
        &'a self,
        target: &'a DialTarget,
        purpose: &'a DialPurpose,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((target.host.as_str(), target.port)).await?;
            let mut last = io::Error::from(io::ErrorKind::HostUnreachable);
            for address in addresses {
                if !purpose.user_named && is_internal(address.ip()) {
                    last = io::Error::new(
                        io::ErrorKind::PermissionDenied,
                        format!(
                            "{} is not dialled for a redirect, a token realm or an archive",
                            address.ip()
                        ),
                    );
                    continue;
                }
                match TcpStream::connect(address).await {
                    Ok(stream) => {
                        stream.set_nodelay(true)?;
                        return Ok(Box::new(stream) as Box<dyn Stream>);
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }
}

/// Loopback, link-local (which holds the clouds' metadata services) and unspecified addresses.
pub fn is_internal(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            if let Some(v4) = v6.to_ipv4_mapped() {
                return is_internal(IpAddr::V4(v4));
            }
            v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local()
                // AWS's metadata service over IPv6.
                || v6.segments()[..2] == [0xfd00, 0x0ec2]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_machine_itself_are_internal() {
        for internal in [
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "0.0.0.0",
            "::1",
            "::",
            "fe80::1",
            "::ffff:127.0.0.1",
            "fd00:ec2::254",
        ] {
            assert!(is_internal(internal.parse().unwrap()), "{internal}");
        }
        for outside in [
            "10.0.0.1",
            "192.168.1.1",
            "8.8.8.8",
            "2001:db8::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(!is_internal(outside.parse().unwrap()), "{outside}");
        }
    }
}
