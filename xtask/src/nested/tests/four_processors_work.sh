#!/bin/busybox sh
# The machine that is started after `lighter config set cpus 4` has them.
set -e
. /tests/lib.sh
lighter down
lighter config set cpus 4
lighter up
processors 4
