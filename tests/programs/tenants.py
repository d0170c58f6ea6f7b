"""Three tenants with two threads each, which keep what they are asked to.

Prints how much they kept. With the argument `wait` the threads then stay until standard input ends,
so that `memcg top` can look at them.
"""
import ctypes
import sys
import threading

libc = ctypes.CDLL(None)
kept = {}
are_filled = threading.Barrier(7)
may_leave = threading.Event()


def serve(tenant, requests):
    # The name the kernel keeps: Python gives its threads one from 3.14 on.
    libc.prctl(15, tenant.encode(), 0, 0, 0)
    kept[tenant] = [bytearray(200 + n % 4000) for n in range(requests)]
    are_filled.wait()
    may_leave.wait()


threads = [
    threading.Thread(target=serve, args=(f"{tenant}-{n}", size))
    for tenant, size in (("acme", 12000), ("zeta", 5000), ("umbrella", 1500))
    for n in range(2)
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
