//! The secret of a boot (decision 10): never on a command line, in an argument, in an environment or on
//! a disk. Memory of the engine is another matter: `--privileged --pid host` is a way to that.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use lighter_tests::Host;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};

use crate::probe;

#[test]
fn secret_of_the_boot_is_nowhere_that_a_container_can_read() {
    let Some(host) = Host::started("secret_of_the_boot_is_nowhere_that_a_container_can_read")
    else {
        return;
    };
    let secret = secret_of(&host);
    let canary: String = "0123456789abcdef".chars().rev().cycle().take(64).collect();
    let planted = format!("PLANTED={canary}");
    let wanted = format!("{},{}", disguise(&secret), disguise(&canary));
    for (flags, roots, privileged) in [
        (&[][..], &["/"][..], false),
        (&["--privileged"], &["/"], true),
        (
            &["--privileged", "--pid", "host"],
            &["/proc", "/dev", "/proc/1/root/run", "/proc/1/root/etc"],
            true,
        ),
    ] {
        let mut flags = flags.to_vec();
        flags.extend(["-e", &planted]);
        let mut args = vec!["find", &wanted];
        args.extend(roots);
        let found = probe(&host, &flags, &args).out();
        assert!(!found.contains("found 0 "), "{flags:?}: {found}");
        // The search does find what is there.
        assert!(
            found.contains("found 1 in /proc/") && found.contains("/environ\n"),
            "{flags:?}: {found}"
        );
        assert_eq!(found.contains(" 0 bytes of disks"), !privileged, "{found}");
        assert_eq!(
            found.contains(" 0 bytes of the log"),
            !privileged,
            "{found}"
        );
        assert!(!found.contains(" 0 command lines"), "{found}");
    }
    // The same on the host, where another program of the user may look.
    for pid in host.processes("") {
        for what in ["cmdline", "environ"] {
            let text = std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
            assert!(!holds(&text, &secret), "{what} of process {pid}");
        }
    }
    // A container that stays is on the disk once it was created. Those with `--rm` need not be.
    host.docker(&["create", "--name", "planted", "-e", &planted, "busybox"])
        .ok();
    let mut seen_canary = false;
    for file in files(host.home()) {
        let content = data(&file);
        assert!(!holds(&content, &secret), "{}", file.display());
        seen_canary |= holds(&content, &canary);
    }
    assert!(seen_canary, "the search of the host's files finds nothing");
}

/// The machine process tells its daemon; a daemon that is killed leaves that place free.
fn secret_of(host: &Host) -> String {
    assert_eq!(host.kill("lighter daemon"), 1);
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .expect("a socket");
    let path = host.home().join("run/machine.sock");
    let address = SocketAddrUnix::new(&path).expect("a short path");
    rustix::net::connect(&socket, &address).expect("the machine listens");
    let mut packet = vec![0; 64 << 10];
    let (_, length) =
        rustix::net::recv(&socket, &mut packet[..], RecvFlags::empty()).expect("its first word");
    let word: serde_json::Value = serde_json::from_slice(&packet[..length]).expect("JSON");
    let secret = word["secret"].as_str().expect("the secret").to_owned();
    assert_eq!(secret.len(), 64, "{word}");
    drop(socket);
    host.lighter(&["up"]).ok();
    secret
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// As the probe takes it: its own arguments must not be what it finds.
fn disguise(hex: &str) -> String {
    bytes(hex)
        .iter()
        .map(|byte| format!("{:02x}", byte ^ 0x5a))
        .collect()
}

/// Whether a text holds the secret, as bytes or as digits. By the first byte: what is searched is large.
fn holds(text: &[u8], hex: &str) -> bool {
    [bytes(hex), hex.as_bytes().to_vec()].iter().any(|needle| {
        let mut places = text
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == needle[0]);
        places.any(|(at, _)| text[at..].starts_with(needle))
    })
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

/// The content of a file without its holes: the disk is 64 GiB of them.
fn data(path: &Path) -> Vec<u8> {
    let mut content = Vec::new();
    let Ok(mut file) = File::open(path) else {
        return content;
    };
    let mut at = 0;
    while let Ok(start) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
        let Ok(end) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(start)) else {
            break;
        };
        file.seek(SeekFrom::Start(start)).expect("within the file");
        (&file)
            .take(end - start)
            .read_to_end(&mut content)
            .expect("readable");
        at = end;
    }
    content
}
