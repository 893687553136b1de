"""Measure how a server answers under load.

Requests go through the client's own transports, and below its retries: each message that fails is a failure here.
Look-ups are done once, before the load.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal as signals
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from numpy.typing import NDArray

from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.signatures import Signature, format_shape

from ..calls.deadline import Deadline
from ..calls.flows import find_signature
from ..transports.address import Address
from ..transports.connection import Connection
from ..transports.opening import open_async_transport
from ..transports.transport import AsyncTransport, MetadataCall, PredictCall, Transfer
from .engine import run_load
from .load import Load
from .machine import describe_machine
from .measurement import Measurement
from .sweep import Step, judge, next_rate, step_duration_s, sweep_to_json

#: Given the signature under its name, the arrays to send.
ChooseInputs = Callable[[Signature, str], Mapping[str, NDArray[Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The search for the highest rate that keeps a bound.

    Attributes:
        p99_s: The bound on the 99th percentile of the latency, in seconds.
        on_step: Is told of each step as it ends.
    """

    p99_s: float
    on_step: Callable[[Step], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """What was measured, of what, from where.

    Attributes:
        url: The server.
        transport: "gRPC" or "REST".
        model: Model name.
        version: The version that was there before the load.
        signature: Signature name.
        inputs: Input name to dtype and shape of what each request carried.
        started_at: When the load began.
        machine: The generator's machine, see `describe_machine`.
        measurement: The run; None for a search that was interrupted in its first step.
        steps: The steps of a search, in their order; empty for a single run, whose measurement is there.
        p99_s: The bound of a search.
    """

    url: str
    transport: str
    model: str
    version: int
    signature: str
    inputs: Mapping[str, str]
    started_at: datetime
    machine: Mapping[str, Any]
    measurement: Measurement | None
    steps: tuple[Step, ...] = ()
    p99_s: float | None = None

    @property
    def was_interrupted(self) -> bool:
        """Whether it ended before its time."""
        return self.measurement is not None and self.measurement.was_interrupted

    def to_json(self) -> dict[str, Any]:
        """Give everything as JSON values."""
        document: dict[str, Any] = {
            "url": self.url,
            "transport": self.transport,
            "model": self.model,
            "version": self.version,
            "signature": self.signature,
            "inputs": dict(self.inputs),
            "started_at": self.started_at.isoformat(),
            "machine": dict(self.machine),
        }
        if self.p99_s is not None:
            document["sweep"] = sweep_to_json(self.steps, self.p99_s)
        elif self.measurement is not None:
            document["result"] = self.measurement.to_json()
        return document


def run_bench(
    address: Address,
    connection: Connection,
    spec: ModelSpec,
    load: Load,
    choose_inputs: ChooseInputs,
    *,
    sweep: Sweep | None = None,
) -> BenchResult:
    """Send a load to a model and measure it; one request goes ahead, so that what cannot succeed fails at once.

    An interrupt (Ctrl-C) ends it early, and what was measured until then is returned; a second one is not caught.

    Args:
        address: The server; whether it may be loaded is for `bench_target` to say.
        connection: Credentials and the like.
        spec: Model, version or label, signature.
        load: What to send when. A search begins with its rate, and with its duration and warm-up in each step.
        choose_inputs: Makes what each request carries.
        sweep: Search for the highest rate instead.

    Raises:
        ApiError: The model cannot be asked, or the request that goes ahead is refused.
        DecodeError: An answer cannot be read.
    """
    return asyncio.run(_run(address, connection, spec, load, choose_inputs, sweep))


async def _run(
    address: Address,
    connection: Connection,
    spec: ModelSpec,
    load: Load,
    choose_inputs: ChooseInputs,
    sweep: Sweep | None,
) -> BenchResult:
    stop = asyncio.Event()
    transport = open_async_transport(address, connection)
    try:
        target = await _aim(transport, spec, load.timeout_s, choose_inputs)
        await target.ask(Transfer())
        with _stopped_by_interrupt(stop):
            started_at = datetime.now(timezone.utc)
            machine = describe_machine()
            if sweep is None:
                measurement: Measurement | None = await run_load(load, target.ask, stop)
                steps: list[Step] = []
            else:
                steps, measurement = await _search(load, sweep, target, stop)
    finally:
        await transport.close()
    return BenchResult(
        url=address.url,
        transport=transport.name,
        model=spec.name,
        version=target.version,
        signature=spec.signature_key,
        inputs={name: _describe(target.signature, name, array) for name, array in target.inputs.items()},
        started_at=started_at,
        machine=machine,
        measurement=measurement,
        steps=tuple(steps),
        p99_s=None if sweep is None else sweep.p99_s,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    transport: AsyncTransport
    spec: ModelSpec
    version: int
    signature: Signature
    inputs: Mapping[str, NDArray[Any]]
    timeout_s: float

    async def ask(self, transfer: Transfer) -> int | None:
        """Send one request; see `bench_engine.Ask`."""
        response = await self.transport.send(
            PredictCall(
                spec=self.spec,
                deadline=Deadline.after(self.timeout_s),
                inputs=self.inputs,
                signature=self.signature,
                transfer=transfer,
            )
        )
        return response.model_spec.version


async def _aim(transport: AsyncTransport, spec: ModelSpec, timeout_s: float, choose_inputs: ChooseInputs) -> _Target:
    metadata = await transport.send(MetadataCall(spec=replace(spec, signature=""), deadline=Deadline.after(timeout_s)))
    signature = find_signature(metadata, spec.signature_key)
    return _Target(
        transport=transport,
        spec=spec,
        version=metadata.version,
        signature=signature,
        inputs=choose_inputs(signature, spec.signature_key),
        timeout_s=timeout_s,
    )


async def _search(
    load: Load, sweep: Sweep, target: _Target, stop: asyncio.Event
) -> tuple[list[Step], Measurement | None]:
    """Measure one rate after the other; the last measurement is there for those of an interrupted step."""
    steps: list[Step] = []
    measurement: Measurement | None = None
    while (rate := next_rate(steps, load.rate)) is not None:
        step_load = replace(load, rate=rate, duration_s=step_duration_s(rate, load.duration_s))
        measurement = await run_load(step_load, target.ask, stop)
        if measurement.was_interrupted:
            break
        steps.append(Step(rate, measurement, judge(measurement, sweep.p99_s)))
        if sweep.on_step is not None:
            sweep.on_step(steps[-1])
    return steps, measurement


@contextlib.contextmanager
def _stopped_by_interrupt(stop: asyncio.Event) -> Iterator[None]:
    """Have the first interrupt set an event instead of raising."""
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        stop.set()
        loop.remove_signal_handler(signals.SIGINT)

    try:
        loop.add_signal_handler(signals.SIGINT, interrupted)
    except (NotImplementedError, ValueError, RuntimeError):
        yield  # only the main thread may, and not on every system: the interrupt is an exception there
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signals.SIGINT)


def _describe(signature: Signature, name: str, array: NDArray[Any]) -> str:
    return f"{signature.inputs[name].type_name} {format_shape(array.shape)}"
