//! Registries as they are found: with certificates of one's own, tokens, mirrors, many platforms,
//! and some that never answer.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use lighter_tests::registry::{Entry, PASSWORD, USER, own_address};
use lighter_tests::tars::{image, layer, layout, lister};
use lighter_tests::tokens::Tokens;
use lighter_tests::{Host, Registry, env, run};

/// An image archive with one small layer of its own.
fn archive(host: &Host, name: &str, content: &str) -> PathBuf {
    let layers = [lister().to_vec(), layer(&[("file", content.as_bytes())])];
    let path = host.home().join(format!("{name}.tar"));
    std::fs::write(&path, image(&layers, "made:1", "{}")).expect("the archive");
    path
}

#[test]
fn a_token_of_a_real_token_service_opens_a_real_registry() {
    let name = "a_token_of_a_real_token_service_opens_a_real_registry";
    let (Some(host), Some(tokens)) = (Host::shared(name), Tokens::start()) else {
        return;
    };
    let Some(registry) = Registry::start(name, &Entry::Token(&tokens)) else {
        return;
    };
    registry.push(&archive(host, name, name), "team/made:1");
    let image = format!("{}/team/made:1", registry.host());
    let refused = host.docker(&["pull", &image]).exits(1).err();
    assert!(refused.contains("pull access denied for"), "{refused}");
    let login = ["login", "-u", USER, "--password-stdin", &registry.host()];
    host.docker_with(&login, b"wrong").exits(1);
    host.docker_with(&login, PASSWORD.as_bytes()).ok();
    host.docker(&["run", "--rm", "--network", "none", &image, "/list", "/file"])
        .ok();
    // A push says that it is one, and from where it would take layers.
    let copy = format!("{}/team/copy:1", registry.host());
    host.docker(&["tag", &image, &copy]).ok();
    let pushed = host.docker(&["push", &copy]).ok().out();
    assert!(pushed.contains("Mounted from team/made"), "{pushed}");
    host.docker(&["logout", &registry.host()]).ok();
    let refused = host.docker(&["push", &copy]).exits(1).err();
    assert!(refused.contains("denied"), "{refused}");
    // Asked for this repository alone, with the password; the registry never saw it.
    let asked = tokens.asked();
    let scope = "scope=repository%3Ateam%2Fmade%3Apull";
    assert!(
        asked
            .iter()
            .any(|line| line.contains(scope) && line.ends_with("with password")),
        "{asked:#?}"
    );
}

#[test]
fn a_registry_is_believed_by_the_hosts_own_roots() {
    let name = "a_registry_is_believed_by_the_hosts_own_roots";
    let (Some(host), Some(registry)) = (Host::new(), Registry::start_tls(name)) else {
        return;
    };
    registry.push(&archive(&host, name, name), "library/made:1");
    let image = format!("{}/library/made:1", registry.host());
    let up = |roots: Option<PathBuf>| {
        let mut up = host.lighter_command();
        up.arg("up");
        if let Some(roots) = roots {
            up.env("SSL_CERT_FILE", roots);
        }
        run(up, b"", Duration::from_secs(180)).ok();
    };
    up(None);
    let refused = host.docker(&["pull", &image]).exits(1).err();
    assert!(refused.contains("certificate"), "{refused}");
    assert!(refused.contains("lighter down && lighter up"), "{refused}");
    host.lighter(&["down"]).ok();
    // What the host trusts, the engine trusts; and a mirror of the hub is asked before it.
    let mirrors = format!("https://{}", registry.host());
    host.lighter(&["config", "set", "engine.registry-mirrors", &mirrors])
        .ok();
    up(Some(registry.authority()));
    host.docker(&["pull", &image]).ok();
    let out = host.docker(&["pull", "made:1"]).ok().out();
    assert!(out.contains("Downloaded newer image for made:1"), "{out}");
    host.lighter(&["down"]).ok();
    // Named insecure, its certificate does not matter.
    let insecure = registry.host();
    host.lighter(&["config", "set", "engine.insecure-registries", &insecure])
        .ok();
    up(None);
    host.docker(&["rmi", &image]).ok();
    host.docker(&["pull", &image]).ok();
}

