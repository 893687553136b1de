"""What an export can be told, besides its source and where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from tfbundle_serving.apis.model_spec import DEFAULT_SIGNATURE

from .signatures.names import Names

Naming = Literal["layers", "keras2"]
Keras = Literal["", "2", "3"]
#: What can be said of a folder of checkpoints.
PICKS = "latest, best, best:METRIC, best:max, best:min or epoch=N"
Gate = Literal["local", "serve"]
#: What is refused by default, and let pass and marked in metadata.json when it is allowed by name: layers that keep
#: state between calls, answers that differ from call to call, one batch size, operations that a stock server lacks,
#: and further signatures of a SavedModel that the example inputs do not fit.
Allowance = Literal["stateful", "random", "fixed-batch", "ops", "unproven"]
ALLOWANCES: tuple[Allowance, ...] = get_args(Allowance)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """How the source is to be read.

    Attributes:
        architecture: What weights belong to: the path of a JSON or YAML text, "module:factory" or "file.py:factory"; in
            Python also a callable that builds the model, or a model.
        pick: Which checkpoint of a folder: "latest", "best" or "epoch=N"; "" where there is but one.
        custom_objects: Name to class or function, from Python.
        modules: The same from the command line: "module" or "module:name".
        recurrent_activation: What recurrent layers used, for weights that do not say ("sigmoid", "hard_sigmoid").
        keras: The Keras that the architecture is to be built with, where nothing records it.
        allow_unsafe: Load a file even if it holds code.
        keep: Put the source itself into the version.
    """

    architecture: Any = None
    pick: str = ""
    custom_objects: Mapping[str, Any] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    recurrent_activation: str = ""
    keras: Keras = ""
    allow_unsafe: bool = False
    keep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureSettings:
    """Which signatures the version gets, under which names.

    Attributes:
        name: The main signature's.
        input_names: What clients call the inputs; None keeps the source's names.
        output_names: The same for the outputs.
        naming: Where names come from that are not given.
        ready: Ready-made signatures around the main one, in order.
        functions: The user's own: name to tf.function.
        cast_outputs: Give half precision outputs as float32.
    """

    name: str = DEFAULT_SIGNATURE
    input_names: Names | None = None
    output_names: Names | None = None
    naming: Naming = "layers"
    ready: tuple[Any, ...] = ()
    functions: Mapping[str, Any] = field(default_factory=dict)
    cast_outputs: bool = False

    @property
    def keeps_names(self) -> bool:
        """Whether nothing is asked for that needs a SavedModel to be written anew."""
        return self == SignatureSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """What a staged version has to stand.

    Attributes:
        allow: What is let pass.
        serve: Start a server on the staged version, too, and compare over the wire.
        server_command: The server to start, as a command line with {model_name}, {base_path}, {port} and
            {rest_port}; empty means the embedded one.
    """

    allow: frozenset[Allowance] = frozenset()
    serve: bool = False
    server_command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """The reference inputs.

    Attributes:
        given: An array, name to array, or arrays in the source's order; None draws rows from the signature.
        seed: For drawing.
    """

    given: Any = None
    seed: int = 0
