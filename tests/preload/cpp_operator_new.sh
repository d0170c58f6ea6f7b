#!/usr/bin/env bash
# C++: a limit is bad_alloc, after the new_handler had its turn; nothing is lost on the way of an exception.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs c++ python3
for level in "-O0" "-O2"; do
    c++ -std=c++17 "$level" -Wall -Wextra -Werror -Wno-alloc-size-larger-than -fsized-deallocation -pthread "$here/programs/cpp_operator_new.cc" -o "$TMPDIR/cpp_operator_new"
    same "$TMPDIR/cpp_operator_new" free
    for round in 1 2 3; do
        "$MEMCG_BIN" exec --strict --group 'cpp_operator*=/box' --set /box/memory.max=48M --report "$TMPDIR/report" -- "$TMPDIR/cpp_operator_new" | grep -qx ok
        "$here/programs/check_report.py" "$TMPDIR/report" --exact --at-rest
    done
done
peak=$(awk -F'\t' '$1 == "/box" { print $3 }' "$TMPDIR/report")
echo "peak of /box: $peak"
[ "$peak" -gt $((47 << 20)) ]
[ "$peak" -le $((48 << 20)) ]
