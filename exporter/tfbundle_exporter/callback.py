"""Versions made while a model trains: `model.fit(..., callbacks=[ExportCallback("models/digits")])`."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from tfbundle_serving.apis.errors import BundleError, ExportError

from .folder.metadata import check_told
from .pipeline import ExportedVersion, export_model
from .publishing.base_path import check_base_path
from .talk import talk
from .training.first_batch import FirstBatch
from .training.improvement import Improvement, Mode
from .training.untouched import untouched

logger = logging.getLogger(__name__)

OnError = Literal["warn", "raise"]

#: What export_model can be told that is not the callback's own affair.
_OPTIONS = frozenset(inspect.signature(export_model).parameters) - {
    *("source", "base_path", "example_inputs", "version", "metadata", "tag")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedExport:
    """An export that did not come about while the training went on.

    Attributes:
        epoch: The epoch, counted from 1.
        batch: The batch within it, counted from 1; None at the end of the epoch.
        error: What was wrong.
    """

    epoch: int
    batch: int | None
    error: Exception


class _Hooks:
    """The hooks that both Kerases call, doing nothing.

    A class of its own instead of a Callback of either Keras, which would be an import of that Keras.
    """

    def _nothing(self, *_: Any, **__: Any) -> None:
        """Do nothing."""

    on_train_begin = on_train_end = on_test_begin = on_test_end = on_predict_begin = on_predict_end = _nothing
    on_epoch_begin = on_epoch_end = on_batch_begin = on_batch_end = _nothing
    on_train_batch_begin = on_train_batch_end = on_test_batch_begin = on_test_batch_end = _nothing
    on_predict_batch_begin = on_predict_batch_end = _nothing

    # What tf_keras asks besides: False lets it convert the logs to numbers, and skip hooks that do nothing.
    _supports_tf_logs = False
    _chief_worker_only = False

    def _implements_train_batch_hooks(self) -> bool:
        return False

    _implements_test_batch_hooks = _implements_predict_batch_hooks = _implements_train_batch_hooks


class ExportCallback(_Hooks):
    """Exports the model while it trains, each time as a new version. Works in `fit` of Keras 3 and of tf_keras.

    The training goes on exactly as it would without it. Arguments mean what they mean to ModelCheckpoint, except that
    naming a metric is enough to be given versions that improve it:

        ExportCallback("models/digits", example_inputs=x_test)                                   every epoch
        ExportCallback("models/digits", example_inputs=x_test, every=5)                          every fifth
        ExportCallback("models/digits", example_inputs=x_test, monitor="val_accuracy")           when it improves
        ExportCallback("models/digits", example_inputs=x_test, tag="run7-{epoch}-{val_loss:.2f}")

    Args:
        base_path: The folder of the model's versions.
        example_inputs: Rows to prove each version on, as in export_model. Without them rows are drawn: for a
            subclassed model in the form of the first batch that it is trained on.
        monitor: A metric in the logs of an epoch. Where the logs lack it nothing is exported, with a warning.
        mode: Whether smaller ("min") or larger ("max") is better; "auto" goes by the metric's name.
        save_best_only: Export only what improves the metric ("val_loss" unless `monitor` is given). None means yes if
            `monitor` is given.
        every: Epochs from one export to the next.
        save_freq: "epoch", or a number of batches instead; then `every` has no meaning.
        initial_value_threshold: The value of the metric to beat at first.
        on_error: "warn" logs a failed export and keeps it in `failures`; "raise" lets it end the training.
        verbose: 1 shows on stderr what the exporter does.
        tag: Name of the versions. {epoch}, {batch} and metrics are filled in, epoch and batch counted from 1.
        metadata: What metadata.json shall say of each version. "training" is completed by the number of epochs, and
            "epoch_metrics" by the logs.
        **options: Anything else that export_model takes, as `input_names=` or `gate=`.

    Attributes:
        versions: What was exported, in order.
        failures: What was not, and why.
        best: The best value of the metric so far.

    Raises:
        ExportError: An argument is none that an export could succeed with.
    """

    def __init__(
        self,
        base_path: str | os.PathLike[str],
        *,
        example_inputs: Any = None,
        monitor: str | None = None,
        mode: Mode = "auto",
        save_best_only: bool | None = None,
        every: int = 1,
        save_freq: Literal["epoch"] | int = "epoch",
        initial_value_threshold: float | None = None,
        on_error: OnError = "warn",
        verbose: int = 0,
        tag: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.base_path = Path(os.path.abspath(base_path))  # noqa: PTH100  # links stay as the user wrote them
        self.versions: list[ExportedVersion] = []
        self.failures: list[FailedExport] = []
        self.model: Any = None
        self.params: dict[str, Any] = {}
        if save_best_only is None:
            save_best_only = monitor is not None
        self._improvement = (
            Improvement(monitor or "val_loss", mode, initial_value_threshold) if save_best_only else None
        )
        self._every = _positive("every", every)
        self._save_freq = save_freq if save_freq == "epoch" else _positive("save_freq", save_freq)
        if on_error not in get_args(OnError):
            raise ExportError(f'on_error must be "warn" or "raise", got {on_error!r}')
        self._on_error = on_error
        self._verbose = verbose
        self._tag = tag
        self._metadata = dict(metadata or {})
        self._examples, self._first_batch = example_inputs, FirstBatch()
        self._options = options
        self._epoch = 0
        self._waited_epochs = self._waited_batches = 0
        self._last_batch = -1
        check_base_path(self.base_path)
        check_told(self._metadata)
        unknown = sorted(options.keys() - _OPTIONS)
        if unknown:
            raise ExportError(
                f"ExportCallback: there is no export option {unknown[0]!r}; there are {', '.join(sorted(_OPTIONS))}"
            )

    @property
    def best(self) -> float | None:
        """The best value of the metric so far; None before the first."""
        return self._improvement.best if self._improvement else None

    @property
    def async_safe(self) -> bool:
        """Whether Keras 3 may hand over batches late: yes, as long as no batch is exported."""
        return self._save_freq == "epoch"

    def _implements_train_batch_hooks(self) -> bool:
        return self._save_freq != "epoch"

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Take what `fit` was told."""
        self.params = dict(params)

    def set_model(self, model: Any) -> None:
        """Take the model that is about to be trained."""
        self.model = model
        if self._examples is None:
            self._first_batch.watch(model)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Stop waiting for a first batch."""
        self._first_batch.forget(self.model)

    def on_epoch_begin(self, epoch: int, *_: Any, **__: Any) -> None:
        """Take the number of the epoch, counted from 0."""
        self._epoch = epoch
        self._last_batch = -1

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Export if it is time."""
        self._epoch = epoch
        if self._save_freq != "epoch":
            return
        self._waited_epochs += 1
        if self._waited_epochs >= self._every:
            self._waited_epochs = 0
            self._export_if_better(None, logs or {})

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Export if batches are counted and enough have gone by."""
        if self._save_freq == "epoch":
            return
        # With steps_per_execution several batches go by at a time.
        self._waited_batches += batch - self._last_batch
        self._last_batch = batch
        if self._waited_batches >= int(self._save_freq):
            self._waited_batches = 0
            self._export_if_better(batch, logs or {})

    def _export_if_better(self, batch: int | None, logs: Mapping[str, Any]) -> None:
        improvement = self._improvement
        if improvement is None:
            self._try_export(batch, logs)
            return
        value = improvement.found_in(logs)
        if value is None:
            logger.warning(
                "epoch %d: no version was exported: the logs hold no %s to judge it by, only %s",
                *(self._epoch + 1, improvement.monitor, ", ".join(logs) or "nothing"),
            )
        elif improvement.is_better(value) and self._try_export(batch, logs):
            # Only what was published is a best to beat: after a failure the next epoch has its chance.
            improvement.best = value

    def _try_export(self, batch: int | None, logs: Mapping[str, Any]) -> bool:
        try:
            with untouched(self.model), talk(wanted=True) if self._verbose else nullcontext():
                if self._verbose:
                    print(file=sys.stderr)  # Keras's progress bar leaves its line open
                self.versions.append(self._export(batch, logs))
        except Exception as error:  # hours of training must not end for want of disk space
            if self._on_error == "raise":
                raise
            self.failures.append(FailedExport(epoch=self._epoch + 1, batch=_from_one(batch), error=error))
            logger.debug("while exporting", exc_info=True)
            reason = str(error) if isinstance(error, BundleError) else f"{type(error).__name__}: {error}"
            logger.warning(
                "epoch %d: no version was exported to %s; the training goes on: %s",
                *(self._epoch + 1, self.base_path, reason),
            )
            return False
        return True

    def _export(self, batch: int | None, logs: Mapping[str, Any]) -> ExportedVersion:
        options = dict(self._options)
        if self._tag is not None:
            options["tag"] = self._fill_in_tag(batch, logs)
        examples = self._examples
        if examples is None:
            examples = self._first_batch.examples(int(options.get("seed", 0)))
        return export_model(
            self.model, self.base_path, example_inputs=examples, metadata=self._describe(batch, logs), **options
        )

    def _describe(self, batch: int | None, logs: Mapping[str, Any]) -> dict[str, Any]:
        finished = self._epoch + 1 if batch is None else self._epoch
        training = {**(self._metadata.get("training") or {}), "epochs": finished}
        if self.params.get("batch_size") is not None:
            training.setdefault("batch_size", self.params["batch_size"])
        told = {**self._metadata, "training": training, "epoch_metrics": dict(logs)}
        return told if batch is None else {**told, "batch": batch + 1}

    def _fill_in_tag(self, batch: int | None, logs: Mapping[str, Any]) -> str:
        values = {**logs, "epoch": self._epoch + 1, **({} if batch is None else {"batch": batch + 1})}
        try:
            return str(self._tag).format(**values)
        except (KeyError, IndexError, ValueError) as error:
            raise ExportError(
                f"tag {self._tag!r} cannot be filled in ({error}); there are {', '.join(sorted(values))}"
            ) from error


def _from_one(batch: int | None) -> int | None:
    return None if batch is None else batch + 1


def _positive(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        what = "a number of batches, or 'epoch'" if name == "save_freq" else "a number of epochs, 1 or more"
        raise ExportError(f"{name} must be {what}; got {value!r}")
    return value
