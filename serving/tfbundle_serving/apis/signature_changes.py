"""What changed in a model's signatures, and whether a client notices.

A client that goes on sending what it sent and reading what it read must get its answers: so a new version may take more
and give more, and never less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .signatures import Shape, Signature, TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureChange:
    """One change of a signature.

    Attributes:
        signature: Its name.
        what: What changed, in a person's words.
        is_breaking: Whether a client of the old version may fail with the new one.
    """

    signature: str
    what: str
    is_breaking: bool

    def __str__(self) -> str:
        """Say it, breaking changes marked."""
        return f"{'BREAKING  ' if self.is_breaking else ''}{self.signature}: {self.what}"


def compare_signatures(old: Mapping[str, Signature], new: Mapping[str, Signature]) -> tuple[SignatureChange, ...]:
    """Compare the signatures of two versions, breaking changes first."""
    changes = [
        *(_change(name, "the signature was removed", True) for name in old if name not in new),
        *(_change(name, "the signature was added", False) for name in new if name not in old),
        *(change for name in old if name in new for change in _compare(name, old[name], new[name])),
    ]
    return tuple(sorted(changes, key=lambda change: (not change.is_breaking, change.signature)))


def _change(signature: str, what: str, is_breaking: bool) -> SignatureChange:
    return SignatureChange(signature=signature, what=what, is_breaking=is_breaking)


def _compare(name: str, old: Signature, new: Signature) -> Iterator[SignatureChange]:
    if old.method_name != new.method_name:
        yield _change(name, f"its method is {new.method_name}, was {old.method_name}", True)
    for alias in sorted(old.inputs.keys() - new.inputs.keys()):
        yield _change(name, f"input {alias} was removed", True)
    for alias in sorted(new.inputs.keys() - old.inputs.keys()):
        optional = alias in new.defaults
        how = "has a default" if optional else "is required"
        yield _change(name, f"input {alias} ({new.inputs[alias]}) was added and {how}", not optional)
    for alias in sorted(old.outputs.keys() - new.outputs.keys()):
        yield _change(name, f"output {alias} was removed", True)
    for alias in sorted(new.outputs.keys() - old.outputs.keys()):
        yield _change(name, f"output {alias} ({new.outputs[alias]}) was added", False)
    for role, before, after, fits in (
        # What the old version took, the new one must take.
        ("input", old.inputs, new.inputs, lambda was, now: _contains(now, was)),
        # What it gave must still be recognizable: the same sizes wherever both name one.
        ("output", old.outputs, new.outputs, lambda was, now: _contains(now, was) or _contains(was, now)),
    ):
        for alias in sorted(before.keys() & after.keys()):
            yield from _compare_specs(name, f"{role} {alias}", before[alias], after[alias], fits)


def _compare_specs(
    signature: str, what: str, old: TensorSpec, new: TensorSpec, fits: Callable[[Shape, Shape], bool]
) -> Iterator[SignatureChange]:
    if old.dtype.number != new.dtype.number:
        yield _change(signature, f"{what} is {new}, was {old}", True)
    elif old.shape != new.shape:
        yield _change(signature, f"{what} is {new}, was {old}", not fits(old.shape, new.shape))


def _contains(wide: Shape, narrow: Shape) -> bool:
    """Tell whether every tensor of one shape is of the other as well."""
    if wide is None:
        return True
    if narrow is None or len(wide) != len(narrow):
        return False
    return all(size is None or size == other for size, other in zip(wide, narrow, strict=True))
