"""What the names of a training's checkpoints tell: the epoch, and the metrics that were written into them.

    weights.05-0.31.keras  weights.06-0.29.keras     epoch 5 and 6, one metric whose name was not written
    model-e03-val_acc0.87.h5                         epoch 3, val_acc 0.87

The template (`model-{epoch:02d}-{val_loss:.2f}.keras`) is lost; names that were made by one template agree in all but
their numbers, and a number that is the same in all of them ("resnet50-01.h5", "resnet50-02.h5") is part of the name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Direction = Literal["max", "min"]

#: Endings that are no part of a template's numbers.
_SUFFIX = re.compile(r"(\.weights)?\.(h5|hdf5|hdf|keras|ckpt|tf)$|\.ckpt$|\.weights$", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![A-Za-z])(?:nan|inf)(?![A-Za-z])|(?:(?<=[-_=])-(?=\d+\.\d))?\d+(?:\.\d+)*(?:e[+-]?\d+)?")
#: Words that stand before an epoch, and before no metric.
_EPOCH_WORDS = frozenset({"e", "ep", "epoch", "epochs", "cp", "ckpt", "checkpoint", "step"})

#: Words in a metric's name that tell which way is better. What is an error comes first: "acc_loss".
_DIRECTIONS: tuple[tuple[Direction, re.Pattern[str]], ...] = (
    (
        "min",
        re.compile(
            r"(?<![a-z])(loss|err(or)?|r?mse|mae|mape|msle|logcosh|hinge|kl|(cross)?entropy|divergence|distance|perplexity)"
            r"(?![a-z])"
        ),
    ),
    (
        "max",
        re.compile(
            r"(?<![a-z])(acc(uracy)?|auc|precision|recall|f1|f1score|fscore|score|iou|dice|psnr|ssim|r2|map|similarity)"
            r"(?![a-z])"
        ),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointName:
    """A checkpoint's name, read.

    Attributes:
        name: The name.
        template: The name without its numbers; equal for names of one training.
        epoch: Its epoch; None where it has none.
        order: All its whole numbers that differ, the epoch first, for telling which is later.
        metrics: Name to value; "" stands for one whose name is not written.
    """

    name: str
    template: str
    epoch: int | None
    order: tuple[int, ...]
    metrics: Mapping[str, float]


def read_names(names: Iterable[str]) -> dict[str, CheckpointName]:
    """Read the names of a folder's checkpoints, by comparing those of one template.

    Args:
        names: Names of files and folders, without the folder they lie in.

    Returns:
        Each name to what it tells.
    """
    groups: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for name in names:
        template, numbers = _split(name)
        groups[template][name] = numbers
    return {name: read for template, group in groups.items() for name, read in _read_group(template, group).items()}


def _split(name: str) -> tuple[str, list[str]]:
    """Take the numbers out of a name; a text without numbers is left, with a NUL for each."""
    suffix = _SUFFIX.search(name)
    stem = name[: suffix.start()] if suffix else name
    numbers: list[str] = []

    def take(match: re.Match[str]) -> str:
        found = _split_dotted(match[0])
        numbers.extend(found)
        return ".".join("\0" * len(found))

    return _NUMBER.sub(take, stem) + (suffix[0] if suffix else ""), numbers


def _split_dotted(text: str) -> list[str]:
    """Read "05.0.31", which a dot between two fields of a template makes, as 05 and 0.31."""
    parts = text.split(".")
    if len(parts) < 3:
        return [text]
    return [parts[0], *(".".join(parts[at : at + 2]) for at in range(1, len(parts), 2))]


def _read_group(template: str, group: Mapping[str, list[str]]) -> dict[str, CheckpointName]:
    columns = list(zip(*group.values(), strict=True))
    varying = [len(group) == 1 or len(set(column)) > 1 for column in columns]
    whole = [all(text.isdecimal() for text in column) for column in columns]
    labels = _labels(
        template, [column[0] if whole[at] and not varying[at] else "" for at, column in enumerate(columns)]
    )
    counters = [at for at in range(len(columns)) if whole[at] and (varying[at] or _is_epoch(labels[at]))]
    # A named epoch before what merely comes first.
    counters.sort(key=lambda at: not _is_epoch(labels[at]))
    if len(group) == 1 and not (counters and _stands_alone(template, counters[0], labels)):
        counters = []
    measures = [at for at in range(len(columns)) if not whole[at]]
    measures = [at for at in measures if varying[at]] or measures
    read = {}
    for name, numbers in group.items():
        order = tuple(int(numbers[at]) for at in counters)
        metrics: dict[str, float] = {}
        for at in measures:
            label = labels[at]
            metrics[label if label not in metrics else f"{label}_{at}"] = float(numbers[at])
        read[name] = CheckpointName(
            name=name, template=template, epoch=order[0] if order else None, order=order, metrics=metrics
        )
    return read


def _labels(template: str, fixed: Sequence[str]) -> list[str]:
    """Name each number by the text before it.

    Args:
        template: The name without its numbers.
        fixed: Each number that is the same in all names, and so belongs to the text ("val_f1"); "" for the others.
    """
    labels, before = [], ""
    for text, number in zip(template.split("\0"), fixed, strict=False):
        before += text
        labels.append(_label(before))
        before = before + number if number else ""
    return labels


def _label(text: str) -> str:
    """Take the word that a text ends in: "model-val_acc=" -> "val_acc"; "" where there is none."""
    word = re.split(r"[-. =]", text.rstrip("-_=. "))[-1].lower().strip("_")
    return word[max(word.find("val_"), 0) :] if re.match("[a-z]", word) else ""


def _is_epoch(label: str) -> bool:
    return label.rpartition("_")[2] in _EPOCH_WORDS


def _stands_alone(template: str, column: int, labels: list[str]) -> bool:
    """Tell whether a number that nothing can be compared with is an epoch rather than part of a word ("resnet50")."""
    before = template.split("\0")[column]
    return _is_epoch(labels[column]) or not before or not before[-1].isalpha()


def direction_of(metric: str) -> Direction | None:
    """Tell whether a larger or a smaller value of a metric is the better one; None where its name does not say."""
    return next((direction for direction, words in _DIRECTIONS if words.search(metric.lower())), None)
