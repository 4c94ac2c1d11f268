#!/bin/busybox sh
# The real `lighter` chooses KVM by itself, and the engine answers.
set -e
test -c /dev/kvm
lighter up
lighter status | tee /tmp/status
grep -q ', kvm,' /tmp/status
