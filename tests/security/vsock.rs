//! The way to the host: who is no part of the engine gets no socket on it, and who gets one, as root of
//! the machine, gets no answer without the secret.

use lighter_tests::{Host, env};

use crate::{probe, probe_by};

const KINDS: [&[&str]; 5] = [
    &[],
    &["--network", "host"],
    &["--privileged"],
    &["--privileged", "--network", "host"],
    &["--cap-add", "ALL", "--security-opt", "seccomp=unconfined"],
];

/// By the 64-bit call, by those of x32 and i386, and by `socketcall`, whose arguments no filter sees.
#[test]
fn no_call_opens_a_vsock_or_alg_socket_in_any_container() {
    let Some(host) = Host::shared("no_call_opens_a_vsock_or_alg_socket_in_any_container") else {
        return;
    };
    for flags in KINDS {
        let out = probe(host, flags, &["sockets"]).out();
        let (ways, rest): (Vec<&str>, Vec<&str>) =
            out.lines().partition(|line| !line.starts_with("unix"));
        assert_eq!(ways.len(), 8, "{flags:?}: {out}");
        for way in ways {
            let refused = ["1", "38", "97"]
                .iter()
                .any(|errno| way.ends_with(&format!(" {errno}")));
            assert!(refused, "{flags:?}: {way}");
        }
        // What a 32-bit C library does for an ordinary socket works, so the refusals mean something.
        assert_eq!(rest, ["unix socketcall works"], "{flags:?}");
    }
}

#[test]
fn no_container_reaches_a_port_of_any_cid() {
    let Some(host) = Host::shared("no_container_reaches_a_port_of_any_cid") else {
        return;
    };
    for flags in KINDS {
        let out = probe(host, flags, &["vsock", "4"]).out();
        for (cid, line) in out.lines().enumerate() {
            let nothing = format!("cid {cid} taken [] said \"\" refused ");
            assert!(line.starts_with(&nothing), "{flags:?}: {line}");
        }
        assert_eq!(out.lines().count(), 4, "{flags:?}: {out}");
    }
}

/// `--privileged --pid host` is root of the machine and may go to where the engine lives. There the host
/// takes connections on one port and says no on it to who lacks the secret.
#[test]
fn root_of_the_machine_gets_no_answer_without_the_secret() {
    let Some(host) = Host::shared("root_of_the_machine_gets_no_answer_without_the_secret") else {
        return;
    };
    let flags = ["--privileged", "--pid", "host"];
    let ports = env::count(2048, 65535).to_string();
    let out = probe_by(host, &flags, "nsenter -t 1 -n", &["vsock", &ports]).out();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 4, "{out}");
    for cid in [0, 1, 3] {
        let nothing = format!("cid {cid} taken [] said \"\" refused ");
        assert!(lines[cid].starts_with(&nothing), "{out}");
    }
    let taken = lines[2]
        .strip_prefix("cid 2 taken [")
        .and_then(|rest| rest.split_once(']'));
    let (taken, rest) = taken.unwrap_or_else(|| panic!("{out}"));
    assert!(taken.split(',').count() <= 1, "{out}");
    // At most one frame, that says no.
    assert!(
        rest.len() < 300 && !rest.contains("OK") && !rest.contains("HTTP"),
        "{out}"
    );
}
