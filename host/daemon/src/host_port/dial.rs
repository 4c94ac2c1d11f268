//! "Dial for me": the host connects to a registry on the engine's behalf, so that its resolver,
//! its VPN, its routes and its proxy apply, then carries bytes.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lighter_protocol::{Dial, DialPurpose, Failed, FailedCode, Opened};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::carry::carry;
use super::proxy::{Proxies, ProxyAddress, ProxySettings, TunnelError, tunnel};
use super::rules::{is_close, is_name};
use super::{failed, refuse};
use crate::vm::MessageStream;

/// Most connections open at once: a pull of many layers uses a few dozen.
const MOST_OPEN: usize = 256;
/// Most connections begun within [`RATE_TIME`]; more wait for the next such time.
const MOST_RATE: u32 = 300;
/// The time over which the rate is counted.
const RATE_TIME: Duration = Duration::from_secs(10);
/// Longest wait for a name's addresses.
const RESOLVE_LIMIT: Duration = Duration::from_secs(15);
/// Longest wait for one address; the next is tried after it.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for a proxy's answer.
const PROXY_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for a look at where a name leads that a proxy will resolve itself.
const LOOK_LIMIT: Duration = Duration::from_secs(3);
/// Most characters of a line in the book.
const MOST_LINE: usize = 200;
/// Most addresses of one name that are tried.
const MOST_ADDRESSES: usize = 8;

/// The connections made for the engine.
#[derive(Debug, Default)]
pub struct Dials {
    book: Mutex<Book>,
    proxies: Mutex<Arc<Proxies>>,
}

#[derive(Debug, Default)]
struct Book {
    open: BTreeMap<u64, String>,
    total: u64,
    window: Option<(Instant, u32)>,
}

/// What `status` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The open connections: target, and the registry they are for.
    pub open: Vec<String>,
    /// All that were begun.
    pub total: u64,
}

/// An entry in the book, struck out when dropped.
struct Entry<'a> {
    dials: &'a Dials,
    number: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.dials.book().open.remove(&self.number);
    }
}

impl Dials {
    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the setting `proxies`; what is open goes on as it is.
    pub fn set_proxies(&self, settings: &ProxySettings) {
        let proxies = Arc::new(Proxies::here(settings));
        *self.proxies.lock().unwrap_or_else(PoisonError::into_inner) = proxies;
    }

    /// The proxies in force.
    #[must_use]
    pub fn proxies(&self) -> Arc<Proxies> {
        Arc::clone(&self.proxies.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is open now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let book = self.book();
        Snapshot {
            open: book.open.values().cloned().collect(),
            total: book.total,
        }
    }

    /// Answers one request and carries its bytes to the end.
    pub(super) async fn serve(self: &Arc<Self>, mut stream: MessageStream, wanted: Dial) {
        let (_entry, mut target) = match self.connect(&wanted).await {
            Ok(done) => done,
            Err(failed) => {
                tracing::info!(
                    host = wanted.host,
                    port = wanted.port,
                    reason = failed.message,
                    "not dialled"
                );
                return refuse(stream, failed).await;
            }
        };
        let peer = target
            .peer_addr()
            .map(|peer| peer.to_string())
            .unwrap_or_default();
        tracing::debug!(host = wanted.host, peer, "dialled for the engine");
        if stream.send(Opened::Dial { peer }).await.is_err() {
            return;
        }
        let (guest, early) = stream.into_raw();
        // How a connection ends is the business of its two ends.
        if target.write_all(&early).await.is_ok() {
            let _ = carry(guest, target).await;
        }
    }

    async fn connect(&self, wanted: &Dial) -> Result<(Entry<'_>, TcpStream), Failed> {
        let DialPurpose::Registry {
            user_named,
            registry,
        } = &wanted.purpose
        else {
            let text = "this host does not know that purpose".to_owned();
            return Err(failed(FailedCode::Denied, text));
        };
        // They are shown in status and in the log.
        if !is_name(&wanted.host) || !is_name(registry) {
            let text = "this is no host's name".to_owned();
            return Err(failed(FailedCode::Malformed, text));
        }
        let line = format!("{}:{} for {registry}", wanted.host, wanted.port);
        let entry = self.enter(lighter_platform::text::clipped(&line, MOST_LINE))?;
        loop {
            let wait = self.book().turn(Instant::now());
            match wait {
                None => break,
                Some(wait) => tokio::time::sleep(wait).await,
            }
        }
        let chosen = self.proxies().choose(&wanted.host, wanted.port, wanted.tls);
        let chosen = chosen.map_err(|e| failed(FailedCode::Unsupported, e.to_string()))?;
        let target = match chosen {
            None => straight(wanted, *user_named).await?,
            Some(proxy) => {
                let addresses = resolve(&proxy.host, proxy.port).await;
                let addresses = addresses.map_err(|failed| at_proxy(&proxy, failed))?;
                if !user_named {
                    let here = addresses.iter().any(|address| is_close(address.ip()));
                    look_where_it_leads(wanted, here).await?;
                }
                through(&proxy, &addresses, wanted).await?
            }
        };
        Ok((entry, target))
    }

    /// Writes a connection into the book, if there is room in it.
    fn enter(&self, line: String) -> Result<Entry<'_>, Failed> {
        let mut book = self.book();
        if book.open.len() >= MOST_OPEN {
            let text = format!("more than {MOST_OPEN} connections at once");
            return Err(failed(FailedCode::Busy, text));
        }
        book.total += 1;
        let number = book.total;
        book.open.insert(number, line);
        Ok(Entry {
            dials: self,
            number,
        })
    }
}

