"""The metrics of several processes as one: every sample is the sum of theirs.

That is right for counters, for histograms, whose buckets count up, and for the gauge of versions, which counts
processes.
"""

from __future__ import annotations

from collections.abc import Iterable

_HEAD = "# TYPE "


def sum_metrics(shown: Iterable[bytes]) -> bytes:
    """Add up what several `metrics.Metrics.show` gave.

    Args:
        shown: Texts in Prometheus' format, each metric under its `# TYPE` line.

    Returns:
        One such text: the metrics in the order in which they first appear, and so the samples of each.
    """
    metrics: dict[str, dict[str, float]] = {}
    for text in shown:
        samples: dict[str, float] = {}
        for line in text.decode().split("\n"):
            if line.startswith(_HEAD):
                samples = metrics.setdefault(line, {})
            elif line:
                # Label values may hold blanks, numbers do not.
                name, _, value = line.rpartition(" ")
                samples[name] = samples.get(name, 0) + _number(value)
    lines = (line for head, samples in metrics.items() for line in (head, *(f"{n} {v}" for n, v in samples.items())))
    return "".join(f"{line}\n" for line in lines).encode()


def _number(text: str) -> float:
    return int(text) if text.isdigit() else float(text)
