#!/usr/bin/env bash
# Where the policy of a group is kill, a program that passes its max is killed, with a line that says why; else it gets NULL.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
fail() { echo "FAILED: $*"; exit 1; }
cc -O1 -Wall -Werror -pthread "$here/programs/limits.c" -o "$TMPDIR/limits" || fail compile
run() { "$MEMCG_BIN" exec --group 'limits=/box' --set /box/memory.max=60M "$@" -- "$TMPDIR/limits" until-null 50 60 2>"$TMPDIR/e"; }
run >"$TMPDIR/o" || fail "denied, a program goes on: $(cat "$TMPDIR/o" "$TMPDIR/e")"
run --set /box/memory.oom.policy=kill
[ $? = 137 ] || fail "killed: exit status"
grep -q '^memcg: out of memory: /box: [0-9]* of 62914560 bytes (memory.max) in use, [0-9]* more asked for; held by /box/limits [0-9]*: the program is killed' "$TMPDIR/e" || fail "the line: $(cat "$TMPDIR/e")"
echo ok
