#!/bin/busybox sh
# nginx, a Python program, PostgreSQL and Redis (`tests/apps/counter`), by Debian's docker-compose: up, used, down.
set -e
. /tests/lib.sh
eval "$(lighter env)"
export PORT=8080
docker load --input /apps/apps.tar
cp -r /apps/counter /tmp/counter
cd /tmp/counter
docker compose --progress plain up -d --wait --wait-timeout 900
for wanted in 1 2; do
    wget -q -O /tmp/answer --post-data '' "http://127.0.0.1:$PORT/"
    cat /tmp/answer
    grep -q '"count":'$wanted'[,}]' /tmp/answer
done
test "$(docker compose exec -T db psql -tA -c 'SELECT count(*) FROM counted' counter)" = 2
test "$(docker compose exec -T cache redis-cli get hits)" = 2
test "$(docker compose logs --no-log-prefix proxy | grep -c 'POST / HTTP/1')" = 2
docker compose --progress plain down -v
test -z "$(docker ps --all --quiet)"
test -z "$(docker volume ls --quiet)"
if wget -q -O /dev/null "http://127.0.0.1:$PORT/"; then exit 1; fi