impl Book {
    /// Takes one of the connections of this while; if there is none left, how long to wait.
    fn turn(&mut self, now: Instant) -> Option<Duration> {
        let (began, count) = match self.window {
            Some((began, count)) if now < began + RATE_TIME => (began, count),
            _ => (now, 0),
        };
        if count >= MOST_RATE {
            return Some(began + RATE_TIME - now);
        }
        self.window = Some((began, count + 1));
        None
    }
}

async fn straight(wanted: &Dial, user_named: bool) -> Result<TcpStream, Failed> {
    let addresses = resolve(&wanted.host, wanted.port).await?;
    let allowed = allowed(addresses, user_named, &wanted.host)?;
    first_that_answers(&allowed, &wanted.host).await
}

/// Refuses a target that leads to this host or its surroundings, as far as this host can tell: a
/// proxy may well run `here`. A name that only the proxy can resolve is the proxy's to judge.
async fn look_where_it_leads(wanted: &Dial, here: bool) -> Result<(), Failed> {
    let looked = look_up(&wanted.host, wanted.port);
    let looked = tokio::time::timeout(LOOK_LIMIT, looked).await;
    may_be_asked(&wanted.host, looked.ok(), here)
}

/// Judges a target by what the look at it showed, or nothing in time. The proxy is told the name and chooses
/// the address: each of them must be one that may be dialled.
fn may_be_asked(
    host: &str,
    looked: Option<Result<Vec<SocketAddr>, Failed>>,
    here: bool,
) -> Result<(), Failed> {
    match looked {
        Some(Ok(addresses)) if addresses.iter().any(|a| is_close(a.ip())) => Err(too_close(host)),
        Some(_) => Ok(()),
        // Whoever answers for the name may wait with that until the proxy asks.
        None if here => Err(failed(
            FailedCode::Timeout,
            format!("lookup {host}: no answer in time, and the proxy runs on this host"),
        )),
        None => Ok(()),
    }
}

/// What went wrong on the way to a proxy or at it names it.
fn at_proxy(proxy: &ProxyAddress, mut failed: Failed) -> Failed {
    failed.message = format!("proxyconnect tcp: proxy {proxy}: {}", failed.message);
    failed
}

/// A connection through a proxy at one of these addresses.
async fn through(
    proxy: &ProxyAddress,
    addresses: &[SocketAddr],
    wanted: &Dial,
) -> Result<TcpStream, Failed> {
    let named = |failed: Failed| at_proxy(proxy, failed);
    let mut stream = first_that_answers(addresses, &proxy.host)
        .await
        .map_err(named)?;
    let target = authority(&wanted.host, wanted.port);
    let asked = tunnel(&mut stream, proxy, &target, PROXY_LIMIT).await;
    asked.map_err(|error| {
        let code = match &error {
            TunnelError::Silent(_) => FailedCode::Timeout,
            TunnelError::Refused { status: 407, .. } => FailedCode::Denied,
            _ => FailedCode::Unreachable,
        };
        named(failed(code, error.to_string()))
    })?;
    Ok(stream)
}

