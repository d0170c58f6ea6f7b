#!/usr/bin/env bash
# Real programs run under the library as they do without it, and their books balance at the end: python, shell, perl.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs python3
echo "-- python: threads, then json"
same python3 "$here/programs/python_threads.py"
same python3 -c 'import json; d={str(i):[i]*50 for i in range(20000)}; print(len(json.loads(json.dumps(d))))'
echo "-- python: fork, subprocess, multiprocessing"
same python3 -c 'import subprocess, os
print(subprocess.run(["sh","-c","echo $((6*7))"],capture_output=True,text=True).stdout)
import multiprocessing as m
print(sum(m.get_context("fork").Pool(3).map(abs, range(-1000,0))))'
echo "-- shell pipelines"
same sh -c 'seq 1 20000 | sort -r | head -n 3; for i in 1 2 3 4 5; do echo $i | cat; done; exit 3'
if command -v perl >/dev/null; then
    echo "-- perl: hashes, regular expressions, sort, fork, its own threads where it has them"
    same perl -e 'my %h; $h{$_ % 1000} .= "x" for 1..200000; print length($h{7}), "\n"'
    same perl "$here/programs/perl_words.pl"
else
    echo "skipped: no perl on this machine"
fi
