//! The walls: namespaces, mounts, cgroups, capabilities, seccomp.
