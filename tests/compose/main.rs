//! The applications of `tests/apps`, driven by Debian's docker-compose as their users drive them.
//!
//! Each is brought up, used, scaled, broken and taken down; afterwards nothing of it is left. They take turns on one
//! machine, because some of them kill it.

mod app;
mod cluster;
mod counter;
mod jobs;
mod names;
mod queue;
mod site;
mod web;
