//! TLS: whom the client believes, and what it says to whom.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;
use crate::dial::{DialPurpose, DialTarget, Stream};

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca() -> Ca {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server's side, with a certificate of `ca` for `names`.
fn acceptor(ca: &Ca, names: &[&str]) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let params = CertificateParams::new(names).unwrap();
    let certificate = params.signed_by(&key, ca).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Leads each name and port to a port of this machine.
#[derive(Debug, Default)]
struct Table {
    ways: HashMap<(&'static str, u16), u16>,
    dialled: Mutex<Vec<String>>,
}

impl Dialer for Table {
    fn dial<'a>(
        &'a self,
        target: &'a DialTarget,
        _purpose: &'a DialPurpose,
    ) -> futures_util::future::BoxFuture<'a, std::io::Result<Box<dyn Stream>>> {
        let line = format!("{}:{}", target.host, target.port);
        self.dialled.lock().unwrap().push(line);
        Box::pin(async move {
            let port = self.ways.get(&(target.host.as_str(), target.port));
            let port = port.ok_or(std::io::ErrorKind::ConnectionRefused)?;
            let stream = TcpStream::connect(("127.0.0.1", *port)).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

fn led(ways: &[(&'static str, u16, &Registry)], roots: &str) -> (Network, Arc<Table>) {
    let ways = ways
        .iter()
        .map(|(host, port, to)| ((*host, *port), to.port));
    let table = Arc::new(Table {
        ways: ways.collect(),
        dialled: Mutex::default(),
    });
    let network = Network {
        dialer: Arc::<Table>::clone(&table),
        trust_roots_pem: roots.to_owned(),
        ..network()
    };
    (network, table)
}

async fn pull_from(network: &Network, reference: &str) -> Result<PulledImage> {
    pull_as(network, reference, alice()).await.result
}

#[tokio::test]
async fn a_registry_is_believed_by_the_hosts_roots_and_by_no_others() {
    let (ours, others) = (ca(), ca());
    let registry = Registry::listening(Some(acceptor(&ours, &["registry.example"]))).await;
    registry.publish("hello");
    let ways = [
        ("registry.example", 443, &registry),
        ("other.example", 443, &registry),
    ];
    let (network, _) = led(&ways, &ours.pem());
    pull_from(&network, "registry.example/a/b:t").await.unwrap();
    // A certificate for another name, one by somebody unknown, and Mozilla's roots.
    let error = pull_from(&network, "other.example/a/b:t")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(!error.to_string().contains("lighter up"), "{error}");
    let before = registry.seen().len();
    for roots in [others.pem(), String::new()] {
        let (network, _) = led(&ways, &roots);
        let error = pull_from(&network, "registry.example/a/b:t").await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
        assert!(error.contains("lighter down && lighter up"), "{error}");
        assert!(error.contains("ca-certificates.crt"), "{error}");
    }
    assert_eq!(registry.seen().len(), before, "nothing was said to it");
    let (network, _) = led(&ways, "no certificate");
    let error = pull_from(&network, "registry.example/a/b:t").await;
    assert!(error.unwrap_err().to_string().contains("trust roots"));
}

#[tokio::test]
async fn an_insecure_registry_is_asked_with_tls_first_and_any_certificate_does() {
    let registry = Registry::listening(Some(acceptor(&ca(), &["nobody.example"]))).await;
    registry.publish("hello");
    let ways = [("lan.example", 5000, &registry)];
    let (mut network, _) = led(&ways, &ca().pem());
    let name = "lan.example:5000/a/b:t";
    pull_from(&network, name).await.unwrap_err();
    network.insecure = vec!["lan.example:5000".into()];
    pull_from(&network, name).await.unwrap();
    // Loopback is insecure by itself.
    let local = format!("localhost:{}/a/b:t", registry.port);
    pull_from(&super::network(), &local).await.unwrap();
}

#[tokio::test]
async fn without_tls_an_insecure_registry_is_asked_in_the_clear() {
    let registry = Registry::new().await;
    registry.publish("hello");
    let ways = [("lan.example", 80, &registry)];
    let (mut network, table) = led(&ways, "");
    network.insecure = vec!["lan.example".into()];
    pull_from(&network, "lan.example/a/b:t").await.unwrap();
    let dialled = table.dialled.lock().unwrap().clone();
    assert_eq!(dialled[..2], ["lan.example:443", "lan.example:80"]);
    login(&network, "lan.example", &alice()).await.unwrap_err();
}

#[tokio::test]
async fn a_registry_that_has_shaken_hands_gets_nothing_in_the_clear() {
    let (tls, clear) = (
        Registry::listening(Some(acceptor(&ca(), &["x.example"]))).await,
        Registry::new().await,
    );
    clear.publish("hello");
    let ways = [("lan.example", 443, &tls), ("lan.example", 80, &clear)];
    let (mut network, _) = led(&ways, "");
    network.insecure = vec!["lan.example".into()];
    let error = pull_from(&network, "lan.example/a/b:t").await.unwrap_err();
    assert!(error.to_string().contains("manifest unknown"), "{error}");
    login(&network, "lan.example", &alice()).await.unwrap_err();
    assert!(clear.seen().is_empty());
}

#[tokio::test]
async fn mirrors_are_asked_before_the_hub_and_get_no_credentials() {
    let ca = ca();
    let hub_names = ["registry-1.docker.io"];
    let hub = Registry::listening(Some(acceptor(&ca, &hub_names))).await;
    let mirror = Registry::listening(Some(acceptor(&ca, &["mirror.example"]))).await;
    let ways = [
        ("registry-1.docker.io", 443, &hub),
        ("mirror.example", 443, &mirror),
    ];
    let (mut network, _) = led(&ways, &ca.pem());
    network.mirrors = vec![
        "https://gone.example".into(),
        "https://mirror.example/".into(),
    ];
    for registry in [&hub, &mirror] {
        registry.publish("hello");
    }
    pull_from(&network, "a/b:t").await.unwrap();
    assert!(hub.seen().is_empty() && !mirror.seen().is_empty());

    // A mirror that lacks it, or breaks off in the middle, is no obstacle.
    mirror.set("/v2/a/b/manifests/t", vec![status(404, Vec::new())]);
    pull_from(&network, "a/b:t").await.unwrap();
    assert!(!hub.seen().is_empty());
    let image = mirror.publish("hello");
    mirror.set(image.layer_path, vec![status(500, Vec::new())]);
    pull_from(&network, "a/b:t").await.unwrap();

    // One that wants a password is not given the hub's.
    let basic = vec![("www-authenticate", "Basic realm=\"r\"".to_owned())];
    mirror.set("/v2/a/b/manifests/t", vec![status(401, basic)]);
    pull_from(&network, "a/b:t").await.unwrap();
    assert!(!mirror.seen().iter().any(|line| line.contains("Basic ")));
    // And only the hub's own images are asked of it.
    let before = mirror.seen().len();
    pull_from(&network, "other.example/a/b:t")
        .await
        .unwrap_err();
    assert_eq!(mirror.seen().len(), before);
}

#[tokio::test]
async fn neither_a_redirect_nor_a_realm_leads_from_tls_into_the_clear() {
    let ca = ca();
    let registry = Registry::listening(Some(acceptor(&ca, &["registry.example"]))).await;
    let clear = Registry::new().await;
    let ways = [
        ("registry.example", 443, &registry),
        ("clear.example", 80, &clear),
    ];
    let (network, _) = led(&ways, &ca.pem());
    let image = registry.publish("hello");
    let location = vec![("location", "http://clear.example/x".to_owned())];
    registry.set(image.layer_path, vec![status(302, location)]);
    let error = pull_from(&network, "registry.example/a/b:t")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("from https to http"), "{error}");
    let realm = "Bearer realm=\"http://clear.example/token\",service=\"s\"".to_owned();
    let wants = vec![("www-authenticate", realm)];
    registry.set("/v2/a/b/manifests/t", vec![status(401, wants)]);
    let error = pull_from(&network, "registry.example/a/b:t")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("is not https"), "{error}");
    assert!(clear.seen().is_empty());
}
