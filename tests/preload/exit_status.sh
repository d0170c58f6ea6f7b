#!/usr/bin/env bash
# The exit status is the program's; a report is written whichever way it ends; MEMCG=off steps aside.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs python3
m=$MEMCG_BIN
fail() { echo "FAILED: $*"; exit 1; }
"$m" exec -- sh -c 'exit 7'; [ $? = 7 ] || fail status
"$m" exec -- sh -c 'kill -9 $$'; [ $? = 137 ] || fail signal
"$m" exec --report "$TMPDIR/r" -- python3 -c 'import os; os._exit(3)'; [ $? = 3 ] || fail _exit
grep -q accounting=on "$TMPDIR/r" || fail "no report after _exit"
"$m" exec -- /nonexistent 2>"$TMPDIR/e"; [ $? = 127 ] || fail 127
[ "$(wc -l <"$TMPDIR/e")" = 1 ] || fail "one line of error"
MEMCG=off "$m" exec -- sh -c 'echo "${LD_PRELOAD:-none}"' | grep -qx none || fail off
"$m" exec --set /a/memory.max=junk -- true 2>"$TMPDIR/e"; [ $? = 125 ] || fail "bad --set"
grep -q 'memory.max' "$TMPDIR/e" || fail "the bad --set is named"
"$m" exec -- python3 -c 'import sys; sys.exit(0)' || fail python
echo ok
