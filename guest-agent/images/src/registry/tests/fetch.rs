//! Archives from addresses: what is read, and what is not dialled.

use std::io;

use futures_util::future::BoxFuture;

use super::*;
use crate::dial::{DialPurpose, DialTarget, Dialer, Stream};

/// A network in which `files.example` is the test's own server, and everything else as it is.
#[derive(Debug)]
struct Named {
    port: u16,
}

impl Dialer for Named {
    fn dial<'a>(
        &'a self,
        target: &'a DialTarget,
        purpose: &'a DialPurpose,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        if target.host != "files.example" {
            return TcpDialer.dial(target, purpose);
        }
        Box::pin(async move {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

fn named(registry: &Registry) -> Network {
    Network {
        dialer: Arc::new(Named {
            port: registry.port,
        }),
        ..network()
    }
}

async fn read(network: &Network, address: &str) -> String {
    let mut fetched = fetch(network, address).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = fetched.chunk().await.unwrap() {
        bytes.extend_from_slice(&chunk);
    }
    assert_eq!(fetched.total, Some(bytes.len() as u64));
    String::from_utf8(bytes).unwrap()
}

async fn refused(network: &Network, address: &str) -> String {
    let error = fetch(network, address).await.err().expect("it is refused");
    error.to_string()
}

#[tokio::test]
async fn an_archive_is_read_also_where_its_address_leads_elsewhere() {
    let registry = Registry::new().await;
    registry.set("/a.tar?x=1", vec![page("archive")]);
    let location = vec![("location", "/a.tar?x=1".to_owned())];
    registry.set("/moved", vec![status(302, location)]);
    let network = named(&registry);
    for address in [
        "http://files.example/a.tar?x=1",
        "http://files.example/moved",
    ] {
        assert_eq!(read(&network, address).await, "archive");
    }
}

#[tokio::test]
async fn the_hosts_own_services_are_not_dialled() {
    let registry = Registry::new().await;
    registry.set("/a", vec![page("secret")]);
    let own = format!("http://127.0.0.1:{}/a", registry.port);
    registry.set("/moved", vec![status(302, vec![("location", own.clone())])]);
    let network = named(&registry);
    for address in [own.as_str(), "http://files.example/moved"] {
        let error = refused(&network, address).await;
        assert!(error.contains("127.0.0.1 is not dialled"), "{error}");
    }
    let seen = registry.seen();
    assert!(!seen.iter().any(|line| line.contains("/a")), "{seen:?}");
}

#[tokio::test]
async fn what_is_no_archive_is_said_in_dockerds_words() {
    let registry = Registry::new().await;
    let body = Bytes::from_static(b" not\x1b[2J here\n");
    let missing = Page {
        status: 404,
        ..page(body)
    };
    registry.set("/missing", vec![missing]);
    let network = named(&registry);
    assert_eq!(
        refused(&network, "http://files.example/missing").await,
        "failed to GET http://files.example/missing with status 404 Not Found: not [2J here"
    );
    for address in [
        "ftp://files.example/a",
        "http://user:word@files.example/a",
        "http://",
        "http:///a",
        "/a",
        "http://files.example:99999/a",
        "http://files example/a",
    ] {
        let error = fetch(&network, address).await.err().expect("it is refused");
        assert!(matches!(error, RegistryError::Address { .. }), "{error}");
    }
}
