//! Flags that docker has and Lighter does not honour, verb by verb: refused by name.

/// Of `run` and `create`.
const CONTAINER: &[&str] = &[
    "blkio-weight-device",
    "cpu-count",
    "cpu-percent",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "disable-content-trust",
    "gpus",
    "io-maxbandwidth",
    "io-maxiops",
    "isolation",
    "kernel-memory",
    "memory-swappiness",
    "oom-kill-disable",
    "runtime",
    "use-api-socket",
];

/// Before any verb: which engine, and how to reach it.
const GLOBAL: &[&str] = &[
    "config",
    "context",
    "debug",
    "host",
    "log-level",
    "tls",
    "tlscacert",
    "tlscert",
    "tlskey",
    "tlsverify",
];

/// Their letters.
const LETTERS: &[(&str, char)] = &[
    ("pull", 'a'),
    ("rm", 'l'),
    ("", 'H'),
    ("", 'c'),
    ("", 'D'),
    ("", 'l'),
];

/// The flags docker has for a verb, beyond those we have; for no verb, its global ones.
fn of_verb(verb: &str) -> &'static [&'static str] {
    match verb {
        "run" | "create" => CONTAINER,
        "pull" => &["all-tags", "disable-content-trust"],
        "history" => &["platform"],
        "images" => &["tree"],
        "rm" => &["link"],
        "rmi" => &["platform"],
        "start" => &["checkpoint", "checkpoint-dir"],
        "volume" => &[
            "availability",
            "cluster",
            "group",
            "limit-bytes",
            "required-bytes",
            "scope",
            "secret",
            "sharing",
            "topology-preferred",
            "topology-required",
            "type",
        ],
        "network-create" => &["config-from", "config-only", "ingress", "scope"],
        "" => GLOBAL,
        _ => &[],
    }
}

/// Whether docker knows this flag, or this letter, of this verb (none: before a verb).
pub fn is_dockers(verb: &str, flag: &str) -> bool {
    if let Some(name) = flag.strip_prefix("--") {
        return of_verb(verb).contains(&name);
    }
    let letter = flag.trim_start_matches('-').chars().next();
    LETTERS
        .iter()
        .any(|(of, known)| *of == verb && Some(*known) == letter)
}
