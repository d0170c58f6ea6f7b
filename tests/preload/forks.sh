#!/usr/bin/env bash
# Every kind of child: one that becomes another program at once pays for no helper, one that stays has its socket, whoever
# forked it and however; and a process ends with its last thread, at once.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs python3
export MEMCG_DIR="$TMPDIR/sockets"
cc -O1 -Wall -Wextra -Werror -pthread -I "$here/../include" "$here/programs/forks.c" -o "$TMPDIR/forks"
cc -O1 -Wall -Wextra -Werror -pthread "$here/programs/last_thread.c" -o "$TMPDIR/last_thread"
"$TMPDIR/forks" | grep -qx without
timeout 60 "$MEMCG_BIN" exec --group 'forks=/forks' --strict --report "$TMPDIR/report" -- "$TMPDIR/forks" >"$TMPDIR/out" 2>"$TMPDIR/err"
grep -qx under "$TMPDIR/out"
grep -v 'cloned in the middle' "$TMPDIR/err" && exit 1
echo "clones that came in the middle of a change: $(grep -c 'cloned in the middle' "$TMPDIR/err" || true) of 50"
"$here/programs/check_report.py" "$TMPDIR/report" --at-rest

echo "-- the last thread's end is the process's"
start=$(date +%s%N)
for round in 1 2 3 4 5; do timeout 30 "$MEMCG_BIN" exec -- "$TMPDIR/last_thread"; done
took=$(( ($(date +%s%N) - start) / 1000000 ))
echo "5 processes in $took ms"
[ "$took" -lt 2000 ]
[ -z "$(ls -A "$MEMCG_DIR")" ]

echo "-- python: a thread that forks, a child that joins in it"
timeout 30 "$MEMCG_BIN" exec -- python3 -c '
import os, sys, threading
def work():
    pid = os.fork()
    if pid == 0:
        t = threading.Thread(target=print, args=("in the child",))
        t.start(); t.join()
        sys.stdout.flush()
        return
    assert os.waitpid(pid, 0)[1] == 0
t = threading.Thread(target=work)
t.start()
t.join()
print("end")'
echo ok
