#!/bin/busybox sh
# Every thread of the machine process has the filter of system calls, and none gains privileges.
set -e
. /tests/lib.sh
process=$(machine)
threads=0
for thread in "/proc/$process/task/"*; do
    grep -q '^Seccomp:	2$' "$thread/status"
    grep -q '^NoNewPrivs:	1$' "$thread/status"
    threads=$((threads + 1))
done
echo "$threads threads"
test $threads -gt 4
