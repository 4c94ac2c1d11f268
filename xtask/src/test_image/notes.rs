//! What `tests/apps/notes` is put together from: nginx, busybox's web server and shell, MariaDB, Redis. A quarter of the
//! size of the other applications' image and packed, and nothing of it is slow to start.

use super::Recipe;

/// The image `lighter-test/notes`.
pub const NOTES: Recipe = Recipe {
    number: 2,
    folder: "notes-image",
    archive: "notes.tar.zst",
    tag: "lighter-test/notes:latest",
    packages: &[
        "busybox-static",
        "mariadb-client-core",
        "mariadb-server-core",
        "nginx-light",
        "redis-server",
    ],
    // What only their installation scripts and services need.
    left_out: &["dpkg", "iproute2", "perl"],
    pruned: &[],
    kept: &[
        "bin/busybox",
        "usr/bin/mariadb",
        "usr/bin/redis-cli",
        "usr/bin/redis-server",
        "usr/sbin/mariadbd",
        "usr/sbin/nginx",
        "usr/share/mysql/charsets",
        "usr/share/mysql/english",
    ],
    python: None,
    links: &[
        ("bin/cat", "busybox"),
        ("bin/chown", "busybox"),
        ("bin/head", "busybox"),
        ("bin/httpd", "busybox"),
        ("bin/sh", "busybox"),
        ("bin/wget", "busybox"),
    ],
    files: &[
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nmysql:x:999:999::/:/bin/false\n",
        ),
        ("etc/group", "root:x:0:\nmysql:x:999:\n"),
    ],
    path: "/usr/sbin:/usr/bin:/sbin:/bin",
    programs: &[
        "bin/busybox",
        "usr/bin/mariadb",
        "usr/bin/redis-server",
        "usr/sbin/mariadbd",
        "usr/sbin/nginx",
    ],
};
