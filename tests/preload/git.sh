#!/usr/bin/env bash
# git: a repository made here is packed, cloned and checked; packs that git makes without the library are the same.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs git python3
export GIT_CONFIG_NOSYSTEM=1 HOME="$TMPDIR" GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
repo=$TMPDIR/repo
git init -q "$repo"
for commit in 1 2 3 4 5 6 7 8; do
    for i in $(seq 1 150); do seq $((i * commit)) $((i * commit + 400)) >"$repo/f$i"; done
    git -C "$repo" add .
    GIT_AUTHOR_DATE="2020-01-0$commit 00:00:00" GIT_COMMITTER_DATE="2020-01-0$commit 00:00:00" git -C "$repo" commit -qm "c$commit"
done
head=$(git -C "$repo" rev-parse HEAD)

echo "-- a pack: deltas in threads"
git -C "$repo" rev-list --objects --all >"$TMPDIR/objects"
pack() { git -C "$repo" -c pack.threads="$1" pack-objects --stdout -q --window=40; }
pack 1 <"$TMPDIR/objects" >"$TMPDIR/pack"
under git -C "$repo" -c pack.threads=1 pack-objects --stdout -q --window=40 <"$TMPDIR/objects" | cmp - "$TMPDIR/pack"
under git -C "$repo" -c pack.threads=4 pack-objects --stdout -q --window=40 <"$TMPDIR/objects" >"$TMPDIR/pack4"
git init -q "$TMPDIR/unpacked"
( cd "$TMPDIR/unpacked" && under git index-pack --strict --stdin <"$TMPDIR/pack4" >/dev/null )

echo "-- gc, clone, fsck"
under git -C "$repo" gc -q --aggressive
under git -C "$repo" fsck --full --strict
under git clone -q --no-local "$repo" "$TMPDIR/clone"
[ "$(git -C "$TMPDIR/clone" rev-parse HEAD)" = "$head" ]
under git -C "$TMPDIR/clone" fsck --full
[ -z "$(git -C "$TMPDIR/clone" status --porcelain)" ]
same git -C "$TMPDIR/clone" log --stat --format=%H
same git -C "$TMPDIR/clone" blame f7
