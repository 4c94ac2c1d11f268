//! `docker load` and `docker save` through init and agent, with the agent killed on the way.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tempfile::tempdir;

use crate::machine::Machine;

/// A ustar entry.
fn entry(name: &str, content: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..124].copy_from_slice(b"0000644\x000000000\x000000000\0");
    block[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    block[136..156].copy_from_slice(b"00000000000\0        ");
    block[156] = b'0';
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.extend_from_slice(content);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

/// An archive of one image with one layer.
pub fn archive() -> Vec<u8> {
    archive_of("file")
}

/// The same with another file in it.
pub fn archive_of(file: &str) -> Vec<u8> {
    let layer = [entry(file, &[b'x'; 20_000]), vec![0; 1024]].concat();
    let mut sum = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    sum.stdin.take().unwrap().write_all(&layer).unwrap();
    let sum = String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap();
    let digest = &sum[..64];
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["sha256:{digest}"]}}}}"#
    );
    let manifest = br#"[{"Config":"config.json","RepoTags":["made:1"],"Layers":["layer.tar"]}]"#;
    [
        entry("config.json", config.as_bytes()),
        entry("layer.tar", &layer),
        entry("manifest.json", manifest),
        vec![0; 1024],
    ]
    .concat()
}

fn load(machine: &Machine, body: &[u8], length: usize) -> UnixStream {
    let mut stream = machine.connect("docker.sock");
    let head = format!(
        "POST /v1.51/images/load HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream
}

fn answer(mut stream: UnixStream) -> Vec<u8> {
    let mut answer = Vec::new();
    // A stream that is cut off has what came before.
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn get(machine: &Machine, path: &str) -> Vec<u8> {
    let mut stream = machine.connect("docker.sock");
    let head = format!("GET /v1.51{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    answer(stream)
}

fn images(machine: &Machine) -> usize {
    let listed = String::from_utf8(get(machine, "/images/json")).unwrap();
    assert!(listed.starts_with("HTTP/1.1 200"), "{listed}");
    listed.matches("\"RepoTags\":[\"made:1\"]").count()
}

/// Every file of this name below `dir`.
pub fn find(dir: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name() == name {
            found.push(path.clone());
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(find(&path, name));
        }
    }
    found
}

#[test]
fn load_cut_off_by_a_kill_leaves_nothing_and_an_answered_one_everything() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    machine.greeted();
    let whole = archive();
    let steps = if std::env::var_os("LIGHTER_LONG").is_some() {
        100
    } else {
        6
    };
    for step in 0..steps {
        let cut = whole.len() * step / steps;
        let stream = load(&machine, &whole[..cut], whole.len());
        machine.kill_agent();
        // One that was not accepted yet is the next agent's: it must not wait for the rest.
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        drop(answer(stream));
        assert_eq!(images(&machine), 0, "half an image after {cut} bytes");
        assert!(
            find(dir.path(), "layer.tar").is_empty(),
            "half a layer is left"
        );
    }
    let said = String::from_utf8(answer(load(&machine, &whole, whole.len()))).unwrap();
    assert!(said.contains("Loaded image: made:1"), "{said}");
    machine.kill_agent();
    assert_eq!(images(&machine), 1);
    let saved = get(&machine, "/images/get?names=made:1");
    assert!(saved.ends_with(b"0\r\n\r\n"), "the archive has an end");

    // What cannot be read to its end must not look like a whole archive.
    let layer = find(dir.path(), "layer.tar").pop().unwrap();
    std::fs::File::options()
        .write(true)
        .open(layer)
        .unwrap()
        .set_len(10_000)
        .unwrap();
    let saved = get(&machine, "/images/get?names=made:1");
    assert!(
        !saved.ends_with(b"0\r\n\r\n"),
        "a broken archive looks whole"
    );
}

#[test]
fn a_failed_load_gives_back_what_it_had_stored() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    machine.greeted();
    // The image is whole and its second is not there: the first one's layer was stored.
    let good = archive();
    let two = br#"[{"Config":"config.json","RepoTags":["made:1"],"Layers":["layer.tar"]},{"Config":"none","Layers":[]}]"#;
    let body = [
        &good[..good.len() - 1024],
        &entry("manifest.json", two),
        &[0; 1024],
    ]
    .concat();
    let said = String::from_utf8(answer(load(&machine, &body, body.len()))).unwrap();
    assert!(said.contains("none is missing"), "{said}");
    // It is collected beside the answer; the next request that collects waits for that.
    while !find(dir.path(), "layer.tar").is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(images(&machine), 0);
}
