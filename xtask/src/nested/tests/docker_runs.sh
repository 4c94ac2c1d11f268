#!/bin/busybox sh
# Docker's own command line: run, exec, logs, exit codes.
set -e
. /tests/lib.sh
eval "$(lighter env)"
docker version --format '{{.Client.Version}} {{.Server.Version}}'
test "$(docker run --rm lighter/hello echo from docker)" = 'from docker'
test "$(echo heard | docker run --rm -i lighter/hello cat)" = heard
code=0
docker run --rm lighter/hello sh -c 'exit 42' || code=$?
test $code = 42
docker run -d --name smoke lighter/hello sh -c \
    'echo begun; echo wrong >&2; trap "exit 5" TERM; while :; do sleep 1; done' >/tmp/id
logged() { docker logs smoke 2>/dev/null | grep -q begun; }
until_it_works logged
test "$(docker logs smoke 2>&1 >/dev/null)" = wrong
test "$(docker exec -e WORD=inside smoke sh -c 'echo $WORD')" = inside
code=0
docker exec smoke sh -c 'exit 3' || code=$?
test $code = 3
test "$(docker ps --format '{{.Names}}')" = smoke
docker stop smoke
test "$(docker inspect --format '{{.State.Status}} {{.State.ExitCode}}' smoke)" = 'exited 5'
docker rm smoke
test -z "$(docker ps --all --quiet)"
