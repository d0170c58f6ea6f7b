#!/usr/bin/env bash
# Threads, hand-overs, renames, forks, signals: the program checks its memory, we its books.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs python3
cc -O1 -Wall -Werror -pthread "$here/programs/torture.c" -o "$TMPDIR/torture"
for round in 1 2 3; do
    "$MEMCG_BIN" exec --strict --report "$TMPDIR/report" -- "$TMPDIR/torture"
    "$here/programs/check_report.py" "$TMPDIR/report" --at-rest
done
