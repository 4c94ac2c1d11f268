//! A process that is killed while it takes layers in: what it left is swept, what it had finished is
//! whole, and the next attempt brings what it was to bring (containers/storage #1136, moby #32170).

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::TestStore;
use common::tars::Tar;
use lighter_images::registry::{Credentials, Network, PullRequest, pull};
use lighter_images::{Digest, Progress, ProgressEvent, Store, StoreOptions, TcpDialer, archive};

const STORE: &str = "LIGHTER_TEST_STORE";
const REGISTRY: &str = "LIGHTER_TEST_REGISTRY";

/// This test again, in a process of its own that takes in what it is given.
fn child(test: &str, store: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command.env(STORE, store).stdin(Stdio::piped());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn count(short: usize, long: usize) -> usize {
    if std::env::var_os("LIGHTER_LONG").is_some() {
        long
    } else {
        short
    }
}

/// Opens the store as the next engine does; whatever it shows must be what its name says, index
/// and all.
fn assert_sound(dir: &Path) -> Store {
    let store = Store::open(dir, StoreOptions::default()).unwrap();
    assert_eq!(fs::read_dir(dir.join("tmp")).unwrap().count(), 0);
    let other = TestStore::new();
    for id in store.layer_ids().unwrap() {
        let found = store.layer(&id).unwrap();
        let tar = fs::read(&found.tar).unwrap();
        assert_eq!(Digest::of(&tar), id, "a layer is not what its name says");
        let fresh = other.add(&tar).unwrap();
        assert!(
            fs::read(&found.index).unwrap() == fs::read(fresh.index).unwrap(),
            "an index is not that of its layer"
        );
    }
    store
}

fn layer(content: &str) -> Vec<u8> {
    let mut tar = Tar::default();
    for n in 0..20 {
        tar = tar.file(&format!("{n}"), content.repeat(n * 37).as_bytes());
    }
    tar.end()
}

fn config(layers: &[Vec<u8>]) -> String {
    let ids: Vec<String> = layers
        .iter()
        .map(|layer| Digest::of(layer).to_string())
        .collect();
    format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":{ids:?}}}}}"#
    )
}

fn image(content: &str) -> Vec<u8> {
    let layers = [layer(content), layer(&format!("{content}{content}"))];
    Tar::default()
        .file("config.json", config(&layers).as_bytes())
        .file("0", &layers[0])
        .file("1", &layers[1])
        .file(
            "manifest.json",
            br#"[{"Config":"config.json","RepoTags":["a:1"],"Layers":["0","1"]}]"#,
        )
        .end()
}

