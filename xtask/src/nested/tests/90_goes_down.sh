#!/bin/busybox sh
# The machine says goodbye, and nothing of it stays.
set -e
lighter down
! pidof qemu-system-x86_64
! pidof lighter
