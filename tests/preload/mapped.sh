#!/usr/bin/env bash
# What a program maps itself counts as `mapped`, for whom it works, until it is unmapped; a limit refuses it as the kernel
# would; without the library the same binary does the same.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs python3
cc -O1 -Wall -Wextra -Werror -pthread -I "$here/../include" "$here/programs/mapped.c" -o "$TMPDIR/mapped"
"$TMPDIR/mapped" | grep -qx "not counted"
MEMCG=off LD_PRELOAD=$MEMCG_PRELOAD "$TMPDIR/mapped" | grep -qx "not counted"
for round in 1 2 3; do
    timeout 60 "$MEMCG_BIN" exec --strict --report "$TMPDIR/report" -- "$TMPDIR/mapped" | grep -qx "counted"
    "$here/programs/check_report.py" "$TMPDIR/report" --at-rest
done

echo "-- python: mmap, and the coverage of a program that holds its memory in one"
"$MEMCG_BIN" exec --strict --report "$TMPDIR/report" -- python3 -c '
import mmap
a = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, len(a), 4096):
    a[at] = 1
print(len(a))'
"$here/programs/check_report.py" "$TMPDIR/report"
head -n 1 "$TMPDIR/report"
coverage=$(sed -n '1s/.*coverage=\([0-9]*\).*/\1/p' "$TMPDIR/report")
[ "$coverage" -ge 80 ]
