//! Walls, tried from inside a container in the real machine. What can be shown without a machine
//! is tested in the rooms themselves.

mod engine_api;
mod walls;

use lighter_tests::{Finished, Host};

/// Runs the probe in a container with these flags.
fn probe(host: &Host, flags: &[&str], args: &[&str]) -> Finished {
    let mut run = vec!["run", "--rm", "-i"];
    run.extend(flags);
    run.extend([
        "busybox",
        "sh",
        "-c",
        "cat > /probe && chmod +x /probe && exec /probe \"$@\" < /dev/null",
        "sh",
    ]);
    run.extend(args);
    host.docker_with(&run, lighter_tests::probe::binary()).ok()
}
