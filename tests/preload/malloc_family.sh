#!/usr/bin/env bash
# Every function of the malloc family, at its edges: the answers are glibc's; jemalloc's names are served or refused.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs python3
cc -O1 -Wall -Wextra -Werror -fno-builtin -Wno-alloc-size-larger-than "$here/programs/malloc_family.c" -o "$TMPDIR/malloc_family" -ldl
same "$TMPDIR/malloc_family" 2>"$TMPDIR/err"
grep -v '^memcg: [0-9]* bytes live, ' "$TMPDIR/err" | grep -q 'books balance'
echo "-- a program with one thread and nobody beside it: what is live is what was found"
"$MEMCG_BIN" exec --strict --no-thread --report "$TMPDIR/report" -- "$TMPDIR/malloc_family" >"$TMPDIR/under" 2>"$TMPDIR/err"
cmp "$TMPDIR/plain" "$TMPDIR/under"
"$here/programs/check_report.py" "$TMPDIR/report" --exact --at-rest
python3 -c 'import sys
head = dict(word.split("=", 1) for word in open(sys.argv[1]).readline().split())
assert int(head["held"]) + int(head["unaccounted"]) == int(head["live"]), head' "$TMPDIR/report"
echo "-- aside"
MEMCG=off LD_PRELOAD=$MEMCG_PRELOAD "$TMPDIR/malloc_family" 2>/dev/null | cmp - "$TMPDIR/plain"
echo "-- jemalloc's names"
"$MEMCG_BIN" exec --strict -- "$TMPDIR/malloc_family" jemalloc >"$TMPDIR/out" 2>"$TMPDIR/err"
grep -qx "jemalloc's names" "$TMPDIR/out"
[ "$(grep -c mallctl "$TMPDIR/err")" = 1 ]
[ "$(wc -l <"$TMPDIR/err")" = 1 ]
