//! Pushes to a registry in this process that keeps what it is given.

use std::collections::HashSet;
use std::io::Read as _;

use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;

use super::*;
use crate::reference::Reference;
use crate::registry::{KnownBlob, PushRequest, PushedImage, push};

/// What it has and what was asked of it.
#[derive(Default)]
struct Kept {
    /// `repository digest`.
    blobs: HashMap<String, Bytes>,
    manifests: HashMap<String, Bytes>,
    open: HashMap<String, Vec<u8>>,
    seen: Vec<String>,
    /// What the next of these requests is answered with instead.
    refusals: Vec<(&'static str, u16, &'static str)>,
    /// What it wants to see first.
    token: Option<String>,
    /// Where uploads lead, if not to itself.
    elsewhere: Option<String>,
}

#[derive(Clone, Default)]
struct Taker(Arc<Mutex<Kept>>);

impl Taker {
    async fn listen(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let taker = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let taker = taker.clone();
                let serve = service_fn(move |request| {
                    let taker = taker.clone();
                    async move { Ok::<_, Infallible>(taker.answer(request).await) }
                });
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), serve));
            }
        });
        port
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let authorization = head.headers.get("authorization");
        let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
        let body = body.collect().await.map(|all| all.to_bytes());
        let mut kept = self.0.lock().unwrap();
        let method = head.method.as_str();
        kept.seen.push(format!(
            "{method} {} {}",
            head.uri,
            authorization.as_deref().unwrap_or("")
        ));
        let respond = |status: u16, location: &str, body: &str| {
            Response::builder()
                .status(status)
                .header("location", location)
                .body(Full::new(Bytes::from(body.to_owned())))
                .unwrap()
        };
        let Ok(body) = body else {
            return respond(400, "", "");
        };
        if kept.token.is_some() && kept.token != authorization {
            let mut refused = respond(401, "", "");
            let basic = "Basic realm=\"r\"".parse().unwrap();
            refused.headers_mut().insert("www-authenticate", basic);
            return refused;
        }
        let due = kept.refusals.iter().position(|(what, ..)| *what == method);
        if let Some(at) = due {
            let (_, status, body) = kept.refusals.remove(at);
            return respond(status, "", body);
        }
        let path = head.uri.path().trim_start_matches("/v2/").to_owned();
        let query: HashMap<String, String> =
            form_urlencoded::parse(head.uri.query().unwrap_or("").as_bytes())
                .into_owned()
                .collect();
        if let Some(repository) = path.strip_suffix("/blobs/uploads/") {
            if let Some(digest) = query.get("mount")
                && let Some(blob) = kept
                    .blobs
                    .get(&format!("{} {digest}", query["from"]))
                    .cloned()
            {
                kept.blobs.insert(format!("{repository} {digest}"), blob);
                return respond(201, "", "");
            }
            let number = kept.seen.len();
            let location = format!("/v2/{repository}/blobs/uploads/{number}?state=x");
            let host = kept.elsewhere.clone().unwrap_or_default();
            return respond(202, &format!("{host}{location}"), "");
        }
        if let Some((repository, _)) = path.split_once("/blobs/uploads/") {
            let open = kept.open.entry(path.clone()).or_default();
            open.extend_from_slice(&body);
            if method == "PATCH" {
                return respond(202, &format!("/v2/{path}?state=y"), "");
            }
            let whole = Bytes::from(std::mem::take(open));
            let digest = Digest::of(&whole).to_string();
            assert_eq!(query["digest"], digest);
            kept.blobs.insert(format!("{repository} {digest}"), whole);
            return respond(201, "", "");
        }
        if let Some((repository, digest)) = path.split_once("/blobs/") {
            let there = kept.blobs.contains_key(&format!("{repository} {digest}"));
            return respond(if there { 200 } else { 404 }, "", "");
        }
        if method == "PUT" {
            kept.manifests.insert(path, body);
            return respond(201, "", "");
        }
        respond(200, "", "{}")
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().seen)
    }

    fn set(&self, change: impl FnOnce(&mut Kept)) {
        change(&mut self.0.lock().unwrap());
    }
}

struct Local {
    store: Arc<Store>,
    id: Digest,
    diff_id: Digest,
    tar: Vec<u8>,
    dir: tempfile::TempDir,
}

/// An image of one layer, twice.
fn local() -> Local {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path(), StoreOptions::default()).unwrap());
    let tar = tar(&"content ".repeat(50_000));
    let diff_id = Digest::of(&tar);
    store.add_layer(&*tar, &diff_id).unwrap();
    let config = format!(
        r#"{{"os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}","{diff_id}"]}}}}"#
    );
    Local {
        id: store.write_blob(config.as_bytes()).unwrap(),
        store,
        diff_id,
        tar,
        dir,
    }
}

async fn push_to(
    local: &Local,
    name: &str,
    known: &[KnownBlob],
    credentials: Credentials,
) -> (Result<PushedImage>, Vec<String>) {
    push_over(&network(), local, name, known, credentials).await
}

