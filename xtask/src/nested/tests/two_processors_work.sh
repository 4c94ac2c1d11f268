#!/bin/busybox sh
# What `lighter config set cpus 2` says, the first machine has.
set -e
. /tests/lib.sh
processors 2
