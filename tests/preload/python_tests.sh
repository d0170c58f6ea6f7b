#!/usr/bin/env bash
# Python's own tests for threading, gc, subprocess and multiprocessing: what fails under the library fails without it, and
# the books balance. Both run at the same time, and a test they differ in runs again, alone: those tests watch the clock.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs python3
python3 -c 'import test.test_threading, test._test_multiprocessing' 2>/dev/null || { echo "python3 here comes without its tests"; exit 77; }
long=${MEMCG_LONG:+--long}

# What a program may see of us: our socket, among the descriptors it has open. This test looks at every number there may be,
# finds it and has to.
sees_our_socket=test_pass_fds_redirected

# Runs in a folder of its own, the temporary one of the tests as well. A test that does not end is noted as hung, what it
# started goes with it, and another run does those behind it; also after a class or a module that did not.
once() {
    local dir=$TMPDIR/$1 run pid
    shift
    mkdir -p "$dir/tmp"
    for run in 1 2 3 4 5 6; do
        rm -f "$dir/out.begun"
        ( cd "$dir"; TMPDIR=$dir/tmp exec timeout 200 "$@" >>"$dir/said" 2>>"$dir/err" </dev/null ) & pid=$!
        # timeout leads a group of its own, and all the program's processes are in it.
        if wait "$pid"; then
            sort -o "$dir/out" "$dir/out"
            return 0
        fi
        kill -KILL -- "-$pid" 2>/dev/null || true
        [ -e "$dir/out.begun" ] || break
        [ ! -s "$dir/out.begun" ] || echo "HUNG $(cat "$dir/out.begun")" | tee -a "$dir/out"
    done
    tail -60 "$dir/err"
    echo "$dir: no end to it"
    return 1
}
plain() { once "$1" python3 "$here/programs/python_tests.py" out "${@:2}"; }
with() { once "$1" "$MEMCG_BIN" exec --strict --report "$TMPDIR/$1.report" -- python3 "$here/programs/python_tests.py" out "${@:2}"; }
module() {
    # shellcheck disable=SC2086
    plain "$1.plain" "$1" $long >/dev/null & local other=$!
    # shellcheck disable=SC2086
    with "$1.with" "$1" $long || return
    wait "$other"
}

modules="gc threading subprocess multiprocessing"
running=
for name in $modules; do
    module "$name" & running="$running $!"
done
for pid in $running; do wait "$pid"; done

for name in $modules; do
    "$here/programs/check_report.py" "$TMPDIR/$name.with.report" --exact
    ok=$(grep -c '^ok ' "$TMPDIR/$name.with/out")
    echo "$name: $ok ok, $(grep -cE '^(FAILED|HUNG) ' "$TMPDIR/$name.plain/out" || true) fail without the library"
    [ "$ok" -ge 20 ]
    for try in 1 2 3; do
        differ=$(diff "$TMPDIR/$name.plain/out" "$TMPDIR/$name.with/out" | sed -n 's/^[<>] [a-zA-Z]* //p' | grep -v "$sees_our_socket" | sort -u || true)
        [ -n "$differ" ] || break
        echo "$name differs:" $differ
        if [ "$try" = 3 ]; then
            cat "$TMPDIR/$name.with/err"
            exit 1
        fi
        rm -rf "$TMPDIR/$name.plain" "$TMPDIR/$name.with"
        # shellcheck disable=SC2086
        plain "$name.plain" "$name" $differ
        # shellcheck disable=SC2086
        with "$name.with" "$name" $differ
        "$here/programs/check_report.py" "$TMPDIR/$name.with.report" --exact
    done
done
