//! The client against registries in this process: this is what they are made of, and the plain
//! ways; `fetch`, `hostile`, `look`, `push` and `tls` have the others.

mod fetch;
mod hostile;
mod look;
mod push;
mod tls;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::dial::TcpDialer;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{OCI_INDEX, OCI_MANIFEST};
use crate::progress::{Progress, ProgressEvent};
use crate::store::{Store, StoreOptions};

/// What a path answers, the first time, the second time, … and ever after.
type Pages = HashMap<String, Vec<Page>>;

#[derive(Clone)]
struct Page {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    /// Answered only to those who send this.
    authorization: Option<String>,
}

fn page(body: impl Into<Bytes>) -> Page {
    Page {
        status: 200,
        headers: Vec::new(),
        body: body.into(),
        authorization: None,
    }
}

fn status(status: u16, headers: Vec<(&'static str, String)>) -> Page {
    Page {
        status,
        headers,
        ..page("")
    }
}

struct Registry {
    port: u16,
    pages: Arc<Mutex<Pages>>,
    /// Method, path, Range and Authorization of every request.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    async fn new() -> Self {
        Self::listening(None).await
    }

    /// With TLS, or without.
    async fn listening(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = Self {
            port: listener.local_addr().unwrap().port(),
            pages: Arc::default(),
            seen: Arc::default(),
        };
        let (pages, seen) = (Arc::clone(&registry.pages), Arc::clone(&registry.seen));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (pages, seen) = (Arc::clone(&pages), Arc::clone(&seen));
                tokio::spawn(serve(stream, tls.clone(), pages, seen));
            }
        });
        registry
    }

    fn set(&self, path: impl Into<String>, pages: Vec<Page>) {
        self.pages.lock().unwrap().insert(path.into(), pages);
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Puts an image of one layer there as `a/b:t`.
    fn publish(&self, content: &str) -> Image {
        let tar = tar(content);
        self.publish_layer(gzip(&tar), Digest::of(&tar), "linux", "")
    }

    /// Puts an image of this layer there; `more` goes into the layer's descriptor.
    fn publish_layer(&self, layer: Vec<u8>, diff_id: Digest, os: &str, more: &str) -> Image {
        let config = format!(
            r#"{{"architecture":"amd64","os":"{os}","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#,
        );
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"digest":"{}","size":{}}},"layers":[{{"digest":"{}","size":{}{more}}}]}}"#,
            Digest::of(config.as_bytes()),
            config.len(),
            Digest::of(&layer),
            layer.len()
        );
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{{"digest":"{}","size":{},"platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#,
            Digest::of(manifest.as_bytes()),
            manifest.len()
        );
        let image = Image {
            manifest: Digest::of(manifest.as_bytes()),
            index: Digest::of(index.as_bytes()),
            diff_id,
            layer_path: format!("/v2/a/b/blobs/{}", Digest::of(&layer)),
            layer: layer.clone(),
        };
        let mut tagged = page(index.clone());
        tagged.headers = vec![("docker-content-digest", image.index.to_string())];
        self.set("/v2/a/b/manifests/t", vec![tagged]);
        self.set(
            format!("/v2/a/b/manifests/{}", image.index),
            vec![page(index)],
        );
        self.set(
            format!("/v2/a/b/manifests/{}", image.manifest),
            vec![page(manifest)],
        );
        let path = format!("/v2/a/b/blobs/{}", Digest::of(config.as_bytes()));
        self.set(path, vec![page(config)]);
        self.set(image.layer_path.clone(), vec![page(layer)]);
        image
    }

    fn reference(&self) -> String {
        format!("127.0.0.1:{}/a/b:t", self.port)
    }
}

struct Image {
    manifest: Digest,
    index: Digest,
    diff_id: Digest,
    layer_path: String,
    layer: Vec<u8>,
}

async fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    pages: Arc<Mutex<Pages>>,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let serve = service_fn(move |request| {
        let answer = answer(&pages, &seen, &request);
        async { Ok::<_, Infallible>(answer) }
    });
    let http = hyper::server::conn::http1::Builder::new();
    // What a client does with its connection is the client's business.
    match tls {
        None => http
            .serve_connection(TokioIo::new(stream), serve)
            .await
            .ok(),
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => http
                .serve_connection(TokioIo::new(stream), serve)
                .await
                .ok(),
            Err(_) => None,
        },
    };
}

