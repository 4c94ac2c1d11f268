//! The engine process: link to the host, clock, API server.