/// Host and port as a request names them.
fn authority(host: &str, port: u16) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// The addresses of a name that are tried.
async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failed> {
    let mut addresses = look_up(host, port).await?;
    addresses.truncate(MOST_ADDRESSES);
    Ok(addresses)
}

/// All addresses of a name.
async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failed> {
    let name = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let looked_up = tokio::net::lookup_host((name, port));
    match tokio::time::timeout(RESOLVE_LIMIT, looked_up).await {
        Ok(Ok(addresses)) => Ok(addresses.collect()),
        Ok(Err(error)) => Err(failed(
            FailedCode::Resolve,
            format!("lookup {host}: {error}"),
        )),
        Err(_) => Err(failed(
            FailedCode::Timeout,
            format!("lookup {host}: no answer in time"),
        )),
    }
}

/// What of a name's addresses may be dialled.
///
/// Judged by address, not by name: a name of anybody's may have the address 127.0.0.1.
fn allowed(
    addresses: Vec<SocketAddr>,
    user_named: bool,
    host: &str,
) -> Result<Vec<SocketAddr>, Failed> {
    if addresses.is_empty() {
        return Err(failed(
            FailedCode::Resolve,
            format!("lookup {host}: no address"),
        ));
    }
    let kept: Vec<_> = addresses
        .into_iter()
        .filter(|a| user_named || !is_close(a.ip()))
        .collect();
    if kept.is_empty() {
        return Err(too_close(host));
    }
    Ok(kept)
}

fn too_close(host: &str) -> Failed {
    let text = format!(
        "`{host}` is an address of this host or its surroundings, and not the registry that was named"
    );
    failed(FailedCode::Denied, text)
}

