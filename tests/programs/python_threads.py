"""A threaded program: four workers keep and drop buffers; prints a line and waits to be told to end."""
import sys
import threading

kept = []
go = threading.Event()


def work(n):
    mine = []
    for i in range(2000):
        mine.append(bytearray(1000 + (i * 37 + n) % 3000))
        if i % 3 == 0:
            mine.pop(0)
    kept.append(mine)
    go.wait()


threads = [threading.Thread(target=work, args=(n,), name=f"worker-{n}") for n in range(4)]
for t in threads:
    t.start()
while len(kept) < 4:
    pass
print("ready", flush=True)
if len(sys.argv) > 1:
    sys.stdin.readline()
go.set()
for t in threads:
    t.join()
print(sum(len(b) for mine in kept for b in mine))
