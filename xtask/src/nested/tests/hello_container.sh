#!/bin/busybox sh
# A container runs, and its output and its exit code come back.
set -e
lighter run --rm lighter/hello | tee /tmp/hello
grep -q 'Hello from a container' /tmp/hello
code=0
lighter run --rm lighter/hello sh -c 'exit 7' || code=$?
test "$code" = 7