fn answer(
    pages: &Mutex<Pages>,
    seen: &Mutex<Vec<String>>,
    request: &Request<Incoming>,
) -> Response<Full<Bytes>> {
    let header = |name: &str| {
        let value = request.headers().get(name);
        value.map_or("", |v| v.to_str().unwrap()).to_owned()
    };
    let (range, authorization) = (header("range"), header("authorization"));
    let path = request.uri().to_string();
    let line = format!("{} {path} {range} {authorization}", request.method());
    seen.lock().unwrap().push(line.trim_end().to_owned());
    let mut pages = pages.lock().unwrap();
    let found = pages.get_mut(&path).map(|pages| {
        if pages.len() > 1 {
            pages.remove(0)
        } else {
            pages[0].clone()
        }
    });
    let mut found = found.unwrap_or_else(|| status(404, Vec::new()));
    if found
        .authorization
        .as_ref()
        .is_some_and(|wanted| *wanted != authorization)
    {
        found.status = 401;
        found.body = Bytes::new();
    }
    let mut response = Response::builder().status(found.status);
    for (name, value) in &found.headers {
        response = response.header(*name, value);
    }
    let offset = range
        .strip_prefix("bytes=")
        .map(|r| r.trim_end_matches('-'));
    if let Some(offset) = offset.and_then(|offset| offset.parse::<usize>().ok())
        && found.status == 200
    {
        let length = found.body.len();
        response = response.status(206).header(
            "content-range",
            format!("bytes {offset}-{}/{length}", length - 1),
        );
        found.body = found.body.slice(offset..);
    }
    response.body(Full::new(found.body)).unwrap()
}

/// A tar of one file, `f`.
fn tar(content: &str) -> Vec<u8> {
    let mut header = [0_u8; 512];
    header[0] = b'f';
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[148..156].copy_from_slice(b"        ");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = header.to_vec();
    tar.extend_from_slice(content.as_bytes());
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    tar
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[derive(Debug, Default)]
struct Heard(Mutex<Vec<String>>);

impl Progress for Heard {
    fn report(&self, event: ProgressEvent) {
        if !event.status.starts_with("Downloading") {
            self.0.lock().unwrap().push(event.status);
        }
    }
}

struct Pulled {
    result: Result<PulledImage>,
    store: Arc<Store>,
    heard: Vec<String>,
    _dir: tempfile::TempDir,
}

fn network() -> Network {
    Network {
        dialer: Arc::new(TcpDialer),
        mirrors: Vec::new(),
        insecure: Vec::new(),
        trust_roots_pem: String::new(),
        retry_delay: Duration::ZERO,
        patience: Duration::from_secs(60),
    }
}

fn alice() -> Credentials {
    Credentials {
        username: "alice".into(),
        password: "secret".into(),
        ..Credentials::default()
    }
}

/// `alice:secret`.
const ALICE: &str = "Basic YWxpY2U6c2VjcmV0";

async fn pull_as(network: &Network, reference: &str, credentials: Credentials) -> Pulled {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path(), StoreOptions::default()).unwrap());
    let heard = Arc::new(Heard::default());
    let progress: Arc<dyn Progress> = Arc::<Heard>::clone(&heard);
    let request = PullRequest {
        reference: reference.parse().unwrap(),
        platform: crate::manifest::Platform::parse("linux/amd64"),
        credentials,
    };
    let result = pull(&store, network, &request, &progress).await;
    let heard = heard.0.lock().unwrap().clone();
    Pulled {
        result,
        store,
        heard,
        _dir: dir,
    }
}

async fn pull_of(registry: &Registry) -> Pulled {
    pull_as(&network(), &registry.reference(), Credentials::default()).await
}

