#!/usr/bin/env python3
"""Checks a report's books: accounting on; each group's bytes = its owners' + its children's; no more charged for objects
than the allocator has; with --exact, what each owner is charged is what the allocator finds of his; with --at-rest, that
little is left as well, and the same where the process was still enough to tell."""
import sys

lines = open(sys.argv[1]).read().splitlines()
head = dict(word.split("=", 1) for word in lines[0].split())
columns = lines[1].split("\t")
rows = {row["path"]: row for row in (dict(zip(columns, line.split("\t"))) for line in lines[2:])}
assert head["accounting"] == "on", head
for path, row in rows.items():
    prefix = path.rstrip("/") + "/"
    children = [r for p, r in rows.items() if p != path and p.startswith(prefix) and "/" not in p[len(prefix):]]
    parts = int(row["own"]) + int(row["inherited"]) + sum(int(c["current"]) for c in children)
    assert parts == int(row["current"]), (path, parts, row["current"])
    assert int(row["heap"]) + int(row["mapped"]) + int(row["reserved"]) + int(row["slab"]) == int(row["current"]), row
root = rows["/"]
exact = "held" in head
assert exact or "--exact" not in sys.argv, ("the process was not at rest", head)
if exact and ("--exact" in sys.argv or "--at-rest" in sys.argv):
    assert int(head["held"]) == int(root["heap"]), (head, root)
    assert int(head["wrong_owners"]) == 0, head
    assert int(head["held"]) + int(head["unaccounted"]) <= int(head["live"]), head
if "--at-rest" in sys.argv:
    assert int(root["current"]) < 300_000, root
found = f", {head['held']} of objects found" if exact else ""
print(f"books balance: {len(rows)} groups, {root['current']} bytes left{found}, {root['peak']} at the peak")
