#!/usr/bin/env bash
# A Rust program that links the crate, under exec: is_installed is true, and one line tells of the two engines. Alone it
# says nothing: nobody accounts its heap.
set -eu
# Built by the xtask, before the clock of this script runs.
program=$(dirname "$MEMCG_BIN")/examples/beside_exec
"$program" >"$TMPDIR/out" 2>"$TMPDIR/err"
grep -qx 'installed: false, tenant holds 0 of 1048576' "$TMPDIR/out"
[ ! -s "$TMPDIR/err" ]
"$MEMCG_BIN" exec --report "$TMPDIR/report" -- "$program" >"$TMPDIR/out" 2>"$TMPDIR/err"
grep -qx 'installed: true, tenant holds 0 of 1048576' "$TMPDIR/out"
[ "$(grep -c 'has an engine of its own' "$TMPDIR/err")" = 1 ]
grep -q accounting=on "$TMPDIR/report"
MEMCG=off "$MEMCG_BIN" exec -- "$program" >"$TMPDIR/out" 2>"$TMPDIR/err"
grep -qx 'installed: false, tenant holds 0 of 1048576' "$TMPDIR/out"
[ ! -s "$TMPDIR/err" ]
echo ok
