//! Pulls through the host's proxy, and past it.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lighter_tests::proxy::Proxy;
use lighter_tests::tars::{image, layer, lister};
use lighter_tests::{Host, Registry, run};

/// An image archive with one small layer of its own.
fn archive(host: &Host) -> PathBuf {
    let layers = [lister().to_vec(), layer(&[("file", b"through")])];
    let path = host.home().join("proxied.tar");
    std::fs::write(&path, image(&layers, "made:1", "{}")).expect("the archive");
    path
}

#[test]
fn a_pull_goes_through_the_hosts_proxy_and_says_what_is_wrong_with_it() {
    let name = "a_pull_goes_through_the_hosts_proxy_and_says_what_is_wrong_with_it";
    let (Some(host), Some(registry)) = (Host::new(), Registry::start_tls(name)) else {
        return;
    };
    registry.push(&archive(&host), "library/made:1");
    let place = registry.host();
    let image = format!("{place}/library/made:1");
    let known = format!("Basic {}", STANDARD.encode("ann:secret"));
    let proxy = Proxy::start(Some(&known)).expect("a proxy");
    let url = |user: &str, port: u16| format!("http://{user}127.0.0.1:{port}");
    // From the environment of whoever starts the daemon.
    let mut up = host.lighter_command();
    up.arg("up")
        .env("https_proxy", url("ann:secret@", proxy.port()))
        .env("SSL_CERT_FILE", registry.authority());
    run(up, b"", Duration::from_secs(180)).ok();
    host.docker(&["pull", &image]).ok();
    let line = format!("CONNECT {place} HTTP/1.1");
    let asked = proxy.asked();
    assert!(
        !asked.is_empty() && asked.iter().all(|l| *l == line),
        "{asked:?}"
    );
    let masked = url("xxxxx:xxxxx@", proxy.port());
    let info = ["info", "-f", "{{.HTTPSProxy}}|{{.HTTPProxy}}|{{.NoProxy}}"];
    assert_eq!(host.docker(&info).ok().out(), format!("{masked}||\n"));
    let status = host.lighter(&["status"]).ok().out();
    assert!(status.contains(&format!("https {masked}")), "{status}");
    assert!(!status.contains("secret"), "{status}");

    // The settings win, at once.
    let again = |words: &str| {
        host.docker(&["rmi", "-f", &image]).ok();
        let failed = host.docker(&["pull", &image]).exits(1).err();
        assert!(failed.contains(words), "{words}: {failed}");
        assert!(!failed.contains("wrong"), "a password is shown: {failed}");
        host.docker(&["image", "inspect", &image]).exits(1);
    };
    let set = |key: &str, value: &str| {
        let set = host.lighter(&["config", "set", key, value]).ok();
        assert_eq!(set.err(), "", "it takes effect at once");
    };
    set("proxies.https-proxy", &url("ann:wrong@", proxy.port()));
    let shown = url("", proxy.port());
    again(&format!("proxy {shown}: 407 Proxy Authentication Required"));
    for (answer, words) in [
        (&b"HTTP/1.1 502 Bad Gateway\r\n\r\n"[..], "502 Bad Gateway"),
        (
            b"SSH-2.0-OpenSSH_9.2\r\n",
            "its answer to CONNECT is not HTTP",
        ),
    ] {
        let bad = Proxy::saying(answer).expect("a proxy");
        set("proxies.https-proxy", &url("", bad.port()));
        again(&format!("proxy {}: {words}", url("", bad.port())));
    }
    let before = proxy.asked().len();
    let (address, _) = place.rsplit_once(':').expect("a port");
    set("proxies.no-proxy", address);
    host.docker(&["pull", &image]).ok();
    assert_eq!(proxy.asked().len(), before, "nothing went through it");
}
