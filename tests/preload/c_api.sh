#!/usr/bin/env bash
# memcg.h: one binary, with the library and without; as C and as C++; position-independent, linked with it, or neither.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs python3
build() { cc -Wall -Wextra -Wpedantic -Werror -I "$here/../include" "$here/programs/tenants.c" -o "$TMPDIR/tenants" "$@"; }
without() { "$@" | tee "$TMPDIR/out"; grep -q 'zeta .* has 50, is charged 0 MiB' "$TMPDIR/out"; grep -qx 'version 0.0, zeta is gone' "$TMPDIR/out"; }
with() { "$@" | tee "$TMPDIR/out"; grep -q 'zeta .* has  [78], is charged [78] MiB' "$TMPDIR/out"; grep -q 'version 0.1, zeta is gone' "$TMPDIR/out"; }
for how in "-std=c99 -O0 -D_GNU_SOURCE" "-O2 -fPIE -pie"; do
    # shellcheck disable=SC2086
    build $how
    without "$TMPDIR/tenants"
    with "$MEMCG_BIN" exec --strict --report "$TMPDIR/report" -- "$TMPDIR/tenants"
    "$here/programs/check_report.py" "$TMPDIR/report" --at-rest
    MEMCG=off LD_PRELOAD=$MEMCG_PRELOAD "$TMPDIR/tenants" | grep -q 'has 50, is charged 0 MiB'
done
echo "-- linked with it"
build -O1 "$MEMCG_PRELOAD" -Wl,-rpath,"$(dirname "$MEMCG_PRELOAD")"
with "$TMPDIR/tenants"
echo "-- C++"
printf '#include "memcg.h"\nint main() { return memcg_version() == 0; }\n' >"$TMPDIR/a.cc"
c++ -Wall -Wextra -Wpedantic -Werror -I "$here/../include" "$TMPDIR/a.cc" -o "$TMPDIR/a"
if "$TMPDIR/a"; then exit 1; fi
"$MEMCG_BIN" exec -- "$TMPDIR/a"
echo "-- every function of the header is in the library"
sed -n 's/^MEMCG_WEAK .*[ *]\(memcg_v1_[a-z_]*\)(.*/\1/p' "$here/../include/memcg.h" | sort >"$TMPDIR/declared"
nm -D --defined-only "$MEMCG_PRELOAD" | sed -n 's/.* T \(memcg_v1_.*\)/\1/p' | sort | diff - "$TMPDIR/declared"
echo ok
