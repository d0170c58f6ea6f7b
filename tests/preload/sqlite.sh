#!/usr/bin/env bash
# sqlite3: some hundred thousand rows in memory and on disk, indexes, a check of its own, a dump read back.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs sqlite3 python3
rows='with recursive c(x) as (select 1 union all select x+1 from c where x<300000)'
echo "-- in memory"
same sqlite3 :memory: "create table t(a,b); $rows insert into t select x, hex(x) from c; create index i on t(b); select count(*), sum(a) from t where b > '5'; delete from t where a % 3; vacuum; pragma integrity_check; select count(*) from t;"
echo "-- on disk"
write() {
    rm -f "$TMPDIR/db"
    "$@" sqlite3 "$TMPDIR/db" "pragma journal_mode=wal; create table t(a integer primary key, b text, c blob); begin; $rows insert into t select x, printf('row %d', x), randomblob(x % 50) from c; commit; create index i on t(b); update t set b = upper(b) where a % 2; pragma integrity_check; select count(*), sum(length(b)), sum(length(c)) from t;"
}
write timeout 100 >"$TMPDIR/out"
write under >"$TMPDIR/out.under"
cmp "$TMPDIR/out" "$TMPDIR/out.under"
grep -qx ok "$TMPDIR/out.under"
echo "-- a dump, read back"
under sqlite3 "$TMPDIR/db" .dump >"$TMPDIR/dump.under"
sqlite3 "$TMPDIR/db" .dump | cmp - "$TMPDIR/dump.under"
under sqlite3 "$TMPDIR/db2" <"$TMPDIR/dump.under"
[ "$(sqlite3 "$TMPDIR/db2" 'pragma integrity_check; select count(*) from t')" = "$(printf 'ok\n300000')" ]
