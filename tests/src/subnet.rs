//! The default network's subnet on a host that has it elsewhere: one that runs dockerd has a route to it. Ours keeps
//! away from there then, and tests would have to ask for every address: it is told to have it all the same.

/// What tests expect of the default network, with its router.
const DEFAULT: &str = "172.17.0.1/16";

/// How proc_pid_net(5) writes the beginning of that, on machines whose bytes are the other way round.
const WRITTEN: &str = "000011AC";

/// What the default network's router must be set to, if it must.
pub(crate) fn bip() -> Option<&'static str> {
    let routes = std::fs::read_to_string("/proc/self/net/route").unwrap_or_default();
    let to = |line: &str| line.split_whitespace().nth(1) == Some(WRITTEN);
    routes.lines().any(to).then_some(DEFAULT)
}
