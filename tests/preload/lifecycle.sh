#!/usr/bin/env bash
# Constructors, plugins, cancellation, thread ends, storms of threads, exit handlers: the program's exit status and output
# are its own, and the books balance.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs python3
cc -O1 -Wall -Wextra -Werror -pthread -I "$here/../include" -DPLUGIN -shared -fPIC "$here/programs/lifecycle.c" -o "$TMPDIR/plugin.so"
cc -O1 -Wall -Wextra -Werror -pthread -I "$here/../include" "$here/programs/lifecycle.c" -o "$TMPDIR/lifecycle" -ldl
export PLUGIN="$TMPDIR/plugin.so"
run() {
    local status=0
    timeout 60 "$@" >"$TMPDIR/out" || status=$?
    [ "$status" = 7 ] || { echo "status $status"; return 1; }
    [ "$(cat "$TMPDIR/out")" = ok ]
}
run "$TMPDIR/lifecycle"
for round in 1 2 3; do
    # With threads that go on while the process ends; then without, so that the books are still.
    run "$MEMCG_BIN" exec --strict --report "$TMPDIR/report" -- "$TMPDIR/lifecycle"
    grep -q accounting=on "$TMPDIR/report"
    run "$MEMCG_BIN" exec --strict --report "$TMPDIR/report" -- "$TMPDIR/lifecycle" still
    "$here/programs/check_report.py" "$TMPDIR/report" --at-rest
done
