#!/usr/bin/env bash
# memory.high slows a program that asks to be slowed, counts the event, and refuses nothing.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs python3
cc -O1 -Wall -Werror -pthread "$here/programs/limits.c" -o "$TMPDIR/limits"
run() { "$MEMCG_BIN" exec "$@" --group 'limits=/box' --set /box/memory.max=60M --report "$TMPDIR/report" -- "$TMPDIR/limits" until-null 50 60; }
value() { python3 -c 'import sys
lines = open(sys.argv[1]).read().splitlines()[1:]
rows = [dict(zip(lines[0].split("\t"), line.split("\t"))) for line in lines[1:]]
print(next(row[sys.argv[2]] for row in rows if row["path"] == "/box"))' "$TMPDIR/report" "$1"; }
run
[ "$(value throttled_us)" = 0 ]
begun=$(date +%s%N)
run --throttle --set /box/memory.high=20M
took=$((($(date +%s%N) - begun) / 1000))
throttled=$(value throttled_us)
echo "throttled $throttled us of $took, high events $(value ev_high)"
# No run is held against another's time: the machine may be busy. What is counted was waited for.
[ "$throttled" -gt 100000 ]
[ "$took" -ge "$throttled" ]
[ "$(value ev_high)" -gt 10 ]
