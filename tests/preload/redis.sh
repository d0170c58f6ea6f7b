#!/usr/bin/env bash
# redis-server under redis-benchmark: what it holds afterwards is what it holds without the library, saved by a fork, read
# back, rewritten; its books balance.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/preload/common/compare.sh"
needs redis-server redis-benchmark redis-cli python3
requests=${MEMCG_LONG:+300000}
# More than one polls without a rest: not beside everything else on two cores.
threads=1
[ -z "$requests" ] || threads=2

serve() {
    local dir=$TMPDIR/$1
    shift
    mkdir -p "$dir"
    ( cd "$dir" && exec "$@" redis-server --port 0 --unixsocket "$dir/s" --save '' --appendonly no --io-threads "$threads" \
        --enable-debug-command yes --dir "$dir" --daemonize no --logfile "$dir/log" ) &
    server=$!
    for try in $(seq 200); do
        [ "$(redis-cli -s "$dir/s" ping 2>/dev/null)" = PONG ] && break
        sleep 0.05
    done
    ask() { redis-cli -s "$dir/s" "$@"; }
    redis-benchmark -s "$dir/s" -q -n "${requests:-20000}" -c 30 -P 4 -t set,get,incr,lpush,lpop,sadd,hset,zadd,mset,lrange_100 >"$dir/rates"
    ask debug populate 100000 >/dev/null
    ask eval 'for i = 1, 20000 do redis.call("zadd", "z" .. i % 10, i, "m" .. i); redis.call("append", "text", i) end return "done"' 0
    ask bgsave >/dev/null
    for try in $(seq 200); do
        ask info persistence | grep -q '^rdb_bgsave_in_progress:0' && break
        sleep 0.05
    done
    ask debug reload
    ask unlink text
    ask memory purge >"$dir/purge" || true
    ask dbsize
    ask debug digest >"$dir/digest"
    ask info memory | grep -E '^used_memory:|^mem_allocator:|^used_memory_rss:' || true
    ask shutdown nosave || true
    wait "$server"
}
serve plain env
echo "-- under the library"
serve with "$MEMCG_BIN" exec --strict --report "$TMPDIR/report" --
# redis-benchmark's own keys hold what it counted up to; the same number of requests, the same content.
cmp "$TMPDIR/plain/digest" "$TMPDIR/with/digest"
"$here/programs/check_report.py" "$TMPDIR/report" --exact
head -n 1 "$TMPDIR/report"
