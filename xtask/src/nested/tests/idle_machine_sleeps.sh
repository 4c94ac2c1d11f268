#!/bin/busybox sh
# No thread of an idle machine's process calls the kernel, which one that is woken must to sleep again.
set -e
. /tests/lib.sh
trace=/sys/kernel/tracing
mount -t tracefs tracefs $trace 2>/dev/null || true
process=$(machine)
ls "/proc/$process/task" >$trace/set_event_pid

# For so many seconds nothing is called.
silent() {
    echo >$trace/trace
    echo 1 >$trace/events/raw_syscalls/sys_enter/enable
    sleep "$1"
    echo 0 >$trace/events/raw_syscalls/sys_enter/enable
    calls=$(grep -c 'sys_enter' $trace/trace || true)
    echo "$calls system calls in $1 s"
    test "$calls" = 0
}

# What earlier containers left to be written is on the disk, and what the last command has begun is over.
lighter run -d --name sleeper lighter/hello sleep 1000000
lighter exec sleeper sync
tries=0
until silent 5; do
    tries=$((tries + 1))
    test $tries -lt 12
done
if ! silent 30; then
    grep -v '^#' $trace/trace | head -n 60
    exit 1
fi
# Calls are seen: an end is one or more.
echo 1 >$trace/events/raw_syscalls/sys_enter/enable
lighter rm -f sleeper
echo 0 >$trace/events/raw_syscalls/sys_enter/enable
test "$(grep -c 'sys_enter' $trace/trace)" -gt 0
test "$(machine)" = "$process"
