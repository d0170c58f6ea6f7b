#!/usr/bin/env bash
# What a program has freed goes back to the kernel while it does nothing.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
cc -O1 -Wall -Wextra -Werror "$here/programs/idle_trim.c" -o "$TMPDIR/idle_trim"
read -r before with after < <("$MEMCG_BIN" exec -- "$TMPDIR/idle_trim" 9)
echo "resident: $before KiB before, $with with 200 MiB, $after nine seconds after they were freed"
[ "$with" -gt $((before + 180 * 1024)) ]
# A thread keeps a few megabytes of what it freed last.
[ "$after" -lt $((before + 12 * 1024)) ]
