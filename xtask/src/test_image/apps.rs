//! What the applications of `tests/apps` are put together from: nginx, Python with Flask and its drivers of databases,
//! PostgreSQL, Redis, etcd, dnsmasq. One image, of which each service runs another program.

use super::Recipe;

/// The image `lighter-test/apps`.
pub const APPS: Recipe = Recipe {
    number: 2,
    folder: "apps-image",
    archive: "apps.tar",
    tag: "lighter-test/apps:latest",
    packages: &[
        "bash",
        "coreutils",
        "dnsmasq-base",
        "etcd-client",
        "etcd-server",
        "findutils",
        "grep",
        "mawk",
        "nginx-light",
        "postgresql-15",
        "procps",
        "python3-flask",
        "python3-minimal",
        "python3-psycopg2",
        "python3-redis",
        "redis-server",
        "sed",
        "util-linux",
    ],
    // PostgreSQL's JIT, Perl, and what a running system has beside its programs.
    left_out: &[
        "dbus",
        "iso-codes",
        "libjs-",
        "libllvm",
        "libperl",
        "libz3",
        "locales",
        "perl",
        "ssl-cert",
    ],
    pruned: &[
        "usr/lib/postgresql/15/lib/bitcode",
        "usr/lib/x86_64-linux-gnu/gconv",
        "usr/lib/x86_64-linux-gnu/perl",
        "usr/share/doc",
        "usr/share/info",
        "usr/share/locale",
        "usr/share/man",
    ],
    kept: &[],
    python: Some("usr/bin/python3.11"),
    links: &[("bin/sh", "bash"), ("usr/bin/awk", "mawk")],
    files: &[
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n\
             redis:x:998:998::/:/bin/false\npostgres:x:999:999::/:/bin/bash\n",
        ),
        (
            "etc/group",
            "root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\nredis:x:998:\npostgres:x:999:\n",
        ),
    ],
    path: "/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    programs: &[
        "usr/bin/etcd",
        "usr/bin/etcdctl",
        "usr/bin/python3",
        "usr/bin/redis-server",
        "usr/lib/postgresql/15/bin/postgres",
        "usr/sbin/dnsmasq",
        "usr/sbin/nginx",
    ],
};
