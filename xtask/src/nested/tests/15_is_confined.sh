#!/bin/busybox sh
# Every thread of the machine process has a filter of its own and no way to more, and its memory is nobody's.
set -e
lighter up
lighter status | tee /tmp/status
pid=$(sed -n 's/.*backend.*, pid \([0-9]*\).*/\1/p' /tmp/status)
test -n "$pid"
for task in "/proc/$pid/task/"*; do
    name=$(cat "$task/comm")
    echo "$name: $(grep -E '^(Seccomp|Seccomp_filters|NoNewPrivs|CapPrm):' "$task/status" | tr '\n\t' '  ')"
    grep -q '^Seccomp:.2$' "$task/status"
    grep -q '^Seccomp_filters:.1$' "$task/status"
    grep -q '^NoNewPrivs:.1$' "$task/status"
    grep -q '^CapPrm:.0*$' "$task/status"
done
for name in vcpu0 vsock disk disk-wait rng balloon console wait vm-exit; do
    cat "/proc/$pid/task/"*/comm | grep -q "^$name$"
done
grep -q '^Max core file size *0  *0 ' "/proc/$pid/limits"
grep -q '^Max processes *0  *0 ' "/proc/$pid/limits"
