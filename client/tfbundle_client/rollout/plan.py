"""What a models.config has to say for a label to move; functions that only compute.

A label moves in two steps, because TensorFlow Serving assigns labels before it loads anything, and refuses the whole
list if an existing label would leave for a version that is not AVAILABLE. In the first the new version is loaded beside
those that are served; in the second the label moves. What nobody needs any more leaves afterwards.

Source: tensorflow_serving/model_servers/server_core.cc (UpdateModelVersionLabelMap, ReloadConfig).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tfbundle_serving.apis.models_config_edit import ConfiguredModel, find_model, read_models, set_label, set_policy
from tfbundle_serving.apis.version_policy import All, Latest, Specific

from .staying import reasons, say_held, say_loaded

_GONE = "its folder is gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The texts of a models.config on the way to a moved label.

    Attributes:
        model: Model name.
        label: The label.
        version: Where it is to point.
        before: Where the file lets it point so far; None where it has no such label.
        left: The version that callers with the label leave; None where there is none.
        old: The file as it is.
        loading: For the servers: the version beside what is served, labels unmoved.
        moved: For the servers: the label moved, everything still loaded.
        new: For the file, and for the servers at last.
        loaded: Versions that `new` loads; None where it leaves that to the folder (policy all).
        kept: Those of them that are neither labelled nor configured, kept so that going back takes no load.
        leaving: Versions that are loaded until the label has moved.
        notes: What somebody should know before.
        gone: Versions that `new` asks for, that no server has and whose folders are gone.
    """

    model: str
    label: str
    version: int
    before: int | None
    left: int | None
    old: str
    loading: str
    moved: str
    new: str
    loaded: tuple[int, ...] | None
    kept: tuple[int, ...]
    leaving: tuple[int, ...]
    notes: tuple[str, ...]
    gone: frozenset[int] = frozenset()

    @property
    def wanted(self) -> frozenset[int]:
        """Versions that are to be loaded then; where that is left to the folder, those that labels mean."""
        labels = find_model(read_models(self.new), self.model).labels
        return frozenset(labels.values() if self.loaded is None else self.loaded)

    def say_loaded(self, missing: Mapping[int, str] | None = None) -> str:
        """Say in one line which versions stay loaded, and why.

        Args:
            missing: Those that no server has, and why, if servers were asked; None: those whose folders are gone.
        """
        absent = dict.fromkeys(self.gone, _GONE) if missing is None else missing
        return say_loaded(find_model(read_models(self.new), self.model), self.loaded, self.kept, absent)

    def staying(self, missing: Collection[int] | None = None) -> dict[str, list[str]]:
        """Give the same as JSON values: version to what keeps it."""
        labels = find_model(read_models(self.new), self.model).labels
        found = reasons(labels, self.loaded, self.kept, self.gone if missing is None else missing)
        return {str(version): list(said) for version, said in found.items()}


def plan_change(
    text: str,
    model: str,
    version: int,
    label: str,
    *,
    live: Collection[int] = (),
    labelled: Collection[int] = (),
    kept_before: Collection[int] = (),
    keep_loaded: Collection[int] = (),
    unload_previous: bool = False,
    there: Collection[int] | None = None,
) -> Plan:
    """Work out how a label gets to a version.

    Args:
        text: The models.config.
        model: Model name.
        version: The version.
        label: The label.
        live: Versions that some server has loaded or loads; what `latest` amounts to.
        labelled: Where the label points at the servers, should the file be ahead of them.
        kept_before: Versions that an earlier change kept loaded only to go back to them.
        keep_loaded: Further versions that must stay loaded.
        unload_previous: Let the version go that the label leaves.
        there: Versions that are on disk; None where nobody can tell.

    Raises:
        NotFound: The text has no such model.
        InvalidArgument: The text is no models.config.
    """
    entry = find_model(read_models(text), model)
    before = entry.labels.get(label)
    beside: tuple[int, ...] | None = None
    kept: tuple[int, ...] = ()
    leaving: tuple[int, ...] = ()
    loading = text
    if not isinstance(entry.policy, All):
        beside, kept, leaving = _versions(
            entry,
            version,
            label,
            live=live,
            labelled=labelled,
            kept_before=kept_before,
            keep_loaded=keep_loaded,
            unload_previous=unload_previous,
        )
        loading = set_policy(text, model, Specific(versions=beside))
    moved = set_label(loading, model, label, version)
    loaded = None if beside is None else tuple(each for each in beside if each not in leaving)
    new = moved if loaded is None or loaded == beside else set_policy(moved, model, Specific(versions=loaded))
    left = before if before not in (None, version) else max(set(labelled) - {version}, default=None)
    asked = {*entry.labels.values()} if loaded is None else {*loaded}
    gone = frozenset() if there is None else frozenset(asked - {version} - {*there} - {*live})
    rest = None if loaded is None else tuple(each for each in loaded if each not in gone)
    held = None
    if unload_previous and left is not None and rest is not None and left in rest:
        held = say_held(model, left, {**entry.labels, label: version}, is_highest=left == max(rest))
    return Plan(
        model=model,
        label=label,
        version=version,
        before=before,
        left=left,
        old=text,
        loading=loading,
        moved=moved,
        new=new,
        loaded=loaded,
        kept=kept,
        leaving=leaving,
        notes=tuple(_notes(entry, version, live, rest, () if held is None else (held,))),
        gone=gone,
    )


