//! Registries that are broken, overloaded or hostile.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// Answers every request with `answer`, byte for byte, and closes; what speaks TLS is hung up on.
async fn raw(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && head.first() != Some(&0x16) {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let head = String::from_utf8_lossy(&head);
                let path = head.split(' ').nth(1).unwrap_or_default();
                if !path.is_empty() {
                    stream.write_all(&answer(path)).await.ok();
                }
            });
        }
    });
    port
}

async fn refused_by(port: u16) -> String {
    let reference = format!("127.0.0.1:{port}/a/b:t");
    let pulled = pull_as(&network(), &reference, Credentials::default()).await;
    text(pulled.result)
}

fn errors(code: &str, message: &str) -> Bytes {
    format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#).into()
}

#[tokio::test]
async fn a_registry_s_own_words_are_passed_on() {
    let registry = Registry::new().await;
    let name = format!("127.0.0.1:{}/a/b", registry.port);
    let denied = "pull access denied for NAME, repository does not exist or may require \
                  'docker login': denied: requested access to the resource is denied";
    for (code, body, expected) in [
        (
            404,
            errors("NAME_UNKNOWN", "no such name"),
            "repository NAME not found: name unknown: no such name",
        ),
        (
            404,
            errors("MANIFEST_UNKNOWN", "no such tag"),
            "manifest for NAME:t not found: manifest unknown: no such tag",
        ),
        (
            401,
            errors("UNAUTHORIZED", "who are you"),
            "unauthorized: who are you",
        ),
        (403, Bytes::new(), denied),
        (
            403,
            errors("DENIED", "go away"),
            "pull access denied for NAME, repository does not exist or may require \
                  'docker login': denied: go away",
        ),
        (
            429,
            errors("TOOMANYREQUESTS", "slow down"),
            "toomanyrequests: slow down",
        ),
        (
            500,
            errors("UNKNOWN", "x"),
            "received unexpected HTTP status: 500 Internal Server Error",
        ),
        (
            200,
            Bytes::from_static(b"<html>"),
            "invalid manifest: expected value at line 1 column 1",
        ),
    ] {
        let answer = Page {
            body,
            ..status(code, Vec::new())
        };
        registry.set("/v2/a/b/manifests/t", vec![answer]);
        let expected = expected.replace("NAME", &name);
        assert_eq!(text(pull_of(&registry).await.result), expected);
    }
}

#[tokio::test]
async fn retry_after_is_waited_for_and_counted_down() {
    let registry = Registry::new().await;
    let image = registry.publish("hello");
    let busy = |seconds: &str| status(429, vec![("retry-after", seconds.to_owned())]);
    let answers = vec![busy("0"), busy("1"), page(image.layer.clone())];
    registry.set(image.layer_path, answers);
    // With the client's own wait this would never end.
    let network = Network {
        retry_delay: Duration::from_secs(1 << 20),
        ..network()
    };
    let pulled = pull_as(&network, &registry.reference(), Credentials::default()).await;
    pulled.result.unwrap();
    let waits: Vec<_> = pulled
        .heard
        .iter()
        .filter(|line| line.starts_with("Retrying"))
        .collect();
    assert_eq!(waits, ["Retrying in 1 second"]);
}

#[tokio::test]
async fn a_registry_that_is_never_done_is_given_up() {
    let registry = Registry::new().await;
    let image = registry.publish("hello");
    for answer in [
        status(429, vec![("retry-after", "0".into())]),
        status(503, Vec::new()),
        page(image.layer[..10].to_vec()),
    ] {
        registry.set(image.layer_path.clone(), vec![answer]);
        let pulled = pull_of(&registry).await;
        assert!(matches!(pulled.result, Err(Error::Registry(_))));
        assert!(pulled.store.layer(&image.diff_id).is_none());
        assert_nothing_left(&pulled.store);
    }
    // One that has no such layer is not asked again.
    registry.set(image.layer_path.clone(), vec![status(404, Vec::new())]);
    let before = registry.seen().len();
    let error = text(pull_of(&registry).await.result);
    assert!(error.contains("unknown blob"), "{error}");
    let asked = registry.seen();
    let asked = asked[before..]
        .iter()
        .filter(|line| line.contains(&image.layer_path));
    assert_eq!(asked.count(), 1);
}

