#!/bin/busybox sh
# The machine that was started after `lighter config set cpus 4`.
set -e
. /tests/lib.sh
processors 4
