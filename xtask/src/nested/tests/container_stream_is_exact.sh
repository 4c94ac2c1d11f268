#!/bin/busybox sh
# 8 MiB through a container and back.
set -e
dd if=/dev/urandom of=/tmp/sent bs=1M count=8 2>/dev/null
lighter run --rm -i lighter/hello cat </tmp/sent >/tmp/back
cmp /tmp/sent /tmp/back
