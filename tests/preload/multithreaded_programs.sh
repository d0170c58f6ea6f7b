#!/usr/bin/env bash
# Programs with threads and heaps of their own, as far as they are here: a JavaScript and a Java engine, packers, sort.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs python3
some() {
    if ! command -v "$1" >/dev/null; then
        echo "skipped: no $1 on this machine"
        return
    fi
    echo "-- $1"
    same "$@"
}
seq 300000 | awk '{ print ($1 * 7919) % 300007 }' >"$TMPDIR/numbers"
some sort --parallel=4 -S 5M -n "$TMPDIR/numbers"
some xz -T4 -1 -c "$TMPDIR/numbers"
some zstd -T4 -q -c "$TMPDIR/numbers"
some node "$here/programs/worker_threads.js"
if command -v javac >/dev/null; then
    javac -d "$TMPDIR" "$here/programs/WorkerThreads.java"
    some java -cp "$TMPDIR" WorkerThreads
else
    echo "skipped: no javac on this machine"
fi
