//! Images that come from a registry on the host, and go out again as they came in.

use std::process::Command;
use std::time::Duration;

use lighter_tests::registry::{Entry, PASSWORD, USER};
use lighter_tests::{Host, Registry, run};

fn archive(host: &Host, name: &str) -> std::path::PathBuf {
    let path = host.home().join(format!("{name}.tar"));
    host.docker(&["save", "-o", &path.display().to_string(), "busybox"])
        .ok();
    path
}

#[test]
fn pull_by_tag_and_digest_from_the_hosts_localhost() {
    let name = "pull_by_tag_and_digest_from_the_hosts_localhost";
    let Some(host) = Host::shared(name) else {
        return;
    };
    let Some(registry) = Registry::start(name, &Entry::Open) else {
        return;
    };
    registry.push(&archive(host, name), "tools/box:1");
    let image = format!("{}/tools/box:1", registry.host());
    let out = host.docker(&["pull", &image]).ok().out();
    assert!(out.contains("Status: Downloaded newer image for"), "{out}");
    let out = host.docker(&["pull", &image]).ok().out();
    assert!(out.contains("Status: Image is up to date for"), "{out}");
    let digest = host
        .docker(&["inspect", "-f", "{{index .RepoDigests 0}}", &image])
        .ok()
        .out();
    host.docker(&["rmi", &image]).ok();
    host.docker(&["run", "--rm", digest.trim(), "true"]).ok();
    let missing = host
        .docker(&["pull", &format!("{}/no/such:1", registry.host())])
        .exits(1);
    assert!(missing.err().contains("not found"), "{}", missing.err());
}

#[test]
fn registry_with_a_login_wants_it() {
    let name = "registry_with_a_login_wants_it";
    let Some(host) = Host::shared(name) else {
        return;
    };
    let Some(registry) = Registry::start(name, &Entry::Login) else {
        return;
    };
    registry.push(&archive(host, name), "private:1");
    let image = format!("{}/private:1", registry.host());
    let refused = host.docker(&["pull", &image]).exits(1);
    assert!(
        refused.err().contains("no basic auth credentials"),
        "{}",
        refused.err()
    );
    let wrong = host.docker_with(
        &["login", "-u", USER, "--password-stdin", &registry.host()],
        b"wrong",
    );
    assert_eq!(wrong.code, 1, "{}", wrong.out());
    let right = ["login", "-u", USER, "--password-stdin", &registry.host()];
    host.docker_with(&right, PASSWORD.as_bytes()).ok();
    host.docker(&["run", "--rm", &image, "true"]).ok();
    host.docker(&["logout", &registry.host()]).ok();
}

#[test]
fn saved_layers_are_their_diff_ids_and_skopeo_takes_them() {
    let name = "saved_layers_are_their_diff_ids_and_skopeo_takes_them";
    let Some(host) = Host::shared(name) else {
        return;
    };
    let path = archive(host, name);
    let dir = host.home().join(format!("{name}.dir"));
    std::fs::create_dir_all(&dir).expect("a folder");
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(&path).arg("-C").arg(&dir);
    run(tar, b"", Duration::from_secs(60)).ok();
    let manifest = std::fs::read_to_string(dir.join("manifest.json")).expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
    let config = manifest[0]["Config"].as_str().expect("a config");
    let config = std::fs::read_to_string(dir.join(config)).expect("the config");
    let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    let layers = manifest[0]["Layers"].as_array().expect("layers");
    let diff_ids = config["rootfs"]["diff_ids"].as_array().expect("diff_ids");
    assert_eq!(layers.len(), diff_ids.len());
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        let mut sum = Command::new("sha256sum");
        sum.arg(dir.join(layer.as_str().expect("a path")));
        let sum = run(sum, b"", Duration::from_secs(60)).ok().out();
        let sum = sum.split(' ').next().unwrap_or_default();
        assert_eq!(format!("sha256:{sum}"), diff_id.as_str().expect("a digest"));
    }
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["copy", "--insecure-policy"]);
    skopeo.arg(format!("docker-archive:{}", path.display()));
    skopeo.arg(format!("dir:{}", host.home().join("skopeo").display()));
    run(skopeo, b"", Duration::from_secs(60)).ok();
}

#[test]
fn the_image_that_comes_with_the_machine_comes_back_when_it_is_asked_for() {
    let name = "the_image_that_comes_with_the_machine_comes_back_when_it_is_asked_for";
    let Some(host) = Host::started(name) else {
        return;
    };
    host.docker(&["system", "prune", "-af"]).ok();
    assert_eq!(host.docker(&["images", "-q"]).ok().out(), "");
    // There is no registry that could have it.
    let run = host.docker(&["run", "--rm", "lighter/hello"]).ok();
    assert!(run.out().contains("Hello"), "{}", run.out());
    let status = "Status: Downloaded newer image for lighter/hello:latest";
    assert!(run.err().contains(status), "{}", run.err());
    let again = host.docker(&["pull", "lighter/hello"]).ok().out();
    let status = "Status: Image is up to date for lighter/hello:latest";
    assert!(again.contains(status), "{again}");
    let other = host.docker(&["pull", "lighter/hello:other"]);
    assert_ne!(other.code, 0, "{}", other.out());
}