fn assert_nothing_left(store: &Store) {
    assert!(store.layer_ids().unwrap().is_empty());
    let left = std::fs::read_dir(store.temporary("x").parent().unwrap()).unwrap();
    assert_eq!(left.count(), 0, "half a layer is left");
}

#[tokio::test]
async fn silence_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let network = Network {
        patience: Duration::from_millis(50),
        ..network()
    };
    let reference = format!("127.0.0.1:{port}/a/b:t");
    let pulled = pull_as(&network, &reference, Credentials::default()).await;
    let error = text(pulled.result);
    assert!(error.contains("timed out"), "{error}");
}

#[tokio::test]
async fn answers_that_break_off_or_lie_about_their_length_are_no_documents() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{}"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: nine\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-len",
        b"SSH-2.0-OpenSSH\r\n",
        b"",
    ] {
        let port = raw(move |_| answer.to_vec()).await;
        let error = refused_by(port).await;
        assert!(
            error.starts_with("Head ") || error.starts_with("Get "),
            "{error}"
        );
    }
    // Larger than any manifest, however long it says it is.
    let large = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b' '; 5 << 20]].concat();
    let port = raw(move |_| large.clone()).await;
    assert!(refused_by(port).await.contains("larger than"));
    let header = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
    let port = raw(move |_| header.clone().into_bytes()).await;
    assert!(refused_by(port).await.starts_with("Head "));
}

#[tokio::test]
async fn redirects_end_and_lead_only_to_where_http_leads() {
    let registry = Registry::new().await;
    let image = registry.publish("hello");
    for (location, words) in [
        (image.layer_path.clone(), "stopped after 10 redirects"),
        ("file:///etc/passwd".into(), "is no URL"),
        ("http://user:password@127.0.0.1/".into(), "is no URL"),
        ("gopher://x/".into(), "is no URL"),
        ("http://[::1]:1/".into(), "is not dialled for a redirect"),
        (
            "http://169.254.169.254/latest".into(),
            "is not dialled for a redirect",
        ),
    ] {
        let lead = status(307, vec![("location", location)]);
        registry.set(image.layer_path.clone(), vec![lead]);
        let error = text(pull_of(&registry).await.result);
        assert!(error.contains(words), "{error}");
    }
    registry.set(image.layer_path.clone(), vec![status(302, Vec::new())]);
    let error = text(pull_of(&registry).await.result);
    assert!(error.contains("no usable location"), "{error}");
    // To itself, once, is what registries with storage of their own do.
    let lead = status(307, vec![("location", "/storage".into())]);
    registry.set(image.layer_path.clone(), vec![lead]);
    registry.set("/storage", vec![page(image.layer)]);
    pull_of(&registry).await.result.unwrap();
}

