//! Every setting: its name, what it is for, and when a change of it takes effect.
//!
//! The one table that `lighter config` prints and that unknown keys are held against.

/// When a changed setting takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// With the next request.
    AtOnce,
    /// When the virtual machine starts the next time.
    NextStart,
}

/// What a value looks like, for reading one from the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Number,
    /// `true` or `false`.
    Switch,
    /// Text, sizes among it.
    Text,
    /// A list of texts.
    List,
    /// A table of texts.
    Table,
}

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// Its name; a dot leads into a section.
    pub name: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// When a change takes effect.
    pub effect: Effect,
    /// What it is for.
    pub doc: &'static str,
}

const fn key(name: &'static str, kind: Kind, effect: Effect, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        effect,
        doc,
    }
}

/// All settings, in the order they are shown.
pub const KEYS: &[Key] = &[
    key(
        "cpus",
        Kind::Number,
        Effect::NextStart,
        "processors of the machine; default: all of the host",
    ),
    key(
        "memory",
        Kind::Text,
        Effect::NextStart,
        "memory of the machine, taken as it is used; default: half of the host's",
    ),
    key(
        "huge-pages",
        Kind::Switch,
        Effect::NextStart,
        "`true` for the machine's memory in huge pages with Lighter's own monitor: quicker, and taken in pieces of 2 MiB; \
         the host's /sys/kernel/mm/transparent_hugepage/shmem_enabled must be `advise` for it; default: false",
    ),
    key(
        "disk",
        Kind::Text,
        Effect::NextStart,
        "size of the data disk, taken as it is used; can only grow; default: 64GiB",
    ),
    key(
        "backend",
        Kind::Text,
        Effect::NextStart,
        "what runs the machine on Linux: `kvm`, Lighter's own monitor, where the processor has virtualisation; `qemu`; \
         default: `auto`, the first of them that can",
    ),
    key(
        "shares",
        Kind::List,
        Effect::AtOnce,
        "further host folders that containers may be given, such as `/srv/data` or `/etc/app:ro`; \
         what is `:ro` now is so at once for all but open files, what is no longer listed stays with \
         those that have it",
    ),
    key(
        "proxies.http-proxy",
        Kind::Text,
        Effect::AtOnce,
        "proxy for registries in plain HTTP; default: the daemon's `HTTP_PROXY`; `docker info` shows \
         that of the machine's start",
    ),
    key(
        "proxies.https-proxy",
        Kind::Text,
        Effect::AtOnce,
        "proxy for registries with TLS; default: the daemon's `HTTPS_PROXY`; `docker info` shows that \
         of the machine's start",
    ),
    key(
        "proxies.no-proxy",
        Kind::Text,
        Effect::AtOnce,
        "hosts reached without a proxy, with commas between; default: the daemon's `NO_PROXY`; \
         `docker info` shows those of the machine's start",
    ),
    key(
        "engine.registry-mirrors",
        Kind::List,
        Effect::NextStart,
        "mirrors asked before Docker Hub",
    ),
    key(
        "engine.insecure-registries",
        Kind::List,
        Effect::NextStart,
        "registries that may be spoken to without a known certificate",
    ),
    key(
        "engine.log-driver",
        Kind::Text,
        Effect::NextStart,
        "log driver of containers that name none",
    ),
    key(
        "engine.log-opts",
        Kind::Table,
        Effect::NextStart,
        "options of that log driver",
    ),
    key(
        "engine.dns",
        Kind::List,
        Effect::NextStart,
        "name servers for containers",
    ),
    key(
        "engine.dns-search",
        Kind::List,
        Effect::NextStart,
        "search domains for containers",
    ),
    key(
        "engine.dns-opts",
        Kind::List,
        Effect::NextStart,
        "resolver options for containers",
    ),
    key(
        "engine.default-address-pools",
        Kind::List,
        Effect::NextStart,
        "ranges that networks take their addresses from, each `{ base, size }`",
    ),
    key(
        "engine.ip",
        Kind::Text,
        Effect::NextStart,
        "the host's address that ports are published on where `-p` names none, such as `127.0.0.1`; \
         default: all",
    ),
    key(
        "engine.bip",
        Kind::Text,
        Effect::NextStart,
        "address of the default network's router with the prefix of its subnet, such as `10.99.0.1/24`; default: the \
         first of the pools that is free",
    ),
    key(
        "engine.fixed-cidr",
        Kind::Text,
        Effect::NextStart,
        "the part of the default network's subnet that containers get addresses of; default: all of it",
    ),
    key(
        "engine.ipv6",
        Kind::Switch,
        Effect::NextStart,
        "`true` for IPv6 in the default network",
    ),
    key(
        "engine.fixed-cidr-v6",
        Kind::Text,
        Effect::NextStart,
        "its subnet of IPv6, such as `fd00:1::/64`; default: the first of the pools that is free",
    ),
    key(
        "engine.host-network-ports",
        Kind::Switch,
        Effect::NextStart,
        "`false` where this host's loopback is not to lead to what containers of `--network host` listen on",
    ),
    key(
        "engine.labels",
        Kind::List,
        Effect::NextStart,
        "labels shown by `docker info`",
    ),
    key(
        "engine.userns-remap",
        Kind::Switch,
        Effect::NextStart,
        "`true` for containers whose root is nobody outside of them: each in a user namespace, unless \
         started with `--userns=host`",
    ),
    key(
        "engine.shutdown-timeout",
        Kind::Number,
        Effect::NextStart,
        "seconds containers get to stop when the machine stops; default: 15",
    ),
];

/// The setting of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}
