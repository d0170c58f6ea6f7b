"""A Python workload: objects, dicts, strings, JSON, sorting."""

import json
import random

random.seed(1)


class Node:
    def __init__(self, key, value):
        self.key, self.value, self.next = key, value, None


def records(n):
    return [
        {"id": i, "name": f"user-{i}", "tags": [f"t{random.randrange(100)}" for _ in range(5)], "score": random.random()}
        for i in range(n)
    ]


def main():
    kept = []
    for turn in range(5):
        rows = records(6_000)
        text = json.dumps(rows)
        again = json.loads(text)
        again.sort(key=lambda row: (row["tags"], row["score"]))
        head = None
        for row in again:
            node = Node(row["name"], row)
            node.next, head = head, node
        by_tag = {}
        while head is not None:
            for tag in head.value["tags"]:
                by_tag.setdefault(tag, []).append(head.key)
            head = head.next
        kept.append({tag: ",".join(sorted(names)[:50]) for tag, names in by_tag.items()})
        words = " ".join(kept[-1].values()).replace("user-", "u").split("u")
        kept[-1]["words"] = str(len(set(words)))
    print(sum(len(k) for k in kept))


main()
