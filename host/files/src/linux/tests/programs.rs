//! Ordinary programs in the mount, as root and as other users of the guest, with the server as an
//! ordinary user of the host.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::mount::{Mount, USER, missing};

macro_rules! or_skip {
    () => {
        if let Some(why) = missing() {
            super::skip(module_path!(), why);
            return;
        }
    };
}

#[test]
fn a_c_project_is_built_and_belongs_to_the_host_user() {
    or_skip!();
    let mount = Mount::new(USER);
    mount.sh(
        r#"
        mkdir -p src include && cd .
        printf '#define N 42\n' > include/n.h
        for i in 1 2 3 4 5 6; do printf '#include "n.h"\nint f%s(void) { return N + %s; }\n' $i $i > src/f$i.c; done
        printf 'int f1(void); int main(void) { return f1() - 43; }\n' > src/main.c
        printf 'OBJS = $(patsubst %%.c,%%.o,$(wildcard src/*.c))\nprog: $(OBJS)\n\tcc -o $@ $^\n%%.o: %%.c\n\tcc -Iinclude -c -o $@ $<\nlib.a: $(OBJS)\n\tar rcs $@ $^\nclean:\n\trm -f $(OBJS) prog lib.a\n' > Makefile
        make -j4 prog lib.a >/dev/null
        ./prog
        make -q prog
        touch include/n.h src/f3.c
        ! make -q prog
        make prog >/dev/null && ./prog
        "#,
    );
    for name in ["prog", "src/f3.o", "lib.a", "include"] {
        let found = std::fs::symlink_metadata(mount.host.join(name)).expect("made on the host");
        assert_eq!((found.uid(), found.gid()), (USER, USER), "{name}");
    }
    assert_eq!(
        std::fs::metadata(mount.host.join("prog"))
            .expect("made")
            .permissions()
            .mode()
            & 0o777,
        0o755
    );
    mount.sh("make clean >/dev/null; test ! -e prog; [ $(stat -c %u Makefile) = 0 ]");
}

#[test]
fn git_clones_commits_and_checks_out() {
    or_skip!();
    let mount = Mount::new(USER);
    mount.sh(
        r#"
        export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        git init -q origin && cd origin
        for i in $(seq 60); do mkdir -p d$((i % 7)); echo content $i > d$((i % 7))/f$i; done
        ln -s d1 link; chmod +x d1/f1
        git add . && git commit -qm one
        cd .. && git clone -q origin copy && cd copy
        git fsck --strict 2>&1
        echo more >> d2/f2 && git commit -qam two && git push -q origin HEAD:refs/heads/other
        git checkout -q HEAD~1 && git status --porcelain | wc -l | grep -qx 0
        git gc -q && git fsck && test -L link && test -x d1/f1
        "#,
    );
}

#[test]
fn sqlite_keeps_its_journal_and_its_shared_memory() {
    or_skip!();
    let mount = Mount::new(USER);
    let text = mount.sh(
        r#"
        sqlite3 t.db 'PRAGMA journal_mode=WAL; CREATE TABLE t(x INTEGER PRIMARY KEY, y TEXT);' >/dev/null
        for w in 1 2 3; do
          (for i in $(seq 30); do sqlite3 -cmd '.timeout 20000' t.db "INSERT INTO t(y) VALUES('$w-$i');"; done) &
        done; wait
        sqlite3 t.db 'SELECT count(*) FROM t; PRAGMA integrity_check; PRAGMA journal_mode=DELETE;'
        sqlite3 t.db 'UPDATE t SET y = y || y; VACUUM; PRAGMA integrity_check;'
        "#,
    );
    assert_eq!(
        text.split_whitespace().collect::<Vec<_>>(),
        ["90", "ok", "delete", "ok"]
    );
    let beside = std::process::Command::new("sqlite3")
        .arg(mount.host.join("t.db"))
        .arg("SELECT count(*) FROM t; PRAGMA integrity_check")
        .output()
        .expect("sqlite3 on the host");
    assert_eq!(
        String::from_utf8_lossy(&beside.stdout)
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["90", "ok"]
    );
}

