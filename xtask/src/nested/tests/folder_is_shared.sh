#!/bin/busybox sh
# The files process serves a folder to a guest under KVM, both ways.
set -e
mkdir -p /tmp/shared
head -c 1000000 /dev/urandom >/tmp/shared/in
lighter run --rm -v /tmp/shared:/w lighter/hello sh -c 'cp /w/in /w/out && sync'
cmp /tmp/shared/in /tmp/shared/out
