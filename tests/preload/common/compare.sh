# For the scripts beside it: a program with the library and without, the same output, the same exit status, books that
# balance. Read with `.`, after `set -eu`.
# shellcheck shell=bash

programs=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../programs" && pwd)

# The program under the library, standard output as it comes, its exit status; then the report's books, on standard error.
# What an owner is charged must be what the allocator finds of his, going through its objects.
under() {
    local status=0
    timeout 100 "$MEMCG_BIN" exec --strict --report "$TMPDIR/report" -- "$@" || status=$?
    "$programs/check_report.py" "$TMPDIR/report" --exact >&2 || return 99
    return "$status"
}

# Runs it both ways: standard output and status are the same.
same() {
    local plain=0 with=0
    timeout 100 "$@" >"$TMPDIR/plain" || plain=$?
    under "$@" >"$TMPDIR/under" || with=$?
    cmp "$TMPDIR/plain" "$TMPDIR/under" || return
    [ "$plain" = "$with" ] || { echo "status $with instead of $plain"; return 1; }
}

# Ends the script as one that cannot be run here, when a program is missing.
needs() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || { echo "no $program on this machine"; exit 77; }
    done
}
