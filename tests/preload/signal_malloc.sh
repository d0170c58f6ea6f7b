#!/usr/bin/env bash
# A signal handler may allocate in the middle of malloc, which no C standard asks for and our slabs allow; books balance.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs python3
cc -O1 -Wall -Wextra -Werror -pthread "$here/programs/signal_malloc.c" -o "$TMPDIR/signal_malloc"
for round in 1 2 3; do
    timeout 35 "$MEMCG_BIN" exec --strict --report "$TMPDIR/report" -- "$TMPDIR/signal_malloc" | tee "$TMPDIR/out"
    grep -qx "handlers ran: many" "$TMPDIR/out"
    "$here/programs/check_report.py" "$TMPDIR/report" --at-rest
done
