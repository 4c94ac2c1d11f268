//! Programs people run on folders of the host: a compiler, PostgreSQL, Redis, with the images' usual
//! entrypoints (own the folder, become the service's user, make the data once, start).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use lighter_tests::Host;

use super::{DEBIAN, both_with_programs};

#[test]
fn c_project_of_the_host_is_built_and_belongs_to_its_user() {
    let name = "c_project_of_the_host_is_built_and_belongs_to_its_user";
    both_with_programs(name, |host| {
        let folder = host.folder("project");
        let files = [
            (
                "Makefile",
                "CFLAGS=-O2 -Wall\nall: prog\nprog: main.o add.o\n\t$(CC) -o $@ $^\nmain.o add.o: add.h\nclean:\n\trm -f prog *.o\n",
            ),
            ("add.h", "int add(int a, int b);\n"),
            (
                "add.c",
                "#include \"add.h\"\nint add(int a, int b) { return a + b; }\n",
            ),
            (
                "main.c",
                "#include <stdio.h>\n#include \"add.h\"\nint main(void) { printf(\"%d\\n\", add(40, 2)); return 0; }\n",
            ),
        ];
        for (name, text) in files {
            fs::write(folder.join(name), text).expect("readable");
        }
        host.own(&folder);
        let bind = format!("{}:/w", folder.display());
        let make = |args: &[&str]| {
            let mut all = vec!["run", "--rm", "-v", &bind, "-w", "/w", DEBIAN];
            all.extend(args);
            host.docker(&all).ok().out()
        };
        let said = make(&["make", "-j2"]);
        assert!(said.contains("-o prog main.o add.o"), "{said}");
        for made in ["prog", "main.o", "add.o"] {
            let meta = fs::metadata(folder.join(made)).expect("readable");
            assert_eq!(meta.uid(), host.user_id(), "the owner of {made}");
        }
        assert_eq!(make(&["./prog"]), "42\n");
        let again = make(&["make"]);
        assert!(again.contains("Nothing to be done"), "{again}");
        // A change on the host is what make sees next.
        fs::write(
            folder.join("add.c"),
            "int add(int a, int b) { return a * b; }\n",
        )
        .expect("readable");
        assert!(make(&["make"]).contains("add.c"));
        assert_eq!(make(&["./prog"]), "80\n");
        make(&["make", "clean"]);
        assert!(!folder.join("prog").exists());
    });
}

const POSTGRES: &str = r#"#!/bin/bash
set -e
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /var/run/postgresql
    chown -R postgres "$PGDATA" /var/run/postgresql
    chmod 700 "$PGDATA"
    find "$PGDATA" \! -user postgres -exec chown postgres '{}' +
    exec setpriv --reuid=postgres --regid=postgres --clear-groups "$BASH_SOURCE" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username=postgres --auth=trust --no-locale --encoding=UTF8 --wal-segsize=1
fi
exec postgres -c listen_addresses= "$@"
"#;

#[test]
fn postgres_owns_fills_and_keeps_a_folder_of_the_host() {
    let name = "postgres_owns_fills_and_keeps_a_folder_of_the_host";
    both_with_programs(name, |host| {
        let data = host.folder("pgdata");
        start(host, "pg", POSTGRES, &data, "/var/lib/postgresql/data");
        let sql = |text: &str| {
            // Asking the server itself, again and again, would be most of what an emulated processor does meanwhile.
            let line = format!(
                "until [[ $(<$PGDATA/postmaster.pid) == *ready* ]]; do sleep 0.3; done 2>/dev/null; \
                 psql -U postgres -AtXc \"{text}\""
            );
            host.docker(&["exec", "pg", "timeout", "280", "bash", "-c", &line])
                .ok()
                .out()
        };
        sql("create table t(n int primary key, s text)");
        sql("insert into t select n, repeat('x', n % 100) from generate_series(1, 20000) n");
        sql("checkpoint");
        assert_eq!(
            sql("select count(*), sum(length(s)) from t").trim(),
            "20000|990000"
        );
        let owner = host.docker(&[
            "exec",
            "pg",
            "stat",
            "-c",
            "%u %a",
            "/var/lib/postgresql/data",
        ]);
        assert_eq!(owner.ok().out().trim(), "999 700");
        owned_by_the_user(host, &data);
        stops_well(host, "pg");
        host.docker(&["start", "pg"]).ok();
        assert_eq!(sql("select count(*) from t").trim(), "20000");
        stops_well(host, "pg");
        host.docker(&["rm", "pg"]).ok();
        // Another container finds what the first one left.
        start(host, "pg", POSTGRES, &data, "/var/lib/postgresql/data");
        assert_eq!(sql("select max(n) from t").trim(), "20000");
        stops_well(host, "pg");
        host.docker(&["rm", "pg"]).ok();
    });
}

