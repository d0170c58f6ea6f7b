#!/usr/bin/env bash
# Rust's runtime aborts where malloc says no: a program that carries it goes over its max instead, stripped or not, and
# also when a library brings it later. Where somebody wrote deny, the program ends, with a line that says why.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs rustc strip objcopy readelf python3
ulimit -c 0
build() { rustc --edition 2024 -O "$here/programs/rust_grows.rs" "$@"; }
build -o "$TMPDIR/rust_grows"
build --crate-type cdylib -o "$TMPDIR/librust_grows.so"
strip "$TMPDIR/rust_grows" "$TMPDIR/librust_grows.so"
objcopy -R .comment "$TMPDIR/rust_grows" "$TMPDIR/rust_bare"
over() { python3 - "$1" "$2" <<'PY'
import sys
rows = [line.split("\t") for line in open(sys.argv[1]) if line.startswith(sys.argv[2] + "\t")]
peak, limit = int(rows[0][2]), int(rows[0][3])
assert peak > 2 * limit, rows
PY
}
says="carries Rust's runtime"

for program in rust_grows rust_bare; do
    for policy in '' default debt; do
        echo "-- $program ${policy:-(no policy)}"
        "$MEMCG_BIN" exec --strict --set "/$program/memory.max=8M" ${policy:+--set "/$program/memory.oom.policy=$policy"} \
            --report "$TMPDIR/report" -- "$TMPDIR/$program" 32 >"$TMPDIR/out" 2>"$TMPDIR/err"
        grep -qx "held 32 MiB: $program" "$TMPDIR/out"
        [ "$(grep -c "$says" "$TMPDIR/err")" = 1 ]
        grep -q "memcg: the program $says" "$TMPDIR/err"
        over "$TMPDIR/report" "/$program"
    done
done

echo "-- what it goes over is counted as debt"
export MEMCG_DIR="$TMPDIR/sockets"
mkfifo "$TMPDIR/in" "$TMPDIR/said"
"$MEMCG_BIN" exec --set /rust_grows/memory.max=8M -- "$TMPDIR/rust_grows" 32 stay <"$TMPDIR/in" >"$TMPDIR/said" 2>"$TMPDIR/err" &
pid=$!
exec 3>"$TMPDIR/in" 4<"$TMPDIR/said"
read -r answer <&4
[ "$answer" = "held 32 MiB: rust_grows" ]
"$MEMCG_BIN" get "$pid" /rust_grows/memory.events >"$TMPDIR/events"
[ "$(sed -n 's/^debt //p' "$TMPDIR/events")" -ge 1 ]
grep -qx 'oom 0' "$TMPDIR/events"
exec 3>&-
wait "$pid"

echo "-- without a limit nothing is said"
"$MEMCG_BIN" exec --set /rust_grows/memory.high=1G -- "$TMPDIR/rust_grows" 32 >"$TMPDIR/out" 2>"$TMPDIR/err"
[ ! -s "$TMPDIR/err" ]

echo "-- a written deny ends it"
status=0
"$MEMCG_BIN" exec --set /rust_grows/memory.max=8M --set /rust_grows/memory.oom.policy=deny -- \
    "$TMPDIR/rust_grows" 32 >"$TMPDIR/out" 2>"$TMPDIR/err" || status=$?
[ "$status" = 134 ]
[ ! -s "$TMPDIR/out" ]
grep -qE '^memcg: /rust_grows/rust_grows: .* refused [0-9]+ bytes: /rust_grows has [0-9]+ of 8388608 bytes \(memory.max\)' \
    "$TMPDIR/err"

echo "-- a library brings it later"
python=$(python3 -c 'import sys; print(sys.executable)')
cat >"$TMPDIR/later.py" <<'PY'
import ctypes, sys
try:
    bytearray(100 << 20)
    sys.exit("not refused")
except MemoryError:
    pass
grow = ctypes.CDLL(sys.argv[1]).grow
grow.restype, grow.argtypes = ctypes.c_size_t, [ctypes.c_size_t]
assert grow(128) == 128 << 20
PY
"$MEMCG_BIN" exec --group '*=/module' --set /module/memory.max=64M --report "$TMPDIR/report" -- \
    "$python" "$TMPDIR/later.py" "$TMPDIR/librust_grows.so" 2>"$TMPDIR/err"
[ "$(grep -c "memcg: librust_grows.so $says" "$TMPDIR/err")" = 1 ]

echo "-- no memory is no refusal: without a limit nothing is said"
"$MEMCG_BIN" exec -- "$python" -c 'import ctypes, sys
ctypes.CDLL(sys.argv[1])
malloc = ctypes.CDLL(None).malloc
malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
assert malloc(1 << 62) is None' "$TMPDIR/librust_grows.so" 2>"$TMPDIR/err"
[ ! -s "$TMPDIR/err" ]

cc -O1 -Wall -Wextra -Werror -fno-builtin -pthread "$here/programs/loaded_files.c" -o "$TMPDIR/loaded_files" -ldl
cc -O1 -Wall -Wextra -Werror -shared -fPIC "$here/programs/own_needs_library.c" -o "$TMPDIR/libc_only.so"
box() { timeout 60 "$MEMCG_BIN" exec --group '*=/box' --set /box/memory.max=8M -- "$@" 2>"$TMPDIR/err"; }
replaced() { box "$TMPDIR/loaded_files" replaced "$TMPDIR/loaded.so" "$TMPDIR/new"; }

echo "-- a file that was put in the place of a loaded one is not believed"
cp "$TMPDIR/librust_grows.so" "$TMPDIR/loaded.so"
cp "$TMPDIR/libc_only.so" "$TMPDIR/new"
[ "$(replaced)" = "went over" ]
grep -q "memcg: loaded.so $says" "$TMPDIR/err"
cp "$TMPDIR/libc_only.so" "$TMPDIR/loaded.so"
cp "$TMPDIR/librust_grows.so" "$TMPDIR/new"
[ "$(replaced)" = refused ]
[ ! -s "$TMPDIR/err" ]

echo "-- nor is a pipe in its place waited for"
cp "$TMPDIR/libc_only.so" "$TMPDIR/loaded.so"
mkfifo "$TMPDIR/new"
[ "$(replaced)" = refused ]

echo "-- what is said ends no cancelled thread"
[ "$(box "$TMPDIR/loaded_files" cancelled "$TMPDIR/librust_grows.so")" = "went over" ]
grep -q "memcg: librust_grows.so $says" "$TMPDIR/err"

echo "-- a program that the loader was asked to run is not the loader"
loader=$(readelf -l "$TMPDIR/rust_grows" | sed -n 's/.*interpreter: \(.*\)]/\1/p')
box bash -c 'exec "$@"' - "$loader" "$TMPDIR/rust_grows" 32 >"$TMPDIR/out"
grep -q '^held 32 MiB: ' "$TMPDIR/out"

echo "-- a child of a fork while objects are read finds its loader unlocked"
echo 'const char constants[16 << 20] = {1};' | cc -x c -shared -fPIC - -o "$TMPDIR/large.so"
for n in 1 2 3 4 5 6; do cp "$TMPDIR/large.so" "$TMPDIR/large$n.so"; done
[ "$(box "$TMPDIR/loaded_files" forks "$TMPDIR"/large[1-6].so)" = refused ]
