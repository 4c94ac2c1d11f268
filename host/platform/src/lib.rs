//! Paths, sockets, locks and services of the host system.
