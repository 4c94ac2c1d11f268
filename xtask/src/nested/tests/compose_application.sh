#!/bin/busybox sh
# nginx, a program of the shell, MariaDB and Redis (`tests/apps/notes`), by Debian's docker-compose: up, used, down.
set -e
. /tests/lib.sh
eval "$(lighter env)"
export PORT=8080
docker load --input /apps/notes.tar.zst
cp -r /apps/notes /tmp/notes
cd /tmp/notes
# What went wrong is said by those that it went wrong in.
tell() {
    if [ $? = 0 ]; then return; fi
    docker compose ps --all || true
    docker compose logs --timestamps || true
}
trap tell EXIT
ask() { wget -q -O - "$@" "http://127.0.0.1:$PORT/"; }
docker compose --progress plain up -d --wait --wait-timeout 900
docker compose ps --format '{{.Service}} {{.State}} {{.Health}}' | sort | tee /tmp/services
test "$(cat /tmp/services)" = "$(printf '%s running healthy\n' cache db proxy web)"
test "$(ask --post-data 'kept in the database')" = kept
test "$(ask)" = 'database: kept in the database'
test "$(ask)" = 'cache: kept in the database'
docker compose --progress plain restart db cache
# What the cache knew went with it.
first() { ask >/tmp/first; }
until_it_works first
test "$(cat /tmp/first)" = 'database: kept in the database'
test "$(docker compose logs --no-log-prefix proxy | grep -c 'POST / HTTP/1.* 200')" = 1
docker compose --progress plain down -v
test -z "$(docker ps --all --quiet)"
test -z "$(docker volume ls --quiet)"
test -z "$(docker network ls --quiet --filter type=custom)"
if ask; then exit 1; fi
