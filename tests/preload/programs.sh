#!/usr/bin/env bash
# Real programs run under the library as they do without it, and their books balance at the end.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
under() {
    "$MEMCG_BIN" exec --strict --report "$TMPDIR/report" -- "$@"
    "$here/programs/check_report.py" "$TMPDIR/report"
}
same() {
    "$@" >"$TMPDIR/plain"
    under "$@" >"$TMPDIR/under"
    tail -n 1 "$TMPDIR/under"
    sed '$d' "$TMPDIR/under" | cmp - "$TMPDIR/plain"
}
echo "-- python: threads, then json"
same python3 "$here/programs/threads.py"
same python3 -c 'import json; d={str(i):[i]*50 for i in range(20000)}; print(len(json.loads(json.dumps(d))))'
echo "-- python: fork, subprocess, multiprocessing"
same python3 -c 'import subprocess, os
print(subprocess.run(["sh","-c","echo $((6*7))"],capture_output=True,text=True).stdout)
import multiprocessing as m
print(sum(m.get_context("fork").Pool(3).map(abs, range(-1000,0))))'
echo "-- shell pipelines"
same sh -c 'seq 1 20000 | sort -r | head -n 3; for i in 1 2 3 4 5; do echo $i | cat; done'
if command -v perl >/dev/null; then
    echo "-- perl"
    same perl -e 'my %h; $h{$_ % 1000} .= "x" for 1..200000; print length($h{7}), "\n"'
fi
if command -v sqlite3 >/dev/null; then
    echo "-- sqlite3"
    same sqlite3 :memory: 'create table t(a,b); with recursive c(x) as (select 1 union all select x+1 from c where x<200000) insert into t select x, hex(x) from c; create index i on t(b); select count(*), sum(a) from t where b > "5";'
fi
if command -v git >/dev/null; then
    echo "-- git"
    git init -q "$TMPDIR/repo"
    ( cd "$TMPDIR/repo"; for i in $(seq 1 200); do seq "$i" 500 >"f$i"; done; git add .; git -c user.name=a -c user.email=a@b commit -qm x )
    under git -C "$TMPDIR/repo" gc -q --aggressive
    under git clone -q "$TMPDIR/repo" "$TMPDIR/clone"
    [ "$(git -C "$TMPDIR/clone" rev-parse HEAD)" = "$(git -C "$TMPDIR/repo" rev-parse HEAD)" ]
fi
echo "-- a C++ compile"
if command -v c++ >/dev/null; then
    echo '#include <map>
#include <string>
#include <iostream>
int main(){std::map<std::string,int> m; m["a"]=1; std::cout << m.size() << "\n";}' >"$TMPDIR/a.cc"
    under c++ -O2 "$TMPDIR/a.cc" -o "$TMPDIR/a"
    same "$TMPDIR/a"
fi
