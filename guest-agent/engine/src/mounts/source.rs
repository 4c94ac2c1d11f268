//! What the path of a bind means: decided once, on the cleaned path.

/// The meaning of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The engine's own API socket.
    ApiSocket,
    /// A path of the virtual machine.
    Machine,
    /// A file of the host that is only ever read.
    HostReadOnly,
    /// A path of the host, if its allow-list has it.
    Host,
}

/// Paths that mean the machine's own, with all that is below them.
const MACHINE: &[&str] = &[
    "/proc",
    "/sys",
    "/dev",
    "/lib/modules",
    "/var/lib/docker",
    "/run/udev",
];

/// Decides what the clean absolute `path` means. `sockets` are the host's spellings of the API
/// socket beside the usual ones.
pub(crate) fn classify(path: &str, sockets: &[String]) -> Meaning {
    if matches!(path, "/var/run/docker.sock" | "/run/docker.sock")
        || sockets.iter().any(|socket| socket == path)
    {
        return Meaning::ApiSocket;
    }
    if matches!(path, "/etc/localtime" | "/etc/timezone") {
        return Meaning::HostReadOnly;
    }
    let below = |root: &&str| {
        path.strip_prefix(*root)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if MACHINE.iter().any(below) {
        Meaning::Machine
    } else {
        Meaning::Host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_one_meaning() {
        let own = ["/home/ann/.lighter/docker.sock".to_owned()];
        for (path, meaning) in [
            ("/var/run/docker.sock", Meaning::ApiSocket),
            ("/home/ann/.lighter/docker.sock", Meaning::ApiSocket),
            ("/proc", Meaning::Machine),
            ("/dev/fuse", Meaning::Machine),
            ("/devices", Meaning::Host),
            ("/lib", Meaning::Host),
            ("/etc/localtime", Meaning::HostReadOnly),
            ("/home/ann", Meaning::Host),
        ] {
            assert_eq!(classify(path, &own), meaning, "{path}");
        }
    }
}
