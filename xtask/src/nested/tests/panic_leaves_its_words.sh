#!/bin/busybox sh
# A guest whose kernel panics has left its words on the console, and the next command starts another.
set -e
if lighter run --rm --privileged lighter/hello sh -c 'echo c > /proc/sysrq-trigger'; then exit 1; fi
lighter doctor --console | tee /tmp/console
grep -q 'Kernel panic - not syncing: sysrq triggered crash' /tmp/console
# Once, from one console or the other.
test "$(grep -c 'Kernel panic - not syncing' /tmp/console)" = 1
lighter run --rm lighter/hello sh -c 'exit 0'
