#!/bin/busybox sh
# Init of the outer machine: loads KVM, runs every program in /tests by name, and tells the outcome on the second
# serial line: `test NAME ok`, `test NAME failed CODE`, at last `done`. What the programs print goes to the first.
export PATH=/bin:/usr/bin HOME=/root LIGHTER_HOME=/tmp/lighter LIGHTER_IMAGE_DIR=/image
# Twice emulated, on a machine that builds beside it, a boot takes minutes.
export LIGHTER_BOOT_TIMEOUT=360
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /root
for folder in /dev/shm /tmp /run; do mount -t tmpfs tmpfs "$folder"; done
ip link set lo up
while read -r module; do insmod "/modules/$module"; done </modules/order
stty -F /dev/ttyS1 raw
for program in /tests/*; do
    name=${program##*/}
    echo "==== $name"
    timeout "$(cat /limit)" "$program"
    code=$?
    if [ "$code" = 0 ]; then
        echo "test $name ok" >/dev/ttyS1
    else
        echo "test $name failed $code" >/dev/ttyS1
        find /tmp/lighter -name '*.log' | while read -r log; do echo "== $log"; tail -n 30 "$log"; done
    fi
done
echo "done" >/dev/ttyS1
sync
reboot -f
