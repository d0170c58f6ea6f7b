#!/usr/bin/env bash
# The helper thread does not keep a process alive whose own threads have ended.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
cc -O1 -Wall -Werror -pthread "$here/programs/last_thread.c" -o "$TMPDIR/last_thread"
timeout 30 "$MEMCG_BIN" exec -- "$TMPDIR/last_thread"
timeout 30 "$MEMCG_BIN" exec --no-thread -- "$TMPDIR/last_thread"
echo ok
