//! Files of containers, and images that are made of them.

use crate::script::same;

/// Lists what a container has under /t: kind, mode, owner, name, content, where a link leads.
const LIST: &str = "sh -c 'cd /t && find . | sort | while read f; do \
                    stat -c \"%A %u:%g %s %N\" \"$f\" | grep -v ^d; \
                    [ -d \"$f\" ] && [ ! -L \"$f\" ] && stat -c \"%A %u:%g %N\" \"$f\"; done; true'";

#[test]
fn copies_in_and_out() {
    let lines = r"
        ! mkdir -p d/deep empty && echo hi > f && echo in > d/x && echo deep > d/deep/y && ln -s f l && ln -s d ld && ln -s none dangling && chmod 4711 f && chown 1000:1001 d/x && ln d/x d/x2
        C --name copied -v copies:/t/volume -v $DIR/empty:/t/bound:ro busybox sh -c 'trap exit TERM; while :; do sleep 1; done'
        cp $DIR/f copied:/t/
        cp $DIR/f copied:/t/renamed
        cp $DIR/f copied:/none/x
        cp $DIR/d copied:/t
        cp $DIR/d copied:/t/other
        cp $DIR/d/. copied:/t/content
        # The client tells in its log that nobody reads its archive, or it does not.
        ~ cp $DIR/d copied:/t/renamed
        cp $DIR/nofile copied:/t
        cp $DIR/l copied:/t/
        cp -L $DIR/l copied:/t/followed
        cp $DIR/ld copied:/t/
        cp $DIR/dangling copied:/t/
        cp -a $DIR/d copied:/t/archived
        cp $DIR/f copied:/t/volume/f
        cp $DIR/f copied:/t/bound/f
        start copied
        exec copied LIST
        cp $DIR/f copied:/t/running
        cp $DIR/f copied:/var/run/f
        cp $DIR/d copied:/t/volume
        cp $DIR/f copied:/t/bound/f
        exec copied LIST
        exec copied cat /var/run/f
        cp copied:/t/d $DIR/out
        cp copied:/t/d $DIR/out
        cp copied:/t/d/. $DIR/content
        cp copied:/t/l $DIR/link
        cp -L copied:/t/l $DIR/linked
        cp copied:/t/volume $DIR/volume
        cp copied:/t/none $DIR
        cp copied:/t/f $DIR/none/f
        cp copied:/t/d $DIR/f
        cp copied:t/f $DIR/relative
        ! find . | sort | grep -v -e empty -e listed > ../list && mv ../list listed
        cp $DIR/listed copied:/t/listed
        exec copied cat /t/listed
        cp copied: $DIR
        cp nobody:/x $DIR
        cp $DIR/f nobody:/x
        cp copied:/x copied:/y
        cp a b
        cp copied:/t/f/ $DIR
        cp copied:/t/f/x $DIR
        rm -f copied
        C --name fixed --read-only -v copies:/v -v copies:/r:ro busybox true
        cp $DIR/f fixed:/etc/
        cp $DIR/f fixed:/v/again
        cp $DIR/f fixed:/r/again
        cp fixed:/r/again $DIR/again
        rm fixed
        volume rm copies
        ";
    same("copies_in_and_out", &lines.replace("LIST", LIST));
}

#[test]
fn changes_exports_and_commits() {
    same(
        "changes_exports_and_commits",
        r#"
        D --name changed -v changes:/opt/in busybox sh -c 'mkdir /new /made && echo x > /new/f && rm -r /made && chmod 700 /var && echo y >> /etc/passwd && rm /bin/cat && touch /ready; while :; do sleep 1; done'
        exec changed sh -c 'while [ ! -e /ready ]; do usleep 10000; done'
        C --name fresh busybox true
        diff fresh
        diff nobody
        commit -m 'a message' -a 'me <me@x>' -c 'ENV Q=1 R=\'a b\'' -c 'LABEL l=1' -c 'EXPOSE 80 9/udp' -c 'USER u' -c 'WORKDIR /w' -c 'VOLUME /v' -c 'STOPSIGNAL SIGINT' -c 'ONBUILD RUN x' -c 'HEALTHCHECK --interval=5s CMD true' -c 'CMD x' changed changed:1
        inspect -f '{{json .Config}} {{.Author}} {{.Comment}} {{.Architecture}} {{.Os}} {{len .RootFS.Layers}}' changed:1
        inspect -f '{{.State.Status}} {{.State.Paused}}' changed
        R --user 0 --entrypoint sh changed:1 -c 'cat /new/f; ls -d /made /bin/cat /opt/in; stat -c %a /var; tail -n 1 /etc/passwd'
        commit -c 'ENTRYPOINT ["sh"]' fresh fresh:1
        inspect -f '{{json .Config.Entrypoint}} {{json .Config.Cmd}} {{len .RootFS.Layers}}' fresh:1
        history --format '{{.Comment}}|{{.CreatedBy}}' changed:1
        commit -p=false changed
        commit -c 'RUN x' changed
        commit -c 'ENV' changed
        commit changed Upper/Case
        commit nobody
        export -o $DIR/exported changed
        ! tar -tf exported | grep -E '^(\.dockerenv|new|etc/passwd|opt|proc|bin/cat)' | sort > listed
        cp $DIR/listed changed:/listed
        exec changed cat /listed
        export nobody
        import -m 'from a file' -c 'CMD ["sh"]' -c 'ENV A=b' $DIR/exported imported:1
        inspect -f '{{json .Config}} {{.Comment}} {{.Architecture}} {{len .RootFS.Layers}}' imported:1
        R imported:1 sh -c 'cat /new/f; ls /opt'
        history --format '{{.Comment}}|{{.CreatedBy}}' imported:1
        import --platform linux/arm64 $DIR/exported imported:2
        inspect -f '{{.Architecture}} {{.Comment}}' imported:2
        import $DIR/missing imported:3
        import -c 'RUN x' $DIR/exported imported:3
        import $DIR/exported Upper/Case
        rmi imported:1 imported:2 changed:1 fresh:1
        rm -f changed fresh
        volume rm changes
        "#,
    );
}
