# Read by the tests of one Lighter; not a test itself.

# The machine process.
machine() {
    lighter status | sed -n 's/^backend .* pid //p'
}

# Tries until it works, for as long as a boot may take.
until_it_works() {
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        test $tries -lt 360
        sleep 1
    done
}

# The machine has so many processors, and work runs on each of them at once.
processors() {
    lighter run --rm lighter/hello sh -c '
        nproc
        n=0
        while [ $n -lt '"$1"' ]; do
            # The last processor it ran on is the 39th word of its own state.
            taskset -c $n sh -c "head -c 1000000 /dev/urandom | sha256sum >/dev/null; cut -d \" \" -f 39 /proc/self/stat" &
            n=$((n + 1))
        done
        wait' | sort | tr '\n' ' ' | tee /tmp/processors
    expected=$({ echo "$1"; seq 0 $(($1 - 1)); } | sort | tr '\n' ' ')
    test "$(cat /tmp/processors)" = "$expected"
}
