#!/usr/bin/env bash
# A program that takes null for an answer runs under any `ulimit -v` that it would run under without us: at worst without
# accounting, which one line says. Never a crash, never a hang.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
cc -O1 -Wall -Wextra -Werror -pthread "$here/programs/address_space_limit.c" -o "$TMPDIR/address_space_limit" || exit 1
failed=0 served=0 aside=0 unloaded=0
wrong() {
    echo "WRONG at $1 KiB: exit status $2"
    cat "$TMPDIR/out" "$TMPDIR/err"
    failed=1
}
# try KIB VARIABLE=VALUE
try() {
    local kib=$1
    # shellcheck disable=SC2016
    timeout 20 bash -c 'ulimit -v "$1"; export "$2" LD_PRELOAD="$MEMCG_PRELOAD"; exec "$3"' - "$kib" "$2" "$TMPDIR/address_space_limit" \
        >"$TMPDIR/out" 2>"$TMPDIR/err"
    local status=$?
    # What the loader says when a library does not fit is its own affair.
    if grep -q "error while loading shared libraries" "$TMPDIR/err"; then
        unloaded=$((unloaded + 1))
        [ $status = 127 ] || wrong "$kib" $status
        return
    fi
    [ $status = 0 ] && grep -q '^done' "$TMPDIR/out" || wrong "$kib" $status
    if grep -v "^ERROR: ld.so: object" "$TMPDIR/err" >"$TMPDIR/lines"; then
        aside=$((aside + 1))
        # Only known lines.
        if grep -Evx "memcg: (no memory for the first tables: the program runs without accounting|no control socket: .*)" \
            "$TMPDIR/lines"; then
            wrong "$kib" $status
        fi
    else
        served=$((served + 1))
    fi
}
for kib in 500 1000 1500 2000 2500 3000 3300 3600 4000 4500 5000 6000 7000 8000 8500 9000 9500 10000 10500 11000 12000 \
    13000 14000 16000 18000 20000 23000 26000 30000 34000 38000 40000 41000 42000 43000 43500 44000 44500 45000 45500 46000 \
    47000 48000 50000 53000 57000 62000 70000 80000 90000 110000 130000 150000 180000 220000 300000 400000 600000 1000000 \
    3000000; do
    try $kib MEMCG_NO_THREAD=1
done
for kib in 40000 44000 50000 60000 200000; do
    try $kib MEMCG_DIR="$TMPDIR/sockets"
done
echo "served $served times, aside or without a socket $aside times, not loaded $unloaded times"
[ $served -ge 15 ] && [ $aside -ge 15 ] || failed=1
exit $failed
