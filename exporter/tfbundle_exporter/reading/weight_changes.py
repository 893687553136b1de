"""Which weights differ between two models, and by how much."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .stored_weights import StoredWeight

#: Values compared at a time, so that a large weight is not held in float64.
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightChange:
    """One weight that is not the same.

    Attributes:
        name: Its name in the first model.
        new_name: Its name in the second.
        old_shape: Its shape in the first.
        new_shape: Its shape in the second.
        max_abs_diff: Largest absolute difference; None for other shapes or dtypes and for text.
        relative: Length of the difference over the length of the old values (Euclidean); None where there is none.
        cosine: Cosine of the angle between old and new values; None where one of them is zero.
    """

    name: str
    new_name: str
    old_shape: tuple[int, ...]
    new_shape: tuple[int, ...]
    max_abs_diff: float | None = None
    relative: float | None = None
    cosine: float | None = None

    @property
    def is_reshaped(self) -> bool:
        """Whether it has another shape."""
        return self.old_shape != self.new_shape


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightChanges:
    """How the weights of two models differ.

    Attributes:
        same: How many are equal to the bit.
        changed: Those that are not.
        added: Names that only the second model has.
        removed: Names that only the first has.
    """

    same: int
    changed: tuple[WeightChange, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def is_same(self) -> bool:
        """Whether both have the same weights."""
        return not (self.changed or self.added or self.removed)


def compare_weights(old: Mapping[str, StoredWeight], new: Mapping[str, StoredWeight]) -> WeightChanges:
    """Compare the weights of two open models.

    Names are matched as far as formats and counters differ: sequential_1/dense_2/kernel of one file is the
    dense/kernel of another, where nothing else can be meant.

    Raises:
        DecodeError, OSError: A weight cannot be read.
    """
    pairs, removed, added = pair_names(old, new)
    # What is left may be the same under another name.
    contents: dict[tuple[object, ...], list[str]] = {}
    for name in reversed(added):
        contents.setdefault(_content(new[name]), []).append(name)
    for name in list(removed):
        twins = contents.get(_content(old[name]))
        if twins:
            pairs.append((name, twins.pop()))
            removed.remove(name)
            added.remove(pairs[-1][1])
    changes = []
    same = 0
    for name, new_name in pairs:
        change = _compare(name, old[name], new_name, new[new_name])
        if change is None:
            same += 1
        else:
            changes.append(change)
    return WeightChanges(same=same, changed=tuple(changes), added=tuple(added), removed=tuple(removed))


def _content(weight: StoredWeight) -> tuple[object, ...]:
    values = weight.numpy()
    data = repr(values.tolist()).encode() if weight.dtype == "string" else np.ascontiguousarray(values).tobytes()
    return weight.shape, weight.dtype, hashlib.sha256(data).digest()


def pair_names(
    old: Mapping[str, StoredWeight], new: Mapping[str, StoredWeight]
) -> tuple[list[tuple[str, str]], list[str], list[str]]:
    """Match the weights of two models by name.

    Returns:
        Pairs of names in the first model's order; names left over in the first; names left over in the second.
    """
    partners: dict[str, str] = {}
    for form, other_form in _FORMS:
        taken = set(partners.values())
        left = _group([name for name in old if name not in partners], form)
        right = _group([name for name in new if name not in taken], other_form)
        for key, names in left.items():
            others = right.get(key, [])
            same_shapes = [old[name].shape for name in names] == [new[name].shape for name in others]
            # Under its very name a weight is the same one even if its shape is another.
            if len(names) == len(others) and (same_shapes or form is other_form is _as_it_is):
                partners |= dict(zip(names, others, strict=True))
    taken = set(partners.values())
    pairs = [(name, partners[name]) for name in old if name in partners]
    return pairs, [name for name in old if name not in partners], [name for name in new if name not in taken]


def _as_it_is(name: str) -> str:
    return name


def _without_model(name: str) -> str:
    """Leave out the outermost name, which is the model's in some files, where a layer and a weight are left."""
    return name if name.count("/") < 2 else name.partition("/")[2]


def _without_counters(name: str) -> str:
    return re.sub(r"_\d+(?=/)", "", name)


def _bare(name: str) -> str:
    return _without_model(_without_counters(name))


#: Ways to see the first model's names and the second's, from the strictest to the most lenient.
_FORMS: tuple[tuple[Callable[[str], str], Callable[[str], str]], ...] = (
    (_as_it_is, _as_it_is),
    (_without_model, _as_it_is),
    (_as_it_is, _without_model),
    (_without_model, _without_model),
    (_without_counters, _without_counters),
    (_bare, _without_counters),
    (_without_counters, _bare),
    (_bare, _bare),
)


def _group(names: list[str], form: Callable[[str], str]) -> dict[str, list[str]]:
    """Gather names that look alike in a form, in the order in which Keras counts: dense, dense_1, dense_2, dense_10."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=_counted):
        groups.setdefault(form(name), []).append(name)
    return groups


def _counted(name: str) -> list[tuple[str, int]]:
    """Split a path into stems and counters."""
    parts = []
    for part in name.split("/"):
        stem, counter = re.fullmatch(r"(.*?)_?(\d*)", part, re.DOTALL).groups()  # type: ignore[union-attr]  # fits all
        parts.append((stem, int(counter or 0)))
    return parts


def _compare(name: str, old: StoredWeight, new_name: str, new: StoredWeight) -> WeightChange | None:
    change = WeightChange(name=name, new_name=new_name, old_shape=old.shape, new_shape=new.shape)
    if old.shape != new.shape or old.dtype != new.dtype:
        return change
    before, after = old.numpy(), new.numpy()
    if old.dtype == "string":
        return None if before.tolist() == after.tolist() else change
    before, after = (np.ascontiguousarray(each).reshape(-1) for each in (before, after))
    if np.array_equal(before.view(np.uint8), after.view(np.uint8)):
        return None
    largest, relative, cosine = measure(before, after)
    return WeightChange(
        name=name,
        new_name=new_name,
        old_shape=old.shape,
        new_shape=new.shape,
        max_abs_diff=largest,
        relative=relative,
        cosine=cosine,
    )


def measure(before: NDArray[Any], after: NDArray[Any]) -> tuple[float | None, float | None, float | None]:
    """Measure how far two flat arrays of one length are from each other.

    Returns:
        Largest absolute difference, length of the difference over the length of `before`, cosine of the angle; None
        where it is not a finite number.
    """
    largest = squares = old_squares = new_squares = product = 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, before.size, _CHUNK):
            left = before[start : start + _CHUNK].astype(np.float64)
            right = after[start : start + _CHUNK].astype(np.float64)
            difference = np.abs(right - left)
            # np.max hands NaN on, Python's max does not.
            largest = float(np.max([largest, np.max(difference)]))
            squares += float(difference @ difference)
            old_squares += float(left @ left)
            new_squares += float(right @ right)
            product += float(left @ right)
    scale = math.sqrt(old_squares) * math.sqrt(new_squares)
    figures = (
        largest,
        math.sqrt(squares / old_squares) if old_squares else math.nan,
        float(np.clip(product / scale, -1.0, 1.0)) if scale else math.nan,
    )
    return tuple(figure if math.isfinite(figure) else None for figure in figures)  # type: ignore[return-value]  # three