async fn push_over(
    network: &Network,
    local: &Local,
    name: &str,
    known: &[KnownBlob],
    credentials: Credentials,
) -> (Result<PushedImage>, Vec<String>) {
    let heard = Arc::new(Heard::default());
    let progress: Arc<dyn Progress> = heard.clone();
    let request = PushRequest {
        reference: name.parse::<Reference>().unwrap(),
        image: local.id,
        credentials,
        known: HashMap::from([(local.diff_id, known.to_vec())]),
        slots: Arc::new(Semaphore::new(5)),
    };
    let pushed = push(&local.store, network, &request, &progress).await;
    let mut lines = std::mem::take(&mut *heard.0.lock().unwrap());
    lines.retain(|line| line != "Pushing" && !line.is_empty());
    (pushed, lines)
}

#[tokio::test]
async fn what_is_pushed_can_be_pulled_and_is_sent_once() {
    let (taker, local) = (Taker::default(), local());
    let port = taker.listen().await;
    let name = |path: &str| format!("127.0.0.1:{port}/{path}");
    let (pushed, heard) = push_to(&local, &name("a/b:t"), &[], Credentials::default()).await;
    let pushed = pushed.unwrap();
    let last = format!("t: digest: {} size: {}", pushed.digest, pushed.size);
    assert_eq!(heard, ["Preparing", "Preparing", "Pushed", &last]);
    let (diff_id, blob) = &pushed.layers[0];
    assert_eq!((diff_id, pushed.layers.len()), (&local.diff_id, 1));
    let sent = taker.0.lock().unwrap().blobs[&format!("a/b {}", blob.digest)].clone();
    assert_eq!(sent.len() as u64, blob.size);
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&*sent)
        .read_to_end(&mut unpacked)
        .unwrap();
    assert!(unpacked == local.tar, "the layer is the one that came in");
    let manifest = taker.0.lock().unwrap().manifests["a/b/manifests/t"].clone();
    assert_eq!(Digest::of(&manifest), pushed.digest);

    // It is known there, so nothing is sent but the name.
    let known = [blob.clone()];
    taker.seen();
    let (again, heard) = push_to(&local, &name("a/b:u"), &known, Credentials::default()).await;
    assert_eq!(again.unwrap().digest, pushed.digest);
    assert_eq!(heard[2], "Layer already exists");
    assert!(taker.seen().iter().all(|line| !line.starts_with("POST")));
    // Another repository takes it from there.
    let (again, heard) = push_to(&local, &name("c:u"), &known, Credentials::default()).await;
    assert_eq!(again.unwrap().digest, pushed.digest);
    assert_eq!(heard[2], "Mounted from a/b");
    // Where it is not known any more it is sent.
    taker.set(|kept| kept.blobs.clear());
    let (again, heard) = push_to(&local, &name("a/b:v"), &known, Credentials::default()).await;
    again.unwrap();
    assert_eq!(heard[2], "Pushed");
}

#[tokio::test]
async fn an_upload_that_breaks_is_begun_again_and_given_up_in_the_end() {
    let (taker, local) = (Taker::default(), local());
    let name = format!("127.0.0.1:{}/a:t", taker.listen().await);
    taker.set(|kept| {
        kept.refusals = vec![("POST", 503, ""), ("PATCH", 500, ""), ("PATCH", 429, "")];
    });
    push_to(&local, &name, &[], Credentials::default())
        .await
        .0
        .unwrap();
    let posts = taker.seen().into_iter();
    // Four for the layer, one for the configuration.
    assert_eq!(posts.filter(|line| line.starts_with("POST")).count(), 5);
    taker.set(|kept| kept.blobs.clear());
    taker.set(|kept| kept.refusals = vec![("PATCH", 502, ""); 9]);
    let (failed, _) = push_to(&local, &name, &[], Credentials::default()).await;
    let error = failed.unwrap_err().to_string();
    assert_eq!(error, "received unexpected HTTP status: 502 Bad Gateway");
    assert_eq!(taker.0.lock().unwrap().refusals.len(), 4);
}