const REDIS: &str = r#"#!/bin/bash
set -e
if [ "$(id -u)" = 0 ]; then
    find . \! -user 999 -exec chown 999 '{}' +
    exec setpriv --reuid=999 --regid=999 --clear-groups "$BASH_SOURCE" "$@"
fi
umask 0077
exec redis-server --appendonly yes --unixsocket /tmp/redis.sock
"#;

#[test]
fn redis_owns_fills_and_keeps_a_folder_of_the_host() {
    let name = "redis_owns_fills_and_keeps_a_folder_of_the_host";
    both_with_programs(name, |host| {
        let data = host.folder("redis");
        start(host, "redis", REDIS, &data, "/data");
        let cli = |args: &str| {
            let line = format!(
                "until redis-cli -s /tmp/redis.sock ping 2>&1 | grep -q PONG; do sleep 0.1; done; redis-cli -s /tmp/redis.sock {args}"
            );
            host.docker(&["exec", "redis", "timeout", "280", "bash", "-c", &line])
                .ok()
                .out()
        };
        assert_eq!(cli("set colour red").trim(), "OK");
        assert_eq!(cli("save").trim(), "OK");
        let owner = host.docker(&["exec", "redis", "stat", "-c", "%u %a", "/data/dump.rdb"]);
        assert_eq!(owner.ok().out().trim(), "999 600");
        owned_by_the_user(host, &data);
        stops_well(host, "redis");
        host.docker(&["start", "redis"]).ok();
        assert_eq!(cli("get colour").trim(), "red");
        stops_well(host, "redis");
        host.docker(&["rm", "redis"]).ok();
    });
}

fn start(host: &Host, name: &str, entrypoint: &str, data: &Path, at: &str) {
    let scripts = host.folder("entrypoints");
    let script = scripts.join(name);
    fs::write(&script, entrypoint).expect("readable");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("readable");
    host.own(&scripts);
    let bind = format!("{}:{at}", data.display());
    let entry = format!("{}:/entrypoint.sh:ro", script.display());
    let environment = format!("PGDATA={at}");
    host.docker(&[
        "run",
        "-d",
        "--name",
        name,
        "-v",
        &bind,
        "-v",
        &entry,
        "-w",
        at,
        "-e",
        &environment,
        "--stop-signal",
        "SIGINT",
        DEBIAN,
        "/entrypoint.sh",
    ])
    .ok();
}

/// Ended by itself at the signal, not by force.
fn stops_well(host: &Host, name: &str) {
    host.docker(&["stop", "-t", "60", name]).ok();
    let code = host
        .docker(&["inspect", "-f", "{{.State.ExitCode}}", name])
        .ok()
        .out();
    let logs = host.docker(&["logs", "--tail", "20", name]);
    assert_eq!(code.trim(), "0", "{}{}", logs.out(), logs.err());
}

fn owned_by_the_user(host: &Host, folder: &Path) {
    for entry in fs::read_dir(folder).expect("readable") {
        let entry = entry.expect("readable");
        let meta = entry.metadata().expect("readable");
        assert_eq!(
            meta.uid(),
            host.user_id(),
            "the owner of {}",
            entry.path().display()
        );
        if meta.is_dir() {
            owned_by_the_user(host, &entry.path());
        }
    }
}
