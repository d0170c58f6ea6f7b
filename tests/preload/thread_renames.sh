#!/usr/bin/env bash
# A thread that another thread renames moves, with what it holds.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs python3
cc -O1 -Wall -Wextra -Werror -pthread -I "$here/../include" "$here/programs/thread_renames.c" -o "$TMPDIR/thread_renames"
"$MEMCG_BIN" exec --strict --report "$TMPDIR/report" -- "$TMPDIR/thread_renames"
"$here/programs/check_report.py" "$TMPDIR/report" --at-rest
grep -q '^/odd	' "$TMPDIR/report"
grep -q '^/even	' "$TMPDIR/report"
# What each of four held a million of was at once in one group.
peak=$(awk -F'\t' '$1 == "/odd" { print $3 }' "$TMPDIR/report")
echo "peak of /odd: $peak"
[ "$peak" -ge 4000000 ]