#[tokio::test]
async fn refusals_are_the_registry_s_words() {
    let (taker, local) = (Taker::default(), local());
    let name = format!("127.0.0.1:{}/a:t", taker.listen().await);
    let said = async |credentials: Credentials| {
        let (failed, _) = push_to(&local, &name, &[], credentials).await;
        failed.unwrap_err().to_string()
    };
    let denied = r#"{"errors":[{"code":"DENIED","message":"not yours"}]}"#;
    for (refusal, expected) in [
        (("POST", 403, denied), "denied: not yours"),
        (
            ("POST", 403, ""),
            "denied: requested access to the resource is denied",
        ),
        (
            ("PUT", 400, r#"{"errors":[{"code":"X_Y","message":"z"}]}"#),
            "x y: z",
        ),
        (
            ("PATCH", 413, ""),
            "received unexpected HTTP status: 413 Payload Too Large",
        ),
    ] {
        taker.set(|kept| kept.refusals = vec![refusal]);
        assert_eq!(said(Credentials::default()).await, expected);
    }
    taker.set(|kept| kept.token = Some(ALICE.into()));
    assert_eq!(
        said(Credentials::default()).await,
        "no basic auth credentials"
    );
    let wrong = Credentials {
        password: "no".into(),
        ..alice()
    };
    assert_eq!(said(wrong).await, "unauthorized: authentication required");
    let (pushed, _) = push_to(&local, &name, &[], alice()).await;
    pushed.unwrap();
}

#[tokio::test]
async fn a_token_is_asked_for_with_what_a_push_needs() {
    let (registry, local) = (Registry::new().await, local());
    let challenge = format!(
        "Bearer realm=\"http://127.0.0.1:{}/token\",service=\"s\"",
        registry.port
    );
    let wanted = vec![("www-authenticate", challenge)];
    registry.set("/v2/a/blobs/uploads/", vec![status(401, wanted)]);
    registry.set("/v2/", vec![page("{}")]);
    let name = format!("127.0.0.1:{}/a:t", registry.port);
    push_to(&local, &name, &[], alice()).await.0.unwrap_err();
    let asked = "GET /token?service=s&scope=repository%3Aa%3Apull%2Cpush&account=alice";
    let seen = registry.seen();
    assert!(seen.iter().any(|line| line.starts_with(asked)), "{seen:#?}");
}

/// As CVE-2020-15157 had it for pulls: where an upload leads is the registry's word, and what is there
/// asks for a password in the name of any token service it likes.
#[tokio::test]
async fn cve_2020_15157_where_an_upload_leads_gets_no_password() {
    let (taker, local) = (Taker::default(), local());
    let port = taker.listen().await;
    let name = format!("127.0.0.1:{port}/a:t");
    taker.set(|kept| {
        kept.token = Some(ALICE.into());
        kept.elsewhere = Some("http://127.0.0.1:9".into());
    });
    let (failed, _) = push_to(&local, &name, &[], alice()).await;
    let error = failed.unwrap_err().to_string();
    assert!(error.contains("is not dialled for a redirect"), "{error}");

    let anywhere = Network {
        dialer: Arc::new(Anywhere),
        ..network()
    };
    let tokens = Registry::new().await;
    tokens.set("/token", vec![page(r#"{"token":"abc"}"#)]);
    let realm = format!("realm=\"http://tokens.example:{}/token\"", tokens.port);
    // The storage asks when an upload begins, or only when it ends.
    for (at_once, challenge) in [
        (true, format!("Bearer {realm}")),
        (false, format!("Bearer {realm}")),
        (true, "Basic realm=\"r\"".to_owned()),
        (false, "Basic realm=\"r\"".to_owned()),
    ] {
        let storage = Storage::listen(at_once, challenge).await;
        let host = format!("http://storage.example:{}", storage.port);
        taker.set(|kept| kept.elsewhere = Some(host));
        let (failed, _) = push_over(&anywhere, &local, &name, &[], alice()).await;
        failed.unwrap_err();
        let seen = storage.seen.lock().unwrap();
        assert!(!seen.is_empty(), "the storage is never asked");
        assert!(
            seen.iter().all(|line| line.ends_with("without")),
            "{seen:?}"
        );
        assert!(tokens.seen().is_empty(), "{:?}", tokens.seen());
    }
}

/// Takes uploads, until it wants to know who sends them.
struct Storage {
    port: u16,
    /// Method, and whether there was an authorization.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Storage {
    async fn listen(at_once: bool, challenge: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let (kept, challenge) = (Arc::clone(&seen), Arc::new(challenge));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, challenge) = (Arc::clone(&kept), Arc::clone(&challenge));
                let serve = service_fn(move |request: Request<Incoming>| {
                    let (seen, challenge) = (Arc::clone(&seen), Arc::clone(&challenge));
                    async move {
                        let (head, body) = request.into_parts();
                        let with = match head.headers.contains_key("authorization") {
                            true => "with",
                            false => "without",
                        };
                        seen.lock().unwrap().push(format!("{} {with}", head.method));
                        body.collect().await.ok();
                        let response = Response::builder();
                        let response = match at_once || head.method == "PUT" {
                            true => response.status(401).header("www-authenticate", &*challenge),
                            false => response.status(202).header("location", head.uri.path()),
                        };
                        Ok::<_, Infallible>(response.body(Full::new(Bytes::new())).unwrap())
                    }
                });
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), serve));
            }
        });
        Self { port, seen }
    }
}

#[tokio::test]
async fn a_damaged_layer_is_not_published() {
    let (taker, local) = (Taker::default(), local());
    let name = format!("127.0.0.1:{}/a:t", taker.listen().await);
    let tar = local.store.layer(&local.diff_id).unwrap().tar;
    assert!(tar.starts_with(local.dir.path()));
    let mut bytes = local.tar.clone();
    bytes[600] ^= 1;
    std::fs::write(&tar, bytes).unwrap();
    let (failed, _) = push_to(&local, &name, &[], Credentials::default()).await;
    assert!(matches!(failed, Err(Error::Mismatch { .. })));
    let kept = taker.0.lock().unwrap();
    let names: HashSet<&String> = kept.blobs.keys().collect();
    assert!(names.is_empty() && kept.manifests.is_empty(), "{names:?}");
}
