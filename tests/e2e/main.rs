//! End to end: the docker CLI on the host, through our virtual machine, to a container's output.

mod bad_input;
mod basics;
mod crowd;
mod ending;
mod folders;
mod interactive;
mod lifecycle;
mod naming;
mod outward;
mod own_cli;
mod own_copies;
mod own_networks;
mod own_terminal;
mod own_words;
mod proxies;
mod published;
mod pulling;
mod registries;
mod resolver;
mod room;
mod routes;
mod service;
mod settings;
mod sizes;
mod upon;
mod users;
