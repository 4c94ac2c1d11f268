//! Debian's gcc and make, PostgreSQL and Redis: what people run on shared folders.

use super::Recipe;

/// The image `lighter-test/debian`.
pub const DEBIAN: Recipe = Recipe {
    number: 3,
    folder: "test-image",
    archive: "debian.tar",
    tag: "lighter-test/debian:latest",
    packages: &[
        "bash",
        "coreutils",
        "findutils",
        "gcc",
        "grep",
        "libc6-dev",
        "make",
        "mawk",
        "postgresql-15",
        "redis-server",
        "sed",
        "util-linux",
    ],
    // The compiler's sanitizers, PostgreSQL's JIT and Perl.
    left_out: &[
        "libasan",
        "libgprofng",
        "libllvm",
        "liblsan",
        "libperl",
        "libtsan",
        "libubsan",
        "libz3",
        "locales",
        "perl",
    ],
    pruned: &[
        "usr/bin/x86_64-linux-gnu-dwp",
        "usr/bin/x86_64-linux-gnu-ld.gold",
        "usr/bin/x86_64-linux-gnu-lto-dump-12",
        "usr/lib/gcc/x86_64-linux-gnu/12/libasan.a",
        "usr/lib/gcc/x86_64-linux-gnu/12/libtsan.a",
        "usr/lib/gcc/x86_64-linux-gnu/12/lto1",
        "usr/lib/postgresql/15/lib/bitcode",
        "usr/lib/x86_64-linux-gnu/gconv",
        "usr/share/doc",
        "usr/share/info",
        "usr/share/locale",
        "usr/share/man",
    ],
    kept: &[],
    python: None,
    links: &[
        ("bin/sh", "bash"),
        ("usr/bin/awk", "mawk"),
        ("usr/bin/cc", "gcc"),
    ],
    files: &[
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\nredis:x:998:998::/:/bin/false\npostgres:x:999:999::/:/bin/bash\n",
        ),
        ("etc/group", "root:x:0:\nredis:x:998:\npostgres:x:999:\n"),
    ],
    path: "/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    programs: &["usr/lib/postgresql/15/bin/postgres"],
};
