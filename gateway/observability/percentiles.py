"""Percentiles of histograms."""

from __future__ import annotations

from collections.abc import Sequence


def percentile(bounds: Sequence[float], counts: Sequence[float], share: float) -> float | None:
    """Return the value below which this share of the observations is; None without any.

    `counts`: of each bucket, the overflow included, not cumulative. `bounds`: the upper bounds, ascending, without
    infinity. Values are taken as evenly distributed within their bucket, so the result is in the right bucket and wrong
    by its width at most: in a bucket from 1 to 2.5 s, by 1.5 s. In the overflow it is the last bound, which is less.
    """
    total = sum(counts)
    if not total:
        return None
    rank, below = share * total, 0.0
    for index, (bound, count) in enumerate(zip(bounds, counts, strict=False)):
        if count and below + count >= rank:
            low = bounds[index - 1] if index else 0.0
            return low + (bound - low) * (rank - below) / count
        below += count
    return bounds[-1]
