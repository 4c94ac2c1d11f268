#!/bin/busybox sh
# Init of the outer machine: loads KVM, runs each line of /order (`NAME COMMAND`), and tells the outcome on the second
# serial line: `test NAME started`, `test NAME ok`, `test NAME failed CODE`, `test NAME failed: skipped REASON`, at last
# `done`. What the programs print goes to the first. Nothing may be skipped here: what a test lacks, this machine lacks.
export PATH=/bin:/usr/bin HOME=/root LIGHTER_HOME=/tmp/lighter LIGHTER_IMAGE_DIR=/image
# Twice emulated, on a machine that builds beside it, a boot takes minutes.
export LIGHTER_BOOT_TIMEOUT=360
export LIGHTER_TEST_BACKEND=kvm LIGHTER_TEST_GUEST=/suites/guest.cpio LIGHTER_TEST_BIN=/bin/lighter
export LIGHTER_TEST_SKIPS=/tmp/skips
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t debugfs debug /sys/kernel/debug
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /root
for folder in /dev/shm /tmp /run; do mount -t tmpfs tmpfs "$folder"; done
ip link set lo up
while read -r module; do insmod "/modules/$module"; done </modules/order
# The machines' memory in large pages: with small ones a boot is mostly faults, each of which throws away what the
# emulated processor knows of its memory.
echo always >/sys/kernel/mm/transparent_hugepage/shmem_enabled
stty -F /dev/ttyS1 raw
while read -r name command; do
    echo "==== $name"
    echo "test $name started" >/dev/ttyS1
    : >"$LIGHTER_TEST_SKIPS"
    # shellcheck disable=SC2086
    timeout "$(cat /limit)" $command </dev/null
    code=$?
    if [ "$code" != 0 ]; then
        find /tmp/lighter -name '*.log' | while read -r log; do echo "== $log"; tail -n 30 "$log"; done
        echo "test $name failed $code" >/dev/ttyS1
    elif [ -s "$LIGHTER_TEST_SKIPS" ]; then
        echo "test $name failed: skipped $(tr '\n' ' ' <"$LIGHTER_TEST_SKIPS")" >/dev/ttyS1
    else
        echo "test $name ok" >/dev/ttyS1
    fi
done </order
echo "done" >/dev/ttyS1
sync
reboot -f
