#!/usr/bin/env bash
# A C++ compiler under the library writes what it writes without it.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs c++ python3
compiler=$(c++ -print-prog-name=cc1plus)
source=$here/programs/templates.cc
cd "$TMPDIR"
echo "-- the driver and all it starts"
# What the stages in between wrote is kept for the compiler proper, below.
c++ -std=c++17 -O1 -save-temps=obj "$source" -o plain
under c++ -std=c++17 -O1 "$source" -o with
cmp plain with
same ./with
echo "-- the compiler proper, by its own books"
if [ -x "$compiler" ]; then
    under "$compiler" -fpreprocessed -quiet -std=c++17 -O1 ./*templates.ii -o with.s
    cmp ./*templates.s with.s
else
    echo "skipped: this compiler is not GCC"
fi