fn text(result: Result<PulledImage>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn an_image_comes_through_its_index() {
    let registry = Registry::new().await;
    let image = registry.publish("hello");
    let pulled = pull_of(&registry).await;
    assert_eq!(pulled.result.unwrap().digest, image.index);
    let layer = pulled.store.layer(&image.diff_id).unwrap();
    assert_eq!(std::fs::read(layer.tar).unwrap(), tar("hello"));
    let expected = [
        "Pulling from a/b".to_owned(),
        "Pulling fs layer".into(),
        "Verifying Checksum".into(),
        "Download complete".into(),
        "Extracting".into(),
        "Pull complete".into(),
        format!("Digest: {}", image.index),
    ];
    assert_eq!(pulled.heard, expected);
}

#[tokio::test]
async fn wrong_content_never_becomes_visible() {
    let registry = Registry::new().await;
    let image = registry.publish("hello");
    let mut other = image.layer.clone();
    other[4] ^= 1;
    registry.set(image.layer_path.clone(), vec![page(other)]);
    let pulled = pull_of(&registry).await;
    assert!(pulled.store.layer(&image.diff_id).is_none());
    let digest = Digest::of(&image.layer);
    assert_eq!(
        text(pulled.result),
        format!("filesystem layer verification failed for digest {digest}")
    );
    let asked = registry.seen();
    let asked = asked.iter().filter(|line| line.contains(&image.layer_path));
    assert_eq!(asked.count(), 1, "as dockerd has it, no other attempt");

    let longer = [&image.layer[..], b"x"].concat();
    registry.set(image.layer_path.clone(), vec![page(longer)]);
    let pulled = pull_of(&registry).await;
    assert!(matches!(pulled.result, Err(Error::Size { .. })));

    let path = format!("/v2/a/b/manifests/{}", image.manifest);
    registry.set(path, vec![page("{}")]);
    let pulled = pull_of(&registry).await;
    assert!(matches!(pulled.result, Err(Error::Mismatch { .. })));
    assert!(pulled.heard.is_empty());
}

#[tokio::test]
async fn broken_downloads_go_on_where_they_broke() {
    let registry = Registry::new().await;
    let image = registry.publish("hello");
    let broken = page(image.layer[..10].to_vec());
    let busy = status(429, vec![("retry-after", "0".into())]);
    let whole = page(image.layer.clone());
    let answers = vec![status(503, Vec::new()), busy, broken, whole];
    registry.set(image.layer_path.clone(), answers);
    let pulled = pull_of(&registry).await;
    pulled.result.unwrap();
    assert!(pulled.store.layer(&image.diff_id).is_some());
    let last = registry.seen().pop().unwrap();
    assert_eq!(last, format!("GET {} bytes=10-", image.layer_path));

    // A registry that is always short is given up.
    let short = page(image.layer[..10].to_vec());
    registry.set(image.layer_path.clone(), vec![short]);
    let pulled = pull_of(&registry).await;
    assert!(matches!(pulled.result, Err(Error::Registry(_))));
    assert!(pulled.store.layer(&image.diff_id).is_none());
}

#[tokio::test]
async fn refusals_are_worded_as_docker_words_them() {
    let registry = Registry::new().await;
    let name = format!("127.0.0.1:{}/a/b", registry.port);
    assert_eq!(
        text(pull_of(&registry).await.result),
        format!("manifest for {name}:t not found: manifest unknown: manifest unknown")
    );
    let basic = vec![("www-authenticate", "Basic realm=\"r\"".to_owned())];
    registry.set("/v2/a/b/manifests/t", vec![status(401, basic)]);
    let url = format!("http://127.0.0.1:{}/v2/a/b/manifests/t", registry.port);
    assert_eq!(
        text(pull_of(&registry).await.result),
        format!("Head \"{url}\": no basic auth credentials")
    );
    let wrong = pull_as(&network(), &registry.reference(), alice()).await;
    assert_eq!(text(wrong.result), "unauthorized: authentication required");
    registry.set("/v2/a/b/manifests/t", vec![status(403, Vec::new())]);
    assert_eq!(
        text(pull_of(&registry).await.result),
        format!(
            "pull access denied for {name}, repository does not exist or may require \
             'docker login': denied: requested access to the resource is denied"
        )
    );
}

#[tokio::test]
async fn tokens_are_fetched_with_the_password_and_nothing_else_gets_it() {
    let (registry, storage) = (Registry::new().await, Registry::new().await);
    let image = registry.publish("hello");
    let challenge = format!(
        "Bearer realm=\"http://127.0.0.1:{}/token\",service=\"s\",scope=\"repository:other:*\"",
        registry.port
    );
    for pages in registry.pages.lock().unwrap().values_mut() {
        for page in pages {
            page.authorization = Some("Bearer abc".into());
            page.headers.push(("www-authenticate", challenge.clone()));
        }
    }
    let mut token = page(r#"{"token":"abc"}"#);
    token.authorization = Some(ALICE.into());
    let path = "/token?service=s&scope=repository%3Aa%2Fb%3Apull&account=alice";
    registry.set(path, vec![token]);
    pull_as(&network(), &registry.reference(), alice())
        .await
        .result
        .unwrap();
    let with_password = registry.seen();
    let with_password: Vec<_> = with_password
        .iter()
        .filter(|line| line.contains(ALICE))
        .collect();
    assert_eq!(with_password, [&format!("GET {path}  {ALICE}")]);

    // Storage elsewhere, reached by a redirect: on loopback it is not dialled at all.
    let location = format!("http://127.0.0.1:{}/x", storage.port);
    registry.set(
        image.layer_path.clone(),
        vec![status(307, vec![("location", location)])],
    );
    let refused = pull_as(&network(), &registry.reference(), alice()).await;
    assert!(text(refused.result).contains("is not dialled for a redirect"));
    assert!(storage.seen().is_empty());
}

/// Dials everything, as a host does for addresses of the outside.
#[derive(Debug)]
struct Anywhere;

impl Dialer for Anywhere {
    fn dial<'a>(
        &'a self,
        target: &'a crate::dial::DialTarget,
        purpose: &'a crate::dial::DialPurpose,
    ) -> futures_util::future::BoxFuture<'a, std::io::Result<Box<dyn crate::dial::Stream>>> {
        let _ = purpose;
        Box::pin(async move {
            let stream = TcpStream::connect(("127.0.0.1", target.port)).await?;
            Ok(Box::new(stream) as Box<dyn crate::dial::Stream>)
        })
    }
}

