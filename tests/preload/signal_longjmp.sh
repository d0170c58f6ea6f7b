#!/usr/bin/env bash
# A signal handler that jumps out of malloc costs a block at most: not the thread its stock, nor the books their balance.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs python3
# Without a helper thread, which would have a C library's malloc take the locks that such a jump leaves locked.
for level in "-O1" "-O2 -D_FORTIFY_SOURCE=2"; do
    # shellcheck disable=SC2086
    cc $level -Wall -Wextra -Werror -pthread -I "$here/../include" "$here/programs/signal_longjmp.c" -o "$TMPDIR/signal_longjmp"
    timeout 60 "$MEMCG_BIN" exec --no-thread --strict --report "$TMPDIR/report" -- "$TMPDIR/signal_longjmp"
    "$here/programs/check_report.py" "$TMPDIR/report"
done
