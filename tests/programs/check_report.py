#!/usr/bin/env python3
"""Checks a report's books: accounting on; each group's bytes = its owners' + its children's; with --at-rest, little left."""
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
    assert int(row["heap"]) + int(row["mapped"]) + int(row["reserved"]) == int(row["current"]), row
if "--at-rest" in sys.argv:
    assert int(rows["/"]["current"]) < 300_000, rows["/"]
print(f"books balance: {len(rows)} groups, {rows['/']['current']} bytes left, {rows['/']['peak']} at the peak")
