"""All signatures of a version: the main one, the source's others, the ready-made ones, the user's own."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tfbundle_serving.apis.errors import ExportError

from ..models.source_model import SourceCall, SourceModel
from ..settings import SignatureSettings
from .endpoint import Endpoint, plain_endpoint
from .names import check_distinct_inputs, check_legal, choose_names, is_legal, nearest_legal, uniquify
from .ready_made import ReadyMade
from .user_function import user_endpoint

logger = logging.getLogger(__name__)

#: Public names in the source's order: inputs, outputs.
OwnNames = tuple[Sequence[str], Sequence[str]]


def build_endpoints(
    model: SourceModel, settings: SignatureSettings, *, own_names: OwnNames | None = None
) -> list[Endpoint]:
    """Make the signatures of a version.

    Args:
        model: The loaded source.
        settings: Which signatures, under which names.
        own_names: What the main signature's inputs and outputs are called unless the settings say otherwise; None
            means as the source calls them.

    Returns:
        The main signature first; a signature that is built around another comes after it.

    Raises:
        ExportError: A name is illegal or used twice, or a signature does not fit the model.
    """
    endpoints: dict[str, Endpoint] = {}

    def add(endpoint: Endpoint) -> None:
        check_legal("the signature", endpoint.signature)
        check_distinct_inputs(endpoint.signature, endpoint.inputs)
        if not endpoint.outputs:
            raise ExportError(f"signature {endpoint.signature!r} returns no tensor, so there is nothing to serve")
        if endpoint.signature in endpoints:
            raise ExportError(
                f"two signatures are called {endpoint.signature!r}; give one another name "
                f"(there are {', '.join(endpoints)})"
            )
        endpoints[endpoint.signature] = endpoint
        described = ", ".join(f"{name} {spec}" for name, spec in endpoint.inputs.items())
        logger.info("signature %s: %s -> %s", endpoint.signature, described, ", ".join(endpoint.outputs))

    main = _main_endpoint(model.main, settings, own_names)
    add(main)
    for name, call in model.others.items():
        # The main one may stand among them under its own name, which is the one that was asked for.
        if call is not model.main or name != main.signature:
            add(_other_endpoint(_legal_signature(name), call, settings))
    for ready in settings.ready:
        add(ready.build(_find(endpoints, ready, main), model))
    for name, function in settings.functions.items():
        add(user_endpoint(name, function, main=main, model=model))
    return list(endpoints.values())


def _main_endpoint(call: SourceCall, settings: SignatureSettings, own_names: OwnNames | None) -> Endpoint:
    inputs, outputs = own_names or (tuple(call.inputs), call.output_names)
    return plain_endpoint(
        settings.name,
        call,
        inputs=choose_names("input", inputs, settings.input_names),
        outputs=choose_names("output", outputs, settings.output_names),
        cast_outputs=settings.cast_outputs,
    )


def _other_endpoint(signature: str, call: SourceCall, settings: SignatureSettings) -> Endpoint:
    """Keep the names of a further signature; --input and --output are about the main one, so these mend themselves."""
    return plain_endpoint(
        signature,
        call,
        inputs=_mend(signature, tuple(call.inputs), are_inputs=True),
        outputs=_mend(signature, call.output_names, are_inputs=False),
        cast_outputs=settings.cast_outputs,
    )


def _legal_signature(name: str) -> str:
    if is_legal(name):
        return name
    mended = nearest_legal(name)
    logger.info("signature %r is called %r, since its own name is not legal", name, mended)
    return mended


def _mend(signature: str, names: Sequence[str], *, are_inputs: bool) -> tuple[str, ...]:
    mended = uniquify([name if is_legal(name, is_input=are_inputs) else nearest_legal(name) for name in names])
    for own, public in zip(names, mended, strict=True):
        if own != public:
            logger.info("signature %s: %r is called %r, since its own name is not legal", signature, own, public)
    return mended


def _find(endpoints: dict[str, Endpoint], ready: ReadyMade, main: Endpoint) -> Endpoint:
    if not ready.around:
        return main
    if ready.around not in endpoints:
        raise ExportError(
            f"signature {ready.signature!r} is to be built around {ready.around!r}, which is not there before it; "
            f"there are {', '.join(endpoints)}"
        )
    return endpoints[ready.around]
