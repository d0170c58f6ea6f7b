"""Three tenants, the largest with two threads, which keep what they are asked to.

Prints how much they kept. With the argument `wait` the threads then stay until standard input ends,
so that `memcg top` can look at them.
"""
import ctypes
import sys
import threading

libc = ctypes.CDLL(None)
kept = {}
are_filled = threading.Barrier(5)
may_leave = threading.Event()


def serve(tenant, requests):
    # The name the kernel keeps: Python gives its threads one from 3.14 on.
    libc.prctl(15, tenant.encode(), 0, 0, 0)
    kept[tenant] = [bytearray(200 + n % 4000) for n in range(requests)]
    are_filled.wait()
    may_leave.wait()


threads = [
    threading.Thread(target=serve, args=(f"{tenant}-{n}", size))
    for tenant, size, workers in (("acme", 16000, 2), ("zeta", 12000, 1), ("umbrella", 4000, 1))
    for n in range(workers)
]
for t in threads:
    t.start()
are_filled.wait()
print(sum(len(b) for of_one in kept.values() for b in of_one), "bytes kept", flush=True)
if sys.argv[1:] == ["wait"]:
    sys.stdin.read()
may_leave.set()
for t in threads:
    t.join()