#[test]
fn platforms_tags_and_digests_are_what_was_asked_for() {
    let name = "platforms_tags_and_digests_are_what_was_asked_for";
    let Some(host) = Host::shared(name) else {
        return;
    };
    let Some(registry) = Registry::start(name, &Entry::Open) else {
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    layout(
        dir.path(),
        &layer(&[("file", b"many")]),
        &["amd64", "arm64"],
    );
    for tag in ["1", "2"] {
        registry.push_layout(dir.path(), &format!("many:{tag}"));
    }
    let many = format!("{}/many", registry.host());
    let architecture = |image: &str| {
        let format = "{{.Architecture}}";
        host.docker(&["inspect", "-f", format, image])
            .ok()
            .out()
            .trim()
            .to_owned()
    };
    let first = format!("{many}:1");
    host.docker(&["pull", &first]).ok();
    assert_eq!(architecture(&first), "amd64");
    host.docker(&["pull", "--platform", "linux/arm64", &first])
        .ok();
    assert_eq!(architecture(&first), "arm64");
    let refused = host
        .docker(&["pull", "--platform", "linux/s390x", &first])
        .exits(1)
        .err();
    assert!(
        refused.contains("no matching manifest for linux/s390x in the manifest list entries"),
        "{refused}"
    );
    let digests = host
        .docker(&["inspect", "-f", "{{index .RepoDigests 0}}", &first])
        .ok()
        .out();
    let digest = digests.trim();
    host.docker(&["rmi", "-f", &first]).ok();
    let out = host.docker(&["pull", digest]).ok().out();
    assert!(
        out.contains(&format!("Downloaded newer image for {digest}")),
        "{out}"
    );
    assert_eq!(architecture(digest), "amd64");
    let out = host.docker(&["pull", "-a", &many]).ok().out();
    let pulled = |tag: &str| {
        out.lines()
            .any(|line| line == format!("{tag}: Pulling from many"))
    };
    assert!(pulled("1") && pulled("2"), "{out}");
    assert!(
        out.contains(&format!("Status: Downloaded newer image for {many}")),
        "{out}"
    );
    let format = "{{.Tag}}";
    let listed = host
        .docker(&["images", "--format", format, &many])
        .ok()
        .out();
    assert!(listed.contains('1') && listed.contains('2'), "{listed}");
    let missing = host.docker(&["pull", "-a", &format!("{}/none", registry.host())]);
    assert!(missing.exits(1).err().contains("not found"));
}

#[test]
fn a_registry_that_never_answers_holds_nobody_up_and_is_shown() {
    let name = "a_registry_that_never_answers_holds_nobody_up_and_is_shown";
    let Some(host) = Host::shared(name) else {
        return;
    };
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("its address").port();
    let mut pull = host.docker_command();
    pull.args(["pull", &format!("localhost:{port}/slow:1")]);
    pull.stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut pull = pull.spawn().expect("docker starts");
    let (mut held, _) = silent.accept().expect("it is asked");
    let shown = host.lighter(&["status"]).ok().out();
    let line = format!("localhost:{port} for localhost:{port}");
    assert!(shown.contains(&line), "{shown}");
    // Nobody who makes or removes images and containers waits for it.
    let path = archive(host, name, name);
    host.docker(&["load", "-i", &path.display().to_string()])
        .ok();
    host.docker(&["create", "--name", name, "made:1", "/list"])
        .ok();
    host.docker(&["rm", name]).ok();
    host.docker(&["rmi", "made:1"]).ok();
    host.docker(&["run", "--rm", "busybox", "true"]).ok();
    let _ = pull.kill();
    let _ = pull.wait();
    // The client has gone: its connections end from this side, and leave the list.
    silent.set_nonblocking(true).expect("it does not wait");
    let mut rest = Vec::new();
    let _ = held.read_to_end(&mut rest);
    drop(held);
    while let Ok((mut more, _)) = silent.accept() {
        let _ = more.read_to_end(&mut rest);
    }
    let limit = Instant::now() + Duration::from_secs(180);
    while host.lighter(&["status"]).ok().out().contains(&line) {
        assert!(
            Instant::now() < limit,
            "a connection that nobody has is still shown"
        );
        // The list has no event for getting shorter.
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn an_image_of_forty_layers_runs_and_so_does_one_with_a_layer_twice() {
    let name = "an_image_of_forty_layers_runs_and_so_does_one_with_a_layer_twice";
    let Some(host) = Host::shared(name) else {
        return;
    };
    let Some(registry) = Registry::start(name, &Entry::Open) else {
        return;
    };
    let file = |n: usize| format!("corpus/{n:02}");
    let mut layers = vec![lister().to_vec()];
    layers.extend((1..40).map(|n| {
        let all = format!("layer {n}");
        layer(&[(&file(n), b"own"), ("corpus/all", all.as_bytes())])
    }));
    let path = host.home().join(format!("{name}.tar"));
    std::fs::write(&path, image(&layers, "forty:1", "{}")).expect("the archive");
    registry.push(&path, "forty:1");
    let forty = format!("{}/forty:1", registry.host());
    let out = host.docker(&["pull", &forty]).ok().out();
    // The first may be here from another test.
    let here = out.matches("Pull complete").count() + out.matches("Already exists").count();
    assert_eq!(here, 40, "{out}");
    let list = [
        "run",
        "--rm",
        "--network",
        "none",
        &forty,
        "/list",
        "/corpus",
    ];
    let out = host.docker(&list).ok().out();
    assert_eq!(
        out.lines().count(),
        41,
        "39 files, one of all, the folder: {out}"
    );
    let last = "layer 39".len();
    assert!(
        out.contains("\"/corpus/all\"") && out.contains(&format!("size {last} ")),
        "{out}"
    );

    let (one, two) = (
        layer(&[("corpus/a", b"one"), ("corpus/b", b"one")]),
        layer(&[("corpus/a", b"second"), ("corpus/.wh.b", b"")]),
    );
    let twice = [lister().to_vec(), one.clone(), two.clone(), two, one];
    std::fs::write(&path, image(&twice, "twice:1", "{}")).expect("the archive");
    host.docker(&["load", "-i", &path.display().to_string()])
        .ok();
    let list = [
        "run",
        "--rm",
        "--network",
        "none",
        "twice:1",
        "/list",
        "/corpus",
    ];
    let out = host.docker(&list).ok().out();
    assert_eq!(out.lines().count(), 3, "{out}");
    assert_eq!(
        out.matches("size 3 ").count(),
        2,
        "the topmost counts: {out}"
    );
    host.docker(&["rmi", &forty, "twice:1"]).ok();
}

/// Answers every request on all of this machine's addresses with `body`; its port.
fn web_server(body: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut asked = Vec::new();
            let mut byte = [0];
            while !asked.ends_with(b"\r\n\r\n") && client.read_exact(&mut byte).is_ok() {
                asked.push(byte[0]);
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            // A client that has gone wants nothing.
            let _ = client.write_all(head.as_bytes());
            let _ = client.write_all(&body);
        }
    });
    port
}

#[test]
fn an_archive_is_fetched_through_the_host_but_not_from_it() {
    let name = "an_archive_is_fetched_through_the_host_but_not_from_it";
    let Some(host) = Host::shared(name) else {
        return;
    };
    let Some(address) = own_address() else {
        return env::skip(name, "this machine has no address but loopback");
    };
    let port = web_server(layer(&[("file", b"fetched")]));
    let url = format!("http://{address}:{port}/root.tar");
    for (run, image) in [
        (Host::docker as fn(&Host, &[&str]) -> _, "fetched:1"),
        (Host::lighter, "fetched:2"),
    ] {
        let said = run(host, &["import", &url, image]).ok().out();
        assert!(said.contains(&format!("Downloading from {url}")), "{said}");
        let id = [
            "image",
            "inspect",
            "--format",
            "{{.Id}} {{.Comment}}",
            image,
        ];
        let shown = host.docker(&id).ok().out();
        let (id, comment) = shown.trim().split_once(' ').expect("two words");
        assert!(said.contains(id), "{said}");
        assert_eq!(comment, format!("Imported from {url}"));
        let own = format!("http://localhost:{port}/root.tar");
        let refused = run(host, &["import", &own]).exits(1).err();
        let words = "archives of this host and its surroundings are not fetched";
        assert!(refused.contains(words), "{refused}");
    }
    host.docker(&["rmi", "fetched:1", "fetched:2"]).ok();
}
