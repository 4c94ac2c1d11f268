//! The same comparisons with docker clients of other generations: both engines, one older client.

use std::process::Command;

use lighter_tests::env;

/// This test's name, which the runs below leave out.
const NAME: &str = "older_clients_see_no_difference_either";

#[test]
fn older_clients_see_no_difference_either() {
    let others = std::env::var_os(env::OTHER_DOCKERS).unwrap_or_default();
    // Nothing is one empty path.
    let others: Vec<_> = std::env::split_paths(&others)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if others.is_empty() {
        return env::skip(
            NAME,
            "older docker clients are not there: run `cargo xtask test`",
        );
    }
    let program = std::env::current_exe().expect("this program");
    // One life of a container ordinarily, every comparison in a long run.
    let all = env::count(1, 1000) > 1;
    let mut failed = Vec::new();
    for client in others {
        let mut run = Command::new(&program);
        if !all {
            run.arg("living::life_of_a_container");
        }
        run.args(["--skip", NAME, "--test-threads", "2"]);
        run.env(env::DOCKER, &client);
        run.env_remove(env::HOME).env_remove(env::LONG);
        let done = run.output().expect("this program runs");
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(said.contains("test result:"), "{said}");
        if !done.status.success() {
            failed.push(format!("{}\n{said}", client.display()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
