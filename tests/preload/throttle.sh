#!/usr/bin/env bash
# memory.high slows a program that asks to be slowed, counts the event, and refuses nothing.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
cc -O1 -Wall -Werror -pthread "$here/programs/limits.c" -o "$TMPDIR/limits"
run() { "$MEMCG_BIN" exec "$@" --group 'limits=/box' --set /box/memory.max=60M --report "$TMPDIR/report" -- "$TMPDIR/limits" until-null 50 60; }
value() { python3 -c 'import sys
lines = open(sys.argv[1]).read().splitlines()[1:]
rows = [dict(zip(lines[0].split("\t"), line.split("\t"))) for line in lines[1:]]
print(next(row[sys.argv[2]] for row in rows if row["path"] == "/box"))' "$TMPDIR/report" "$1"; }
start=$(date +%s%N); run; free=$(( $(date +%s%N) - start ))
[ "$(value throttled_us)" = 0 ]
start=$(date +%s%N); run --throttle --set /box/memory.high=20M; slow=$(( $(date +%s%N) - start ))
echo "without high $((free / 1000000)) ms, with $((slow / 1000000)) ms, throttled $(value throttled_us) us, high events $(value ev_high)"
[ "$(value throttled_us)" -gt 100000 ] && [ "$(value ev_high)" -gt 10 ] && [ "$slow" -gt $((free + 100000000)) ]
