//! Walls, tried from inside a container in the real machine. What can be shown without a machine
//! is tested in the rooms themselves.

mod disks;
mod engine_api;
mod programs;
mod secret;
mod shares;
mod socket_files;
mod sweep;
mod vsock;
mod walls;

use lighter_tests::{Finished, Host};

/// Runs the probe in a container with these flags.
fn probe(host: &Host, flags: &[&str], args: &[&str]) -> Finished {
    probe_by(host, flags, "", args)
}

/// Runs the probe in a container with these flags, as the arguments of the words `through`.
fn probe_by(host: &Host, flags: &[&str], through: &str, args: &[&str]) -> Finished {
    let script =
        format!("cat > /probe && chmod +x /probe && exec {through} /probe \"$@\" < /dev/null");
    let mut run = vec!["run", "--rm", "-i"];
    run.extend(flags);
    run.extend(["busybox", "sh", "-c", &script, "sh"]);
    run.extend(args);
    host.docker_with(&run, lighter_tests::probe::binary()).ok()
}
