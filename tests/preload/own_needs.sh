#!/usr/bin/env bash
# At max, where malloc says no: what the loader and the C library need for themselves is there (a thread-local variable of
# a library, threads, buffers, exit handlers, a locale, the time zone), and what they hand to their caller is refused.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
cc -O1 -Wall -Wextra -Werror -shared -fPIC "$here/programs/own_needs_library.c" -o "$TMPDIR/libown.so"
# Or the compiler would know that what is never used need not be allocated.
cc -O1 -Wall -Wextra -Werror -fno-builtin -pthread "$here/programs/own_needs.c" -o "$TMPDIR/own_needs" -ldl
for policy in default deny; do
    echo "-- $policy"
    "$MEMCG_BIN" exec --strict --group 'own_needs=/full' --set /full/memory.max=4M --set "/full/memory.oom.policy=$policy" \
        -- "$TMPDIR/own_needs" "$TMPDIR/libown.so" >"$TMPDIR/out" 2>"$TMPDIR/err" || { cat "$TMPDIR/err"; exit 1; }
    grep -qx 'printed without a buffer' "$TMPDIR/out"
    [ ! -s "$TMPDIR/err" ]
done
