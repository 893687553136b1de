"""Requests to the same signature with the same kind of rows are joined, since a request costs more than a row.

That is only done where rows stand for themselves: the exporter measured it (metadata.json, batchable), or it is
tried on the first rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from .requests import Arrays, Request

#: A message of both limits is answered soon, and far from what any server refuses.
_BLOCK_ROWS = 512
_BLOCK_BYTES = 4 << 20
#: Joined requests that wait for more of their kind hold no more than that.
_WAITING_BYTES = 64 << 20


def join(requests: Iterable[Request], may_join: Callable[[str], bool]) -> Iterator[list[Request]]:
    """Put requests of one kind into blocks; what cannot be joined comes alone.

    Args:
        requests: In any order of signatures and shapes.
        may_join: Whether the rows of a signature stand for themselves, as far as is known.
    """
    waiting: dict[tuple[object, ...], list[Request]] = {}
    rows_of: Counter[tuple[object, ...]] = Counter()
    bytes_of: Counter[tuple[object, ...]] = Counter()

    def take(kind: tuple[object, ...]) -> list[Request]:
        del rows_of[kind], bytes_of[kind]
        return waiting.pop(kind)

    for request in requests:
        shared = all(array.ndim and array.shape[0] == request.rows for array in request.inputs.values())
        if not may_join(request.signature) or not shared or request.rows >= _BLOCK_ROWS or not request.rows:
            yield [request]
            continue
        kind = (request.signature, request.method_name, *_kind(request.inputs))
        size = request.size
        is_full = rows_of[kind] + request.rows > _BLOCK_ROWS or bytes_of[kind] + size > _BLOCK_BYTES
        if is_full and kind in waiting:
            yield take(kind)
        waiting.setdefault(kind, []).append(request)
        rows_of[kind] += request.rows
        bytes_of[kind] += size
        if bytes_of.total() > _WAITING_BYTES:
            yield take(max(waiting, key=lambda each: bytes_of[each]))
    yield from waiting.values()


def _kind(arrays: Arrays) -> Iterator[object]:
    for name in sorted(arrays):
        yield (name, arrays[name].dtype.str, arrays[name].shape[1:])


def put_together(block: Sequence[Request]) -> Request:
    """Make one request of several of a kind."""
    first = block[0]
    inputs = {name: np.concatenate([each.inputs[name] for each in block]) for name in first.inputs}
    return Request(
        signature=first.signature,
        method_name=first.method_name,
        inputs=inputs,
        rows=sum(each.rows for each in block),
        first_row=first.first_row,
    )


def halves(block: Sequence[Request]) -> list[Sequence[Request]]:
    """Cut a block of requests, or a table, in two."""
    if len(block) > 1:
        return [block[: len(block) // 2], block[len(block) // 2 :]]
    (table,) = block
    middle = table.rows // 2
    return [[replace(table.cut(0, middle), is_table=True)], [replace(table.cut(middle, table.rows), is_table=True)]]
