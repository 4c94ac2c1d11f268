#!/bin/busybox sh
# What a container was told is on the disk is there after the machine process was killed, round after round.
set -e
. /tests/lib.sh
round=0
while [ $round -lt 3 ]; do
    round=$((round + 1))
    : >/tmp/said
    # Each number is said when it is on the disk, until the machine is no more.
    lighter run --rm -v kept:/v lighter/hello sh -c '
        n=0
        while :; do
            n=$((n + 1))
            echo '"$round"' $n >/v/new
            sync /v/new || exit
            mv /v/new /v/last
            sync /v || exit
            echo $n
        done' >/tmp/said 2>/dev/null &
    enough() { test "$(wc -l </tmp/said)" -gt $((7 * round)); }
    until_it_works enough
    kill -9 "$(machine)"
    wait $! || true
    said=$(grep -v '[^0-9]' /tmp/said | tail -n 1)
    found=$(lighter run --rm -v kept:/v lighter/hello cat /v/last)
    echo "round $round: said $said, found $found"
    test "${found% *}" = $round
    test "${found#* }" -ge "$said"
done
