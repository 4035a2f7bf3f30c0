"""Decimation by the database itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engine.buckets import Buckets, width_for

Fetch = Callable[[str, tuple[Any, ...]], list[Any]]
"""Runs a statement with its arguments; gives all rows."""


def read_buckets(fetch: Fetch, key: str, limit: int) -> Buckets:
    """See :meth:`engine.store_reader.StoreReader.buckets`."""
    number, _, width = _extent(fetch, key, limit)
    values = "min(value), max(value), total(value), count(value), count(*)"
    rows = _grouped(fetch, values, number, width)
    if any(row[-1] > row[-2] for row in rows):
        # a zero with a sign is kept like what is not finite, and is a number all the same
        plain = "CASE special WHEN '-0.0' THEN 0.0 ELSE value END"
        rows = _grouped(fetch, values.replace("(value)", f"({plain})"), number, width)
    columns = zip(*rows, strict=True) if rows else [()] * 7
    first, last, low, high, total, count, every = columns
    finite = np.array(count, np.int64)
    return Buckets(
        width=width,
        first=np.array(first, np.int64),
        last=np.array(last, np.int64),
        low=np.array(low, np.float64),
        high=np.array(high, np.float64),
        total=np.array(total, np.float64),
        count=finite,
        broken=np.array(every, np.int64) - finite,
    )


def read_samples(fetch: Fetch, key: str, limit: int) -> Buckets:
    """See :meth:`engine.store_reader.StoreReader.samples`."""
    number, last, width = _extent(fetch, key, limit)
    # the last row of each bucket, found by the index and not by reading all of them
    rows = fetch(
        "WITH RECURSIVE bucket(final) AS (VALUES (? - 1) UNION ALL"
        " SELECT final + ? FROM bucket WHERE final < ?)"
        " SELECT step, coalesce(value, special) FROM bucket JOIN metric_values"
        " ON key_id = ? AND step = (SELECT max(step) FROM metric_values"
        " WHERE key_id = ? AND step BETWEEN final - ? + 1 AND final) ORDER BY step",
        (width, width, last, number, number, width),
    )
    steps = np.fromiter((step for step, _ in rows), np.int64, len(rows))
    values = np.fromiter((float(value) for _, value in rows), np.float64, len(rows))
    return Buckets.of(steps, values, width)


def _grouped(fetch: Fetch, values: str, number: int, width: int) -> list[Any]:
    return fetch(
        f"SELECT min(step), max(step), {values} FROM metric_values"
        " WHERE key_id = ? AND step >= 0 GROUP BY step / ? ORDER BY 1",
        (number, width),
    )


def _extent(fetch: Fetch, key: str, limit: int) -> tuple[int, int, int]:
    """Number of a metric, its last step, and the width of its buckets."""
    found = fetch("SELECT id FROM keys WHERE name = ?", (key,))
    number = found[0][0] if found else -1
    ((last,),) = fetch(
        "SELECT coalesce(max(step), 0) FROM metric_values WHERE key_id = ?", (number,)
    )
    return number, last, width_for(last, limit)
