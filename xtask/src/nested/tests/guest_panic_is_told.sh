#!/bin/busybox sh
# A panic of the guest's kernel ends the machine; the user is told how, and with the next command it is there again.
set -e
. /tests/lib.sh
process=$(machine)
if lighter run --rm --privileged lighter/hello sh -c 'echo c >/proc/sysrq-trigger'; then exit 1; fi
gone() { test ! -d "/proc/$process"; }
until_it_works gone
lighter status | tee /tmp/status || true
grep -q 'ended unexpectedly: .*triple fault' /tmp/status
grep -q "sysrq triggered crash" /tmp/status
lighter doctor --console | tee /tmp/console || true
# Once, from one console or the other.
test "$(grep -c 'Kernel panic - not syncing: sysrq triggered crash' /tmp/console)" = 1
lighter up
lighter run --rm lighter/hello true
test "$(machine)" != "$process"