def _versions(
    entry: ConfiguredModel,
    version: int,
    label: str,
    *,
    live: Collection[int],
    labelled: Collection[int],
    kept_before: Collection[int],
    keep_loaded: Collection[int],
    unload_previous: bool,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Give what is loaded beside each other, what of it is kept to go back to, and what of it leaves."""
    is_latest = isinstance(entry.policy, Latest)
    configured = tuple(sorted(live)) if isinstance(entry.policy, Latest) else _specific(entry)
    before = entry.labels.get(label)
    labels = {**entry.labels, label: version}
    beside = tuple(sorted({*configured, *entry.labels.values(), *labelled, *keep_loaded, version}))
    needed = {*labels.values(), *keep_loaded}
    if {before, *labelled} == {version}:  # nothing moves, so nothing leaves, and what was kept stays so
        return beside, tuple(each for each in beside if each in kept_before and each not in needed), ()
    # The version that the label leaves. Where latest chose, callers without a label were served by what it chose.
    previous = {before, *labelled} - {None, version}
    if is_latest:
        previous |= set(configured)
    going = set(kept_before) | previous if unload_previous else set(kept_before) - previous
    leaving = tuple(each for each in beside if each in going and each not in needed)
    kept = tuple(each for each in beside if each in previous and each not in needed and each not in leaving)
    return beside, kept, leaving


def as_labelled(text: str, model: str, labels: Mapping[str, int]) -> str:
    """Let the labels of a model mean in a list what they mean at a server, with their versions loaded.

    A list that somebody wrote into the file and that the server was not given would move them, or take them away,
    before what they are to mean is loaded, or proven.

    Args:
        text: The models.config.
        model: Model name.
        labels: Version label to the version that it means at the server now; others are left as the text has them.
    """
    entry = find_model(read_models(text), model)
    moved = {label: version for label, version in labels.items() if entry.labels.get(label) != version}
    for label, version in moved.items():
        text = set_label(text, model, label, version)
    if moved and isinstance(entry.policy, Specific):
        text = set_policy(text, model, Specific(versions=tuple(sorted({*entry.policy.versions, *moved.values()}))))
    return text


def _specific(entry: ConfiguredModel) -> tuple[int, ...]:
    return entry.policy.versions if isinstance(entry.policy, Specific) else ()


def _notes(
    entry: ConfiguredModel,
    version: int,
    live: Collection[int],
    loaded: tuple[int, ...] | None,
    held: Collection[str],
) -> list[str]:
    notes = list(held)
    if isinstance(entry.policy, Latest):
        notes.append(
            f"the policy of {entry.name} changes from latest to specific: from now on a new version folder is served "
            "when it is promoted, not when it appears"
        )
    highest = max(loaded if loaded is not None else {*live, version})
    if live and highest == version > max(live):
        notes.append(f"callers without a label reach version {version} as soon as it is loaded, as the highest")
    elif highest > version and not any("without a label" in each for each in held):
        notes.append(f"callers without a label reach version {highest}, the highest that is loaded, not {version}")
    return notes
