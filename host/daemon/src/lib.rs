//! The background service: settings, sockets, the machine's life.
