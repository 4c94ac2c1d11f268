//! Pushes by both engines to one registry, which has its name in both networks, and what each makes
//! of what the other pushed.

use std::process::Command;
use std::time::Duration;

use lighter_tests::registry::{Entry, PASSWORD, USER};
use lighter_tests::tars::{image, layer, lister};
use lighter_tests::{Registry, run};

use crate::script::same;
use crate::{Both, both};

/// A registry that both engines find under one name.
fn registry(test: &str, entry: &Entry<'_>) -> Option<(&'static Both, Registry)> {
    let both = both(test)?;
    let mut registry = Registry::start(test, entry)?;
    registry.serve_beside(&both.reference());
    Some((both, registry))
}

#[test]
fn pushes_are_told_alike() {
    let name = "pushes_are_told_alike";
    let Some((_, registry)) = registry(name, &Entry::Open) else {
        return;
    };
    let lines = r"
        tag busybox REG/team/a:1
        push REG/team/a:1
        push REG/team/a:1
        push -q REG/team/a:1
        push REG/team/a
        push REG/team/nope
        push REG/team/a:zz
        push -a REG/team/a:1
        push -a REG/team/nope
        tag busybox REG/team/b:1
        tag busybox REG/team/b:2
        push -a REG/team/b
        push -a -q REG/team/b
        push --platform linux/amd64 -q REG/team/b:1
        push --platform linux/arm64 REG/team/b:1
        push REG/team/b@sha256:0123456789012345678901234567890123456789012345678901234567890123
        push REG/Team/b
        images --format '{{.Repository}} {{.Tag}} {{.Digest}}' REG/team/a
        inspect -f '{{len .RepoDigests}} {{len .RepoTags}}' REG/team/a:1
        # A digest is that of the layer as it was compressed, by each engine in its own way.
        ~ rmi REG/team/a:1
        pull REG/team/a:1
        push REG/team/a:1
        ~ rmi REG/team/a:1 REG/team/b:1 REG/team/b:2
        tag busybox localhost:1/none:1
        # Whoever dials is another, and says it in other words.
        ~ push localhost:1/none:1
        rmi localhost:1/none:1
        ";
    same(name, &lines.replace("REG", &registry.host()));
}

#[test]
fn a_registry_with_a_login_refuses_pushes_alike() {
    let name = "a_registry_with_a_login_refuses_pushes_alike";
    let Some((_, registry)) = registry(name, &Entry::Login) else {
        return;
    };
    let lines = r"
        tag busybox REG/a:1
        push REG/a:1
        ~ login -u USER -p PASSWORD REG
        push REG/a:1
        logout REG
        push REG/a:1
        # Its digest is that of the layer as it was compressed.
        ~ rmi REG/a:1
        ";
    let lines = lines.replace("USER", USER).replace("PASSWORD", PASSWORD);
    same(name, &lines.replace("REG", &registry.host()));
}

#[test]
fn what_one_engine_pushed_the_other_pulls() {
    let name = "what_one_engine_pushed_the_other_pulls";
    let Some((both, registry)) = registry(name, &Entry::Open) else {
        return;
    };
    let reference = both.reference();
    let layers = [
        lister().to_vec(),
        layer(&[("file", b"one")]),
        layer(&[("file", b"two"), ("other", &[7; 300_000])]),
    ];
    let archive = both.ours.home().join("pushing.tar");
    std::fs::write(&archive, image(&layers, "made:1", "{}")).expect("the archive");
    let archive = archive.display().to_string();
    let docker = |ours: bool, args: &[&str]| {
        let done = if ours {
            both.ours.docker(args)
        } else {
            reference.docker(args)
        };
        done.ok().out().trim().to_owned()
    };
    let mut ids = Vec::new();
    for (ours, repository) in [(true, "ours"), (false, "theirs")] {
        let image = format!("{}/team/{repository}:1", registry.host());
        docker(ours, &["load", "-i", &archive]);
        docker(ours, &["tag", "made:1", &image]);
        docker(ours, &["push", &image]);
        let digest = docker(ours, &["inspect", "-f", "{{index .RepoDigests 0}}", &image]);
        ids.push(docker(ours, &["inspect", "-f", "{{.Id}}", &image]));
        // By a third program, every byte verified.
        let mut skopeo = Command::new("skopeo");
        let dir = tempfile::tempdir().expect("a folder");
        skopeo.args(["copy", "--insecure-policy", "--src-tls-verify=false"]);
        skopeo.arg(format!("docker://{digest}"));
        skopeo.arg(format!("dir:{}", dir.path().display()));
        run(skopeo, b"", Duration::from_secs(120)).ok();
        // By digest, by both; where it was pushed from it is gone first.
        for puller in [true, false] {
            if puller == ours {
                docker(ours, &["rmi", &image, "made:1"]);
            }
            docker(puller, &["pull", &digest]);
            ids.push(docker(puller, &["inspect", "-f", "{{.Id}}", &digest]));
            let args = [
                "run",
                "--rm",
                "--network",
                "none",
                &digest,
                "/list",
                "/file",
            ];
            docker(puller, &args);
        }
        for puller in [true, false] {
            docker(puller, &["rmi", &digest]);
        }
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:#?}");
}
