#!/usr/bin/env bash
# Handlers of timers allocate and fork in the middle of malloc; each child goes on with what its handler interrupted.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs python3
cc -O1 -Wall -Wextra -Werror -pthread "$here/programs/signal_forks.c" -o "$TMPDIR/signal_forks" -lrt
for round in 1 2 3; do
    timeout 35 "$MEMCG_BIN" exec --strict --report "$TMPDIR/report" -- "$TMPDIR/signal_forks" | tee "$TMPDIR/out"
    grep -qx "handlers ran: many; children: many" "$TMPDIR/out"
    "$here/programs/check_report.py" "$TMPDIR/report" --at-rest
done
