"""How the browser's texts and token ids are stored once each; `unpack.js` undoes it."""

import json
from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]


class Interner:
    """Numbers distinct values in the order in which they first come."""

    def __init__(self) -> None:
        self.index: dict[Any, int] = {}
        self.size = 0
        """Characters that the values take as JSON, shared prefixes counted every time."""

    def __call__(self, value: Any) -> int:
        if value not in self.index:
            self.index[value] = len(self.index)
            self.size += len(json.dumps(value))
        return self.index[value]

    def values(self) -> list[Any]:
        return list(self.index)


def front_code(values: Sequence[Any]) -> Json:
    """Sequences (all str, or all tuples) as what each shares with the one before it, sorted.

    `order[i]` is the index in `values` of the i-th in sorted order, `shared[i]` how many of
    its first elements equal those of the one before, `rest[i]` what follows them.
    """
    order = sorted(range(len(values)), key=lambda i: values[i])
    shared, rest = [], []
    before: Sequence[Any] = ()
    for i in order:
        value = values[i]
        pairs = zip(before, value, strict=False)
        length = next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(before), len(value)))
        shared.append(length)
        rest.append(value[length:] if isinstance(value, str) else list(value[length:]))
        before = value
    return {"order": order, "shared": shared, "rest": rest}
