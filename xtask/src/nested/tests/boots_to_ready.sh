#!/bin/busybox sh
# The real `lighter` chooses its own monitor by itself, and the engine answers.
set -e
test -c /dev/kvm
lighter config set cpus 2 huge-pages true
lighter up
lighter status | tee /tmp/status
grep -q 'backend *kvm .*, kvm,' /tmp/status
if pidof qemu-system-x86_64; then exit 1; fi