#[tokio::test]
async fn cve_2020_15157_a_layer_s_own_urls_are_never_asked() {
    let (registry, elsewhere) = (Registry::new().await, Registry::new().await);
    let tar = tar("hello");
    let more = format!(
        r#","mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","urls":["http://storage.example:{}/x"]"#,
        elsewhere.port
    );
    let image = registry.publish_layer(gzip(&tar), Digest::of(&tar), "linux", &more);
    let anywhere = Network {
        dialer: Arc::new(Anywhere),
        ..network()
    };
    registry.set(image.layer_path, vec![status(404, Vec::new())]);
    let pulled = pull_as(&anywhere, &registry.reference(), alice()).await;
    assert!(text(pulled.result).contains("unknown blob"));
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn a_realm_elsewhere_gets_no_more_than_it_must() {
    let (registry, tokens) = (Registry::new().await, Registry::new().await);
    registry.publish("hello");
    let realm = |host: &str| {
        let realm = format!(
            "Bearer realm=\"http://{host}:{}/token?x=1\",service=\"s&scope=repository:other:push\"",
            tokens.port
        );
        status(401, vec![("www-authenticate", realm)])
    };
    // On the host itself: not dialled at all.
    registry.set("/v2/a/b/manifests/t", vec![realm("127.0.0.1")]);
    let refused = pull_as(&network(), &registry.reference(), alice()).await;
    assert!(
        text(refused.result).contains("is not dialled for a redirect, a token realm or an archive")
    );
    assert!(tokens.seen().is_empty());
    // Anywhere else: asked for this repository only, and told to nobody else.
    let anywhere = Network {
        dialer: Arc::new(Anywhere),
        ..network()
    };
    registry.set("/v2/a/b/manifests/t", vec![realm("tokens.example")]);
    let refused = pull_as(&anywhere, &registry.reference(), alice()).await;
    text(refused.result);
    let asked = format!(
        "GET /token?x=1&service=s%26scope%3Drepository%3Aother%3Apush&scope=repository%3Aa%2Fb%3Apull&account=alice  {ALICE}"
    );
    assert_eq!(tokens.seen(), [asked]);
    assert!(!registry.seen().iter().any(|line| line.contains(ALICE)));
    // A refresh token is not carried on to where a realm redirects.
    let other = Registry::new().await;
    let to = format!("http://other.example:{}/token", other.port);
    tokens.set("/token?x=1", vec![status(307, vec![("location", to)])]);
    let credentials = Credentials {
        identity_token: "refresh".into(),
        ..Credentials::default()
    };
    let refused = pull_as(&anywhere, &registry.reference(), credentials).await;
    text(refused.result);
    assert_eq!(tokens.seen().len(), 2, "{:?}", tokens.seen());
    assert!(other.seen().is_empty(), "{:?}", other.seen());
}

#[tokio::test]
async fn digests_are_not_confused() {
    let registry = Registry::new().await;
    let image = registry.publish("hello");
    let by_digest = |digest: &Digest| format!("127.0.0.1:{}/a/b:t@{digest}", registry.port);
    // A digest is what is pulled, whatever the tag beside it is now.
    let moved = page(r#"{"schemaVersion":2,"manifests":[]}"#);
    registry.set("/v2/a/b/manifests/t", vec![moved]);
    let reference = by_digest(&image.index);
    let pulled = pull_as(&network(), &reference, Credentials::default()).await;
    assert_eq!(pulled.result.unwrap().digest, image.index);
    // The registry's word for a tag's digest is checked.
    let mut lying = page(r#"{"schemaVersion":2,"manifests":[]}"#);
    lying.headers = vec![("docker-content-digest", image.index.to_string())];
    let path = format!("/v2/a/b/manifests/{}", image.index);
    registry.set(path, vec![lying.clone()]);
    registry.set("/v2/a/b/manifests/t", vec![lying]);
    let pulled = pull_of(&registry).await;
    assert!(matches!(pulled.result, Err(Error::Mismatch { .. })));
    // A layer that is what the manifest says and not what the configuration says.
    let image = registry.publish_layer(gzip(&tar("hello")), Digest::of(b"other"), "linux", "");
    let before = registry.seen().len();
    let pulled = pull_of(&registry).await;
    assert!(matches!(pulled.result, Err(Error::Mismatch { .. })));
    assert_nothing_left(&pulled.store);
    let asked = registry.seen();
    let asked = asked[before..]
        .iter()
        .filter(|line| line.contains(&image.layer_path));
    assert_eq!(asked.count(), 1, "another attempt would be the same");
}

#[tokio::test]
async fn documents_with_a_key_twice_or_both_forms_are_refused() {
    let registry = Registry::new().await;
    let digest = Digest::of(b"x");
    let (layer, config) = (
        format!(r#"[{{"digest":"{digest}","size":1}}]"#),
        format!(r#"{{"digest":"{digest}","size":1}}"#),
    );
    for body in [
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":{layer},"layers":[]}}"#),
        format!(r#"{{"schemaVersion":2,"config":{config},"config":{config},"layers":[]}}"#),
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":{layer},"manifests":[]}}"#),
        format!(
            r#"{{"schemaVersion":2,"config":{config},"layers":[{{"digest":"{digest}","size":-1}}]}}"#
        ),
        format!(
            r#"{{"schemaVersion":2,"config":{config},"layers":[{{"digest":"sha256:../x","size":1}}]}}"#
        ),
        format!(
            r#"{{"schemaVersion":2,"config":{config},"layers":{}1]}}"#,
            "[".repeat(200)
        ),
        r#"{"schemaVersion":1,"fsLayers":[]}"#.into(),
        r#"{"schemaVersion":2,"manifests":[]}"#.into(),
    ] {
        registry.set("/v2/a/b/manifests/t", vec![page(body.clone())]);
        let pulled = pull_of(&registry).await;
        assert!(pulled.result.is_err(), "{body}");
        assert!(pulled.heard.is_empty(), "{body}");
    }
}

#[tokio::test]
async fn a_layer_that_is_no_tar_is_refused_once() {
    let registry = Registry::new().await;
    let junk = gzip(&[7; 5000]);
    let image = registry.publish_layer(junk, Digest::of(&[7; 5000]), "linux", "");
    let pulled = pull_of(&registry).await;
    assert_nothing_left(&pulled.store);
    assert!(matches!(pulled.result, Err(Error::Tar(_))));
    let asked = registry.seen();
    let asked = asked.iter().filter(|line| line.contains(&image.layer_path));
    assert_eq!(asked.count(), 1);
}

#[tokio::test]
async fn another_system_s_image_is_refused_before_its_layers_come() {
    let registry = Registry::new().await;
    let tar = tar("hello");
    let image = registry.publish_layer(gzip(&tar), Digest::of(&tar), "windows", "");
    let error = text(pull_of(&registry).await.result);
    assert!(
        error.contains("operating system is not supported"),
        "{error}"
    );
    assert!(
        !registry
            .seen()
            .iter()
            .any(|line| line.contains(&image.layer_path))
    );
}

async fn listed(registry: &Registry) -> Result<Vec<String>> {
    let request = PullRequest {
        reference: format!("127.0.0.1:{}/a/b", registry.port).parse().unwrap(),
        platform: None,
        credentials: Credentials::default(),
    };
    let found = tags(&network(), &request).await?;
    Ok(found
        .iter()
        .map(|one| one.tag().unwrap_or("").to_owned())
        .collect())
}

#[tokio::test]
async fn tags_come_page_by_page_and_from_nowhere_else() {
    let registry = Registry::new().await;
    let link = |to: &str| vec![("link", format!("<{to}>; rel=\"next\""))];
    let pages = |next: &str| {
        let mut first = page(r#"{"name":"a/b","tags":["2","1","../x","-no"]}"#);
        first.headers = link(next);
        registry.set("/v2/a/b/tags/list", vec![first]);
    };
    pages("/v2/a/b/tags/list?last=2");
    registry.set("/v2/a/b/tags/list?last=2", vec![page(r#"{"tags":["3"]}"#)]);
    assert_eq!(listed(&registry).await.unwrap(), ["1", "2", "3"]);
    registry.set("/v2/a/b/tags/list?last=2", vec![page(r#"{"tags":null}"#)]);
    assert_eq!(listed(&registry).await.unwrap(), ["1", "2"]);
    pages("http://other.example/v2/a/b/tags/list");
    assert!(
        listed(&registry)
            .await
            .unwrap_err()
            .to_string()
            .contains("elsewhere")
    );
    pages("/v2/a/b/tags/list");
    assert!(
        listed(&registry)
            .await
            .unwrap_err()
            .to_string()
            .contains("no end")
    );
    registry.set("/v2/a/b/tags/list", vec![status(404, Vec::new())]);
    listed(&registry).await.unwrap_err();
}
