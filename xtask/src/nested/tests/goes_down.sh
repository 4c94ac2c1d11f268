#!/bin/busybox sh
# The machine says goodbye, and nothing of it stays.
set -e
lighter down
# `set -e` does not look at what `!` makes of a code.
if pidof qemu-system-x86_64; then exit 1; fi
if pidof lighter; then exit 1; fi
