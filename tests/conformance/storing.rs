//! Images and volumes.

use crate::script::same;

#[test]
fn images_and_their_names() {
    same(
        "images_and_their_names",
        r"
        tag busybox localhost:5000/a/b:c
        images --format '{{.Repository}}:{{.Tag}}' localhost:5000/a/b
        images --format '{{.Repository}}:{{.Tag}}' 'localhost:5000/*/*'
        images --format '{{.Repository}}:{{.Tag}}' --filter reference=localhost:5000/a/b:c
        images -q busybox
        images --no-trunc -q busybox
        images --digests --format '{{.Digest}}' busybox
        rmi localhost:5000/a/b:c
        rmi localhost:5000/a/b:c
        tag busybox Upper/Case
        tag busybox bad:tag:x
        tag missing other
        inspect -f '{{.Config.Cmd}} {{.Architecture}} {{.Os}} {{len .RootFS.Layers}} {{.RepoTags}} {{.RepoDigests}}' busybox
        image inspect missing
        image inspect busybox missing -f '{{.RepoTags}}'
        history -q busybox
        history missing
        history --format '{{.Comment}}' busybox
        run --pull never missing:tag
        rmi missing
        C --name uses busybox true
        tag busybox second:1
        rmi busybox
        tag second:1 busybox
        rmi second:1
        rm uses
        ~ save missing
        save -o $DIR/x.tar busybox
        load -i $DIR/missing.tar
        ! echo nonsense > bad.tar
        load -i $DIR/x.tar
        load -q -i $DIR/x.tar
        # Whoever dials is another, and says it in other words.
        ~ pull localhost:1/nobody:x
        pull Upper/Case
        pull busybox@sha256:nonsense
        ~ login -u a -p b localhost:1
        # A layer here is its tar, and what others left is counted too.
        ~ image prune -f
        image prune -f --filter until=bogus
        image prune -f --filter bogus=1
        ",
    );
}

#[test]
fn volumes() {
    same(
        "volumes",
        r"
        volume create --label x=y vol
        volume create vol
        volume ls -q --filter label=x=y
        volume ls --filter name=vol --format '{{.Name}} {{.Driver}} {{.Scope}} {{.Labels}}'
        volume inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{.Labels}} {{.Options}}' vol
        C --name user -v vol:/v busybox sh -c 'echo 1 > /v/f'
        start -a user
        volume rm vol
        volume rm -f vol
        volume ls -q --filter dangling=false --filter name=vol
        volume ls -q --filter dangling=true --filter name=vol
        rm user
        volume ls -q --filter dangling=true --filter name=vol
        R --mount type=volume,src=vol,dst=/v,readonly busybox sh -c 'cat /v/f; echo 2 > /v/f'
        R --mount type=volume,src=vol,dst=/v,volume-subpath=f busybox cat /v
        R --mount type=volume,src=vol,dst=/v,volume-subpath=../x busybox true
        volume rm vol
        volume rm vol
        volume rm -f vol
        volume inspect vol
        volume create ../x
        volume create 'a b'
        volume create a
        volume create -d bogus v
        volume create -o bogus=1 vv
        volume create -o device=/tmp vv
        volume create -o type=none vv
        volume create -o o=bind -o type=none vv
        volume create -o size=1q vv
        volume create -o size=m vv
        volume create -o type=tmpfs vv
        R --mount type=volume,src=vv,dst=/v,volume-opt=bogus=1 busybox true
        volume create -o type=tmpfs -o device=tmpfs -o o=size=1m,uid=5,mode=1770 memory
        volume inspect -f '{{.Options}} {{.Status}}' memory
        R -v memory:/etc busybox sh -c 'ls /etc; stat -c %a,%u /etc; grep -c /etc.tmpfs /proc/mounts'
        D --name holds -v memory:/v busybox sleep 1000
        exec holds sh -c 'echo kept > /v/f'
        R -v memory:/v busybox cat /v/f
        R -v memory:/v:ro busybox sh -c 'cat /v/f; echo x > /v/f'
        volume rm memory
        stop -t 0 holds
        R -v memory:/v busybox ls /v
        ! echo hi > copied
        cp $DIR/copied holds:/v/copied
        cp holds:/v/copied -
        start holds
        cp $DIR/copied holds:/v/copied
        exec holds cat /v/copied
        rm -f holds
        volume rm memory
        volume create -o type=tmpfs -o device=tmpfs -o o=bogus=1 memory
        # Each names its own folder.
        ~ R -v memory:/v busybox true
        ~ R -v memory:/etc busybox true
        volume rm memory
        volume create -o type=tmpfs -o device= memory
        ~ R -v memory:/v busybox true
        volume rm memory
        R --mount type=volume,src=vl,dst=/v,volume-label=a=b busybox true
        volume inspect -f '{{.Labels}}' vl
        volume rm vl
        volume create --label '' vv
        volume rm vv
        C --name anon -v /data busybox true
        inspect -f '{{range .Mounts}}{{.Type}} {{.Destination}} {{.Driver}} {{.Mode}} {{.RW}} {{.Propagation}}{{end}}' anon
        rm -v anon
        volume prune -f --filter bogus=1
        volume prune -af --filter label=none
        ",
    );
}

#[test]
fn usage_of_the_disk_and_what_is_not_used() {
    same(
        "usage_of_the_disk_and_what_is_not_used",
        r"
        volume create kept
        C --name writes -v kept:/v -l mine busybox sh -c 'echo 1 > /f; echo 22 > /v/f; ln /v/f /v/g'
        start -a writes
        # A layer here is its tar, and other tests have images.
        ~ system df
        ~ system df -v
        system df --format '{{.Bogus}}'
        system df -v --format '{{range .Volumes}}{{if eq .Name `kept`}}{{.Name}} {{.Size}} {{.Links}}{{end}}{{end}}'
        system df x
        container prune -f --filter label=none
        container prune -f --filter label=mine --filter until=1h
        container prune -f --filter until=bogus
        container prune -f --filter until=1h --filter until=2h
        container prune -f --filter bogus=1
        container prune <<< 'n'
        container prune -f --filter label=mine
        volume prune -f --filter until=1h
        volume prune -f --filter label=none
        volume prune <<< 'n'
        system prune <<< 'n'
        system prune -a --volumes --filter label=none <<< 'n'
        system prune -f --filter label=none
        system prune -f --volumes --filter until=1h
        system prune -f --filter bogus=1
        builder prune -f
        volume rm kept
        ",
    );
}
