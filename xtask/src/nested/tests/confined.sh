#!/bin/busybox sh
# Every thread of the machine process has a filter of its own and no way to more, and the process leaves no core behind.
set -e
. /tests/lib.sh
process=$(machine)
test -n "$process"
for thread in "/proc/$process/task/"*; do
    name=$(cat "$thread/comm")
    echo "$name: $(grep -E '^(Seccomp|Seccomp_filters|NoNewPrivs|CapPrm):' "$thread/status" | tr '\n\t' '  ')"
    grep -q '^Seccomp:.2$' "$thread/status"
    grep -q '^Seccomp_filters:.1$' "$thread/status"
    grep -q '^NoNewPrivs:.1$' "$thread/status"
    grep -q '^CapPrm:.0*$' "$thread/status"
done
for name in vcpu0 vcpu1 vsock disk disk-wait rng balloon console wait vm-exit; do
    cat "/proc/$process/task/"*/comm | grep -q "^$name$"
done
grep -q '^Max core file size *0  *0 ' "/proc/$process/limits"