/// CVE-2020-15157: the place that a blob is redirected to learns nothing and decides nothing.
#[tokio::test]
async fn cve_2020_15157_no_authorization_goes_to_another_origin() {
    let (registry, storage) = (Registry::new().await, Registry::new().await);
    let image = registry.publish("hello");
    let basic = || ("www-authenticate", "Basic realm=\"r\"".to_owned());
    for pages in registry.pages.lock().unwrap().values_mut() {
        pages[0].authorization = Some(ALICE.into());
        pages[0].headers.push(basic());
    }
    let location = format!("http://storage.example:{}/x", storage.port);
    registry.set(
        image.layer_path.clone(),
        vec![status(307, vec![("location", location)])],
    );
    storage.set("/x", vec![page(image.layer.clone())]);
    let anywhere = Network {
        dialer: Arc::new(Anywhere),
        ..network()
    };
    let pulled = pull_as(&anywhere, &registry.reference(), alice()).await;
    pulled.result.unwrap();
    assert_eq!(storage.seen(), ["GET /x"]);

    // A storage that asks for a password gets none, no token, and has no token service asked for it.
    let tokens = Registry::new().await;
    let realm = format!(
        "Bearer realm=\"http://tokens.example:{}/token\"",
        tokens.port
    );
    for challenge in [basic(), ("www-authenticate", realm)] {
        storage.set("/x", vec![status(401, vec![challenge])]);
        pull_as(&anywhere, &registry.reference(), alice())
            .await
            .result
            .unwrap_err();
        assert!(storage.seen().iter().all(|line| line == "GET /x"));
        assert!(tokens.seen().is_empty(), "{:?}", tokens.seen());
    }
}

#[tokio::test]
async fn login_is_the_registry_s_word() {
    let registry = Registry::new().await;
    let mut root = page("{}");
    root.authorization = Some(ALICE.into());
    root.headers = vec![("www-authenticate", "Basic realm=\"r\"".to_owned())];
    registry.set("/v2/", vec![root]);
    let address = format!("http://127.0.0.1:{}", registry.port);
    login(&network(), &address, &alice()).await.unwrap();
    let nobody = Credentials {
        username: "nobody".into(),
        password: "x".into(),
        ..Credentials::default()
    };
    let error = login(&network(), &address, &nobody).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("login attempt to {address}/v2/ failed with status: 401 Unauthorized")
    );
}