/// What the entry points of the postgres and redis images do before they give up root.
#[test]
fn postgres_as_uid_999_on_a_directory_of_the_host_user() {
    or_skip!();
    let mount = Mount::new(USER);
    let as_999 = "setpriv --reuid=999 --regid=999 --clear-groups";
    let text = mount.sh(&format!(
        r#"
        # A user of the image, who is nobody on the host.
        {{ cat /etc/passwd; echo 'pg:x:999:999::/:/bin/sh'; }} > $HOST/../passwd
        mount --bind $HOST/../passwd /etc/passwd
        mkdir -p data run && find . \! -user 999 -exec chown 999:999 {{}} +
        chmod 700 data
        ! setpriv --reuid=998 --regid=998 --clear-groups ls data 2>/dev/null
        P="{as_999} env LC_ALL=C PATH=$PATH:/usr/local/bin:/usr/lib/postgresql/bin"
        $P initdb -D data -U lighter --auth=trust -N >/dev/null
        $P postgres --single -D data -F postgres <<'SQL' >/dev/null 2>&1
CREATE TABLE t AS SELECT g AS x, repeat('y', 100) AS y FROM generate_series(1, 20000) g;
SQL
        $P postgres --single -D data postgres <<'SQL' 2>/dev/null
SELECT count(*), sum(x) FROM t;
SQL
        stat -c '%u %a' data data/base data/PG_VERSION
        "#
    ));
    assert!(
        text.contains("20000") && text.contains("200010000"),
        "{text}"
    );
    assert!(text.contains("999 700\n999 700\n999 600"), "{text}");
    for name in [
        "data",
        "data/base",
        "data/PG_VERSION",
        "data/global/pg_control",
    ] {
        let found = std::fs::symlink_metadata(mount.host.join(name)).expect("made on the host");
        assert_eq!((found.uid(), found.gid()), (USER, USER), "{name}");
    }
}

#[test]
fn a_directory_of_thousands_is_listed_whole_while_it_changes() {
    or_skip!();
    let mount = Mount::new(USER);
    mount.sh(r#"
        mkdir many && cd many && seq -f 'file-%g' 5000 | xargs touch
        [ $(ls -U | sort -u | wc -l) = 5000 ] && [ $(ls -f | wc -l) = 5002 ]
        find . -type f | xargs -n 500 rm -f & ls -U >/dev/null; wait
        cd .. && rmdir many
        "#);
}

#[test]
fn the_host_and_the_guest_see_each_others_changes_at_once() {
    or_skip!();
    let mount = Mount::new(USER);
    mount.sh(
        r#"
        echo one > f && grep -qx one $HOST/f
        for i in $(seq 50); do
          echo "host $i" > $HOST/f; [ "$(cat f)" = "host $i" ]
          echo "guest $i" > f; [ "$(cat $HOST/f)" = "guest $i" ]
          echo tail >> $HOST/f; echo end >> f; [ "$(tail -n 2 $HOST/f | tr '\n' ' ')" = 'tail end ' ]
          touch $HOST/new$i; [ -e new$i ]; rm $HOST/new$i; [ ! -e new$i ]
        done
        mkdir $HOST/d; echo x > $HOST/d/f; cat d/f >/dev/null; mv $HOST/d $HOST/e; [ ! -e d ] && cat e/f >/dev/null
        chmod 600 $HOST/f; [ $(stat -c %a f) = 600 ]
        "#,
    );
}

#[test]
fn many_small_files_are_made_renamed_and_removed_in_parallel() {
    or_skip!();
    let mount = Mount::new(USER);
    mount.sh(
        r#"
        for w in 1 2 3 4; do (
          mkdir w$w; cd w$w
          for i in $(seq 80); do
            echo $i > a$i; mv a$i b$i; ln b$i c$i; cat c$i >/dev/null; rm b$i; echo more >> c$i
          done
          [ $(cat c* | wc -l) = 160 ]; cd ..; cp -a w$w x$w; diff -r w$w x$w; rm -r w$w x$w
        ) & done; wait
        [ -z "$(ls)" ]
        tar -cf - -C /usr/share/zoneinfo . | tar -xf - && diff -r /usr/share/zoneinfo . && rm -rf ./*
        "#,
    );
}

#[test]
fn a_read_only_share_refuses_root_with_every_tool() {
    or_skip!();
    let mount = Mount::new(USER);
    mount.sh("echo kept > f; mkdir d; ln -s f l");
    mount.sh(
        r#"
        cd $MOUNT/ro; cat f d/../l >/dev/null; ls -l >/dev/null
        no() { "$@" 2>/dev/null && { echo "allowed: $*"; exit 1; } || true; }
        no touch f; no touch new; no rm f; no rmdir d; no mkdir e; no mv f g; no ln f g; no ln -s f g; no chmod 600 f
        no chown 1 f; no truncate -s 0 f; no sh -c '>f'; no sh -c '>>f'; no mkfifo p
        no cp --reflink=auto $MOUNT/rw/f f; no fallocate -l 10 f; no mount -o remount,rw $MOUNT/ro
        mount -o remount,rw $MOUNT 2>/dev/null || true; no touch f; no sh -c '>f'
        [ "$(cat f)" = kept ]
        "#,
    );
    assert_eq!(
        std::fs::read_to_string(mount.host.join("f")).expect("still there"),
        "kept\n"
    );
}