async fn first_that_answers(addresses: &[SocketAddr], host: &str) -> Result<TcpStream, Failed> {
    let mut last = failed(FailedCode::Unreachable, format!("dial {host}: no address"));
    for address in addresses {
        let error = match tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Small requests and their answers should not wait for one another.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        let code = match error.kind() {
            io::ErrorKind::ConnectionRefused => FailedCode::ConnectionRefused,
            io::ErrorKind::TimedOut => FailedCode::Timeout,
            _ => FailedCode::Unreachable,
        };
        last = failed(code, format!("dial tcp {address}: {error}"));
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn close_addresses_are_left_to_the_registry_the_user_named() {
        let both = addresses(&["127.0.0.1:5000", "93.184.216.34:5000"]);
        assert_eq!(allowed(both.clone(), true, "r").unwrap().len(), 2);
        assert_eq!(
            allowed(both, false, "r").unwrap(),
            addresses(&["93.184.216.34:5000"])
        );
        let refused = allowed(addresses(&["169.254.169.254:80"]), false, "r").unwrap_err();
        assert_eq!(refused.code, FailedCode::Denied);
    }

    #[test]
    fn number_of_open_connections_is_bounded() {
        let dials = Dials::default();
        let held: Vec<_> = (0..MOST_OPEN)
            .map(|n| dials.enter(n.to_string()).ok().unwrap())
            .collect();
        assert_eq!(dials.snapshot().open.len(), MOST_OPEN);
        assert_eq!(
            dials.enter("more".into()).err().unwrap().code,
            FailedCode::Busy
        );
        drop(held);
        assert_eq!(dials.snapshot().open.len(), 0);
        assert!(dials.enter("again".into()).is_ok());
    }

    #[test]
    fn rate_is_bounded_by_waiting() {
        let (mut book, start) = (Book::default(), Instant::now());
        for _ in 0..MOST_RATE {
            assert_eq!(book.turn(start), None);
        }
        let later = start + RATE_TIME / 4;
        assert_eq!(book.turn(later), Some(RATE_TIME * 3 / 4));
        for _ in 0..MOST_RATE {
            assert_eq!(book.turn(start + RATE_TIME), None);
        }
        assert_eq!(book.turn(start + RATE_TIME), Some(RATE_TIME));
    }

    #[tokio::test]
    async fn what_is_no_name_is_neither_dialled_nor_shown() {
        let dials = Dials::default();
        for (host, registry) in [
            ("evil\u{1b}[2J", "r.example"),
            ("", "r.example"),
            ("a b", "r.example"),
            ("r.example", "r.example\n0 open"),
        ] {
            let wanted = Dial {
                host: host.into(),
                port: 443,
                tls: true,
                purpose: DialPurpose::Registry {
                    user_named: true,
                    registry: registry.into(),
                },
            };
            let refused = dials.connect(&wanted).await.err().unwrap();
            assert_eq!(refused.code, FailedCode::Malformed, "{host:?} {registry:?}");
        }
        assert_eq!(dials.snapshot().total, 0);
    }

    #[tokio::test]
    async fn a_name_with_nobody_listening_is_refused_as_such() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = first_that_answers(&[address], "here").await.unwrap_err();
        assert_eq!(error.code, FailedCode::ConnectionRefused);
    }

    #[tokio::test]
    async fn an_address_in_brackets_is_resolved() {
        assert_eq!(
            resolve("[::1]", 5000).await.unwrap(),
            addresses(&["[::1]:5000"])
        );
        assert_eq!(
            resolve("127.0.0.1", 5000).await.unwrap(),
            addresses(&["127.0.0.1:5000"])
        );
    }

    fn wanted(host: &str, port: u16, user_named: bool) -> Dial {
        Dial {
            host: host.into(),
            port,
            tls: true,
            purpose: DialPurpose::Registry {
                user_named,
                registry: "r.example".into(),
            },
        }
    }

    fn through_proxy(address: SocketAddr) -> Dials {
        let dials = Dials::default();
        let settings = ProxySettings {
            https_proxy: format!("http://ann:secret@{address}"),
            ..ProxySettings::default()
        };
        *dials.proxies.lock().unwrap() = Arc::new(Proxies::new(&settings, |_| None));
        dials
    }

    #[tokio::test]
    async fn a_proxy_is_asked_for_what_it_alone_can_resolve() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dials = through_proxy(listener.local_addr().unwrap());
        let proxy = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 31];
            client.read_exact(&mut asked).await.unwrap();
            assert_eq!(asked, b"CONNECT only-there.invalid:8443");
            client
                .write_all(b"HTTP/1.1 200 OK\r\n\r\nhi")
                .await
                .unwrap();
        });
        let wanted = wanted("only-there.invalid", 8443, false);
        let (_entry, mut target) = dials.connect(&wanted).await.ok().unwrap();
        let mut said = [0; 2];
        target.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hi");
        proxy.await.unwrap();
    }

    #[tokio::test]
    async fn a_proxy_that_fails_is_named_without_its_password() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dials = through_proxy(address);
        let proxy = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            client
                .write_all(b"HTTP/1.1 407 Who?\r\n\r\n")
                .await
                .unwrap();
            // Until the client has gone: a reset would eat the answer.
            let _ = client.read_to_end(&mut Vec::new()).await;
        });
        let wanted = wanted("only-there.invalid", 443, true);
        let refused = dials.connect(&wanted).await.err().unwrap();
        let text = format!("proxyconnect tcp: proxy http://{address}: 407 Who?");
        assert_eq!((refused.code, refused.message), (FailedCode::Denied, text));
        proxy.await.unwrap();
        // Nobody listens there any more.
        let refused = dials.connect(&wanted).await.err().unwrap();
        assert_eq!(refused.code, FailedCode::ConnectionRefused);
        assert!(refused.message.contains(&address.to_string()));
    }

    #[test]
    fn a_name_with_one_close_address_or_none_in_time_is_not_left_to_a_proxy_here() {
        let code = |looked, here| may_be_asked("r", looked, here).err().map(|e| e.code);
        let far = addresses(&["93.184.216.34:443"]);
        let mut mixed = far.repeat(MOST_ADDRESSES);
        mixed.extend(addresses(&["127.0.0.1:443"]));
        for here in [true, false] {
            assert_eq!(code(Some(Ok(far.clone())), here), None);
            let denied = code(Some(Ok(mixed.clone())), here);
            assert_eq!(
                denied,
                Some(FailedCode::Denied),
                "the proxy may take the last"
            );
            let unknown = failed(FailedCode::Resolve, "no such host".to_owned());
            assert_eq!(code(Some(Err(unknown)), here), None);
        }
        assert_eq!(code(None, true), Some(FailedCode::Timeout));
        assert_eq!(code(None, false), None);
    }

    #[tokio::test]
    async fn a_proxy_is_no_way_round_to_this_host() {
        let dials = through_proxy("127.0.0.1:9".parse().unwrap());
        let metadata = wanted("169.254.169.254", 443, false);
        let refused = dials.connect(&metadata).await.err().unwrap();
        assert_eq!(refused.code, FailedCode::Denied);
    }
}
