#!/usr/bin/env bash
# What free, realloc and malloc_usable_size find wrong ends the process: SIGABRT, one line that names the pointer. What they
# do not find is listed too (docs/internals/heap.md): the process goes on, and must not die of it here.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
cc -O0 -fno-builtin -Wall -Wextra -Werror -Wno-free-nonheap-object -Wno-use-after-free -pthread \
    "$here/programs/bad_frees.c" -o "$TMPDIR/bad_frees" || exit 1
# Programs end by SIGABRT here, on purpose.
ulimit -c 0
failed=0
wrong() {
    echo "WRONG: $1"
    cat "$TMPDIR/out" "$TMPDIR/err"
    failed=1
}
run() {
    MEMCG_NO_THREAD=1 LD_PRELOAD=$MEMCG_PRELOAD "$TMPDIR/bad_frees" "$@" >"$TMPDIR/out" 2>"$TMPDIR/err"
    status=$?
}
# found WHO TEXT CASE...: ends by SIGABRT, with one line of ours: "memcg: WHO(POINTER): TEXT". TEXT may be one of "A|B".
found() {
    local who=$1 text=$2
    shift 2
    run "$@"
    local start="memcg: $who($(head -n 1 "$TMPDIR/out")): "
    [ "$status" = 134 ] || wrong "$*: exit status $status instead of 134"
    grep -v "Aborted" "$TMPDIR/err" >"$TMPDIR/lines"
    case "|$text|" in
    *"|$(sed "1s/^.*: //" "$TMPDIR/lines")|"*) ;;
    *) wrong "$*: not the one line '$start$text'" ;;
    esac
    [ "$(cut -c "1-${#start}" "$TMPDIR/lines")" = "$start" ] || wrong "$*: it does not begin with '$start'"
}
# overwritten CASE...: the free list leads nowhere; the line names the slab.
overwritten() {
    run "$@"
    [ "$status" = 134 ] || wrong "$*: exit status $status instead of 134"
    grep -q '^memcg: the free list of the slab at 0x[0-9a-f]*0000 is overwritten: ' "$TMPDIR/err" || wrong "$*: no line"
}
# missed CASE...: nothing sees it, and nothing falls over at once.
missed() {
    run "$@"
    [ "$status" = 0 ] && grep -qx lived "$TMPDIR/out" || wrong "$*: exit status $status instead of 0"
}
double="it was freed before"
inside="no allocated object begins there"
foreign="it was not allocated by this allocator, or is long gone"
# A huge object's mapping is kept for a while, or is gone at once.
gone="$double|$foreign"
for size in 1200 5000 20000 60000; do
    for what in again again-last again-after-others again-elsewhere again-both-elsewhere again-here-then-elsewhere; do
        found free "$double" $what $size
    done
    found realloc "$double" realloc-freed $size
    found malloc_usable_size "$double" usable-freed $size
    missed again-among-others $size
    for offset in 8 16 48; do
        found free "$inside" inside-elsewhere $size $offset
    done
done
# The hit does not look whether an object begins there.
missed inside 1200 8
missed inside 1200 16
missed never-handed-out
for size in 100000 1000000 16000000; do
    for what in again again-last again-after-others again-among-others; do
        found free "$double" $what $size
    done
    found realloc "$double" realloc-freed $size
    for what in inside inside-elsewhere; do
        found free "$inside" $what $size 16
        found free "$inside" $what $size 4096
        # No slab begins with that unit.
        found free "$double" $what $size 65536
    done
done
for size in 20000000 50000000; do
    for what in again again-last again-after-others again-among-others again-elsewhere again-both-elsewhere; do
        found free "$gone" $what $size
    done
    found realloc "$gone" realloc-freed $size
    found malloc_usable_size "$gone" usable-freed $size
    for what in inside inside-elsewhere; do
        found free "$inside" $what $size 16
        found free "$inside" $what $size 4096
    done
done
found free "$inside" inside 50000000 40000000
found free "$double" again-slab-gone 100
found free "$double" again-slab-gone 1200
for what in stack static text wild; do
    found free "$foreign" $what
done
# Whatever the value: each bit, all of them, and where chunks may lie, with a page of the program's there or with nothing.
bit=4
while [ $bit -lt 64 ]; do
    found free "$foreign" at $(printf '0x%x' $(((1 << bit) + 16)))
    bit=$((bit + 1))
done
for at in 0x80000000010 0x8feedbeef40 0xa0000000010 0xc0000012340 0xfffffffffff0 0xfffffff0 0x7fffffffff0 0x10000000000 \
    0x7ffffffffff0 0xfffffffffffffff0 0x8000000000000010 0xffff800000000010; do
    found free "$foreign" at $at
    found realloc "$foreign" realloc-at $at
    found malloc_usable_size "$foreign" usable-at $at
done
for at in 0x80000000010 0x8feedbeef40 0xa0000000010 0xc0000012340 0xffffffff010 0x7f000000010; do
    found free "$foreign" page-at $at
done
for chunks in -100000 -3 -2 2 3 1000; do
    found free "$foreign" beside $chunks
done
found free "$foreign|$double" chunk-gone
missed chunk-gone again
for what in header header-start tags tags-end; do
    found free "$inside" $what
done
found free "$double" free-unit
found realloc "$foreign" realloc-stack
found malloc_usable_size "$foreign" usable-stack
found malloc_usable_size "$inside" usable-inside
for byte in 0 1 0x41 0x7f 0x80 0xff; do
    overwritten write-after-free 1200 $byte
done
# By luck alone a byte with its highest bit set makes a link that leads into the slab: 1 in 30,000 for the smaller slabs.
for byte in 0 1 0x41 0x7f; do
    overwritten write-after-free 20000 $byte
done
overwritten overflow 1200
[ $failed = 0 ] && echo "bad frees: all as told"
exit $failed