#[test]
fn killed_after_any_byte_of_an_archive() {
    if let Some(store) = std::env::var_os(STORE) {
        let store = Store::open(Path::new(&store), StoreOptions::default()).unwrap();
        archive::load(&store, std::io::stdin().lock()).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let whole = image("x");
    let steps = count(20, 200);
    for step in 0..=steps {
        let cut = whole.len() * step / steps;
        let mut child = child("killed_after_any_byte_of_an_archive", dir.path())
            .spawn()
            .unwrap();
        child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(&whole[..cut])
            .unwrap();
        kill(child);
        let store = assert_sound(dir.path());
        let images = archive::load(&store, &whole[..]).unwrap();
        assert_eq!(images.len(), 1);
        drop(images);
        // For the next round there is nothing again.
        store
            .collect(&lighter_images::Referenced::default())
            .unwrap();
    }
}

#[test]
fn killed_at_any_moment_of_storing() {
    if let Some(store) = std::env::var_os(STORE) {
        let store = Store::open(Path::new(&store), StoreOptions::default()).unwrap();
        for n in 0.. {
            // Stores, finds again and removes, over and over.
            drop(archive::load(&store, &image(&n.to_string())[..]).unwrap());
            if n % 3 == 2 {
                store
                    .collect(&lighter_images::Referenced::default())
                    .unwrap();
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    for round in 0..count(15, 500) {
        let child = child("killed_at_any_moment_of_storing", dir.path())
            .spawn()
            .unwrap();
        // The moment is the point of the test: a wait of some length, not synchronisation.
        std::thread::sleep(Duration::from_micros(
            20_000 + (round as u64 * 7919) % 60_000,
        ));
        kill(child);
        let store = assert_sound(dir.path());
        archive::load(&store, &image("after")[..]).unwrap();
    }
}

#[derive(Debug)]
struct Silent;

impl Progress for Silent {
    fn report(&self, _event: ProgressEvent) {}
}

fn pull_into(store: &Path, port: u16) -> lighter_images::Result<()> {
    let store = Arc::new(Store::open(store, StoreOptions::default())?);
    let network = Network {
        dialer: Arc::new(TcpDialer),
        mirrors: Vec::new(),
        insecure: Vec::new(),
        trust_roots_pem: String::new(),
        retry_delay: Duration::ZERO,
        patience: Duration::from_secs(60),
    };
    let request = PullRequest {
        reference: format!("127.0.0.1:{port}/a:1").parse().unwrap(),
        platform: lighter_images::Platform::parse("linux/amd64"),
        credentials: Credentials::default(),
    };
    let progress: Arc<dyn Progress> = Arc::new(Silent);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(pull(&store, &network, &request, &progress))?;
    Ok(())
}

/// Answers one request of a connection. Of a layer it sends `limit` bytes, then calls `reached`.
fn answer(mut stream: TcpStream, layer: &[u8], limit: usize, reached: impl FnOnce(TcpStream)) {
    let mut head = String::new();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    if lines.fill_buf().unwrap().first() == Some(&0x16) {
        return; // TLS
    }
    while lines.read_line(&mut head).unwrap_or(0) > 0 && !head.ends_with("\r\n\r\n") {}
    let config = config(&[layer.to_vec()]);
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"{}","size":{}}},"layers":[{{"digest":"{}","size":{}}}]}}"#,
        Digest::of(config.as_bytes()),
        config.len(),
        Digest::of(layer),
        layer.len()
    );
    let is_layer = head.contains(&Digest::of(layer).to_string());
    let body = if is_layer {
        layer
    } else if head.contains("/blobs/") {
        config.as_bytes()
    } else {
        manifest.as_bytes()
    };
    let mut out = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    if !head.starts_with("HEAD") {
        out.extend_from_slice(
            &body[..if is_layer {
                limit.min(body.len())
            } else {
                body.len()
            }],
        );
    }
    let _ = stream.write_all(&out);
    if is_layer && limit < body.len() {
        reached(stream);
    }
}

#[test]
fn killed_while_a_layer_is_applied_the_next_pull_brings_it_whole() {
    if let (Some(store), Some(port)) = (std::env::var_os(STORE), std::env::var(REGISTRY).ok()) {
        pull_into(Path::new(&store), port.parse().unwrap()).unwrap();
        return;
    }
    let layer = layer("pulled");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let steps = count(10, 100);
    for step in 0..steps {
        let dir = tempfile::tempdir().unwrap();
        let limit = layer.len() * step / steps;
        let name = "killed_while_a_layer_is_applied_the_next_pull_brings_it_whole";
        let mut process = child(name, dir.path());
        let mut running = Some(process.env(REGISTRY, port.to_string()).spawn().unwrap());
        while running.is_some() {
            let (stream, _) = listener.accept().unwrap();
            answer(stream, &layer, limit, |_held| kill(running.take().unwrap()));
        }
        let store = assert_sound(dir.path());
        assert!(
            store.layer_ids().unwrap().is_empty(),
            "half a layer is shown"
        );
        drop(store);
        // The next pull, by a process that lives, from a registry that is whole.
        let mut process = child(name, dir.path());
        let mut process = process.env(REGISTRY, port.to_string()).spawn().unwrap();
        listener.set_nonblocking(true).unwrap();
        let status = loop {
            if let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(false).unwrap();
                answer(stream, &layer, usize::MAX, |_| ());
            }
            if let Some(status) = process.try_wait().unwrap() {
                break status;
            }
            std::thread::yield_now();
        };
        listener.set_nonblocking(false).unwrap();
        assert!(status.success());
        let store = assert_sound(dir.path());
        assert_eq!(store.layer_ids().unwrap(), [Digest::of(&layer)]);
    }
}
