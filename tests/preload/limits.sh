#!/usr/bin/env bash
# deny at max is a NULL with ENOMEM; --set is in force before the program starts; a limit changed on a running program
# takes effect at once; a move of a thread takes its memory along.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs python3
cc -O1 -Wall -Werror -pthread "$here/programs/limits.c" -o "$TMPDIR/limits"
export MEMCG_DIR="$TMPDIR/sockets"
m=$MEMCG_BIN

echo "-- before the start"
"$m" exec --group 'limits=/box' --set /box/memory.max=20M -- "$TMPDIR/limits" until-null 16 24

echo "-- on a running program"
mkfifo "$TMPDIR/in" "$TMPDIR/out"
"$m" exec --group 'limits=/box' -- "$TMPDIR/limits" talk <"$TMPDIR/in" >"$TMPDIR/out" &
exec 3>"$TMPDIR/in" 4<"$TMPDIR/out"
ask() { echo "$1" >&3; read -r answer <&4; echo "$1 -> $answer"; }
read -r pid <&4
ask "alloc 10"; [ "$answer" = ok ]
"$m" set "$pid" /box/memory.max 15M
ask "alloc 10"; [ "$answer" = ENOMEM ]
"$m" set "$pid" /box/memory.max 40M
ask "alloc 10"; [ "$answer" = ok ]
current=$("$m" get "$pid" /box/memory.current)
[ "$current" -gt $((20 << 20)) ]
[ "$current" -lt $((21 << 20)) ]
[ "$("$m" get "$pid" /box/memory.events | sed -n 's/^oom //p')" = 1 ]

echo "-- groups and moves"
"$m" mkdir "$pid" /other
"$m" set "$pid" /other/memory.max 5M
task=$("$m" get "$pid" /box/cgroup.procs | head -n 1)
if "$m" move "$pid" "$task" /other 2>"$TMPDIR/why"; then exit 1; fi
grep -q ENOMEM "$TMPDIR/why"
[ "$("$m" get "$pid" /box/memory.current)" = "$current" ]
"$m" set "$pid" /other/memory.max max
"$m" move "$pid" "$task" /other
[ "$("$m" get "$pid" /other/memory.current)" = "$current" ]
"$m" rmdir "$pid" /box
if "$m" rmdir "$pid" /other 2>"$TMPDIR/why"; then exit 1; fi
grep -q EBUSY "$TMPDIR/why"
"$m" ls "$pid" / | grep -qx other/
"$m" top "$pid" --once --json | python3 -c 'import json,sys; s=json.load(sys.stdin); assert any(g["path"]=="/other" and g["current"]>20<<20 for g in s["groups"]), s'
ask "free"; [ "$answer" = ok ]
[ "$("$m" get "$pid" /other/memory.current)" -lt 200000 ]
ask quit
wait
