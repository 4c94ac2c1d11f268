//! docker-py's own integration tests, beside what dockerd makes of them.
//!
//! `expected.txt` names every test of the suite, what it comes to on Debian's dockerd and what on
//! ours, with the reason where one of them does not pass it. What comes to anything else fails, also
//! what passes and should not: no reason outlives what it was for. A long run asks dockerd again.
//!
//! What a swarm, a managed plug-in or a key chain is for is not run. The suite runs in a network of
//! its own, where nothing but the engine's socket can be reached, and gets its images from a registry
//! that both engines take for a mirror of the hub.

mod expected;
mod images;
mod suite;

use lighter_tests::{Host, Reference, env};

use expected::Expected;
use suite::Suite;

#[test]
fn docker_pys_tests_come_to_what_they_come_to_on_dockerd() {
    let name = "docker_pys_tests_come_to_what_they_come_to_on_dockerd";
    let Some(suite) = Suite::find(name) else {
        return;
    };
    let (Some(host), Some(registry)) = (Host::new(), images::mirror(name)) else {
        return;
    };
    let mirror = format!("http://{}", registry.host());
    host.lighter(&["config", "set", "engine.registry-mirrors", &mirror])
        .ok();
    host.lighter(&["up"]).ok();
    let folder = host.folder("docker-py");
    let ran = suite.run(&format!("unix://{}", host.socket().display()), &folder);
    Expected::read().check_ours(name, &ran);
}

#[test]
fn dockerd_still_makes_of_docker_pys_tests_what_is_written_down() {
    let name = "dockerd_still_makes_of_docker_pys_tests_what_is_written_down";
    if env::count(0, 1) == 0 {
        env::skip(
            name,
            "its words are kept as data; `cargo xtask test long` asks it again",
        );
        return;
    }
    let Some(suite) = Suite::find(name) else {
        return;
    };
    let Some(mut registry) = images::mirror(name) else {
        return;
    };
    let mirror = format!("http://{}", registry.host());
    let Some(reference) = Reference::start_with(name, &["--registry-mirror", &mirror]) else {
        return;
    };
    registry.serve_beside(&reference);
    let folder = tempfile::tempdir().expect("a folder");
    let ran = suite.run(&reference.socket(), folder.path());
    Expected::read().check_reference(&ran);
}
