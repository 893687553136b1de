"""The flags of `tfbundle serve` and of our `tensorflow_model_server`: tables that drive parsing and help.

Spelled as tensorflow_model_server's: `--name=value`; a boolean also bare, or with true, false, 1 or 0; the last one of
a name wins. `tfbundle serve` differs in that an unknown flag is an error that names the nearest one, unless
--ignore_unknown_flags; in that it listens on this machine alone; and in that it also takes flags as the other commands
spell them: `--record-rate 0.01`.

Source: tensorflow_serving/model_servers/main.cc, server.h.
"""

from __future__ import annotations

import difflib
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

#: The value of a port flag with which the system picks a free port.
AUTO = "auto"

#: TensorFlow Serving's bound of a gRPC request; protobuf has no larger messages.
MAX_REQUEST_BYTES = (1 << 31) - 1


class Kind(Enum):
    """What a flag's value is."""

    BOOL = "BOOL"
    INT = "N"
    FLOAT = "X"
    TEXT = "TEXT"
    PATH = "PATH"
    PORT = "PORT"


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag.

    Attributes:
        name: Its name without the dashes.
        kind: What its value is.
        default: The value without the flag.
        help: One line for a person.
    """

    name: str
    kind: Kind
    default: Any
    help: str


@dataclass(frozen=True, slots=True)
class Unused:
    """A flag of tensorflow_model_server that cannot mean anything here; who gives it is told so in one line.

    Attributes:
        name: Its name without the dashes.
        kind: What its value is.
        quiet: The value that asks for what this server does anyway, so that nothing is said; None = there is none.
        why: Why it means nothing, for a person.
    """

    name: str
    kind: Kind
    quiet: Any
    why: str


FLAGS: tuple[Flag, ...] = (
    Flag("port", Kind.PORT, 8500, "TCP port for gRPC; 0 = off, auto = the system picks a free one"),
    Flag("rest_api_port", Kind.PORT, None, "TCP port for REST; 0 = off (8501 with MODELS_DIR, else 0), or auto"),
    Flag("host", Kind.TEXT, "127.0.0.1", "address to listen on; 0.0.0.0 = every IPv4 address"),
    Flag("grpc_socket_path", Kind.PATH, "", "UNIX socket for gRPC, besides the port"),
    Flag("workers", Kind.INT, 1, "processes that share the ports and each load the models, for more cores (Linux)"),
    Flag("ports_file", Kind.PATH, "", 'file to write {"grpc": N, "rest": N, "pid": N} to once both listen'),
    Flag("model_name", Kind.TEXT, "default", "name of the one model to serve"),
    Flag("model_base_path", Kind.PATH, "", "its base path, the folder of its version folders"),
    Flag("model_config_file", Kind.PATH, "", "models.config: several models, policies, labels"),
    Flag("model_config_file_poll_wait_seconds", Kind.INT, 0, "how often that file is read again; 0 = never"),
    Flag("file_system_poll_wait_seconds", Kind.INT, 1, "how often base paths are looked at; 0 = once, at start"),
    Flag(
        "allow_version_labels_for_unavailable_models",
        Kind.BOOL,
        False,
        "let a label point at a version that is not AVAILABLE",
    ),
    Flag("enable_model_warmup", Kind.BOOL, True, "replay assets.extra/tf_serving_warmup_requests before AVAILABLE"),
    Flag("num_request_iterations_for_warmup", Kind.INT, 0, "how often each warm-up request is run; 0 = once"),
    Flag("max_num_load_retries", Kind.INT, 5, "how often a version that failed to load is tried again"),
    Flag("load_retry_interval_micros", Kind.INT, 60_000_000, "wait between those attempts"),
    Flag("num_load_threads", Kind.INT, 0, "versions that load at once after start; 0 = one"),
    Flag("num_unload_threads", Kind.INT, 0, "versions that unload at once; 0 = as many as there are cores"),
    Flag("enable_batching", Kind.BOOL, None, "join requests into batches [where metadata.json says batchable]"),
    Flag("batching_parameters_file", Kind.PATH, "", "batching.config: how, with --enable_batching"),
    Flag(
        "enable_per_model_batching_parameters",
        Kind.BOOL,
        False,
        "read batching_params.pbtxt in each version folder instead, with --enable_batching",
    ),
    Flag(
        "unload_before_load",
        Kind.BOOL,
        False,
        "unload an old version before the new one is loaded: less memory, and a gap in the service",
    ),
    Flag("saved_model_tags", Kind.TEXT, "serve", "tags of the meta graph to load, with commas between"),
    Flag("rest_api_timeout_in_ms", Kind.INT, 30_000, "time limit of a model run asked for over REST; 0 = none"),
    Flag("rest_api_enable_cors_support", Kind.BOOL, False, "send Access-Control-Allow-Origin: *"),
    Flag("rest_api_num_threads", Kind.INT, 0, "worker threads; gRPC and REST share the larger number; 0 = 4 a core"),
    Flag("grpc_max_threads", Kind.INT, 0, "the same for gRPC"),
    Flag("grpc_channel_arguments", Kind.TEXT, "", "options of the gRPC server: key=value,key=value"),
    Flag("enable_serialization_as_tensor_content", Kind.BOOL, False, "gRPC replies carry tensor_content"),
    Flag("enable_signature_method_name_check", Kind.BOOL, False, "refuse signatures whose method_name is another's"),
    Flag("monitoring_config_file", Kind.PATH, "", "monitoring.config: metrics for Prometheus on the REST port"),
    Flag("tensorflow_session_parallelism", Kind.INT, 0, "threads inside and between operations; 0 = one a core"),
    Flag("tensorflow_intra_op_parallelism", Kind.INT, 0, "threads inside one operation"),
    Flag("tensorflow_inter_op_parallelism", Kind.INT, 0, "operations that run at once"),
    Flag("tensorflow_session_config_file", Kind.PATH, "", "text ConfigProto for the sessions; the three above win"),
    Flag("platform_config_file", Kind.PATH, "", "platform.config, in place of session, batching, tags, warm-up flags"),
    Flag(
        "per_process_gpu_memory_fraction", Kind.FLOAT, 0.0, "share of a GPU's memory to take; 0 = TensorFlow's choice"
    ),
    Flag("mixed_precision", Kind.TEXT, "", "bfloat16 = let TensorFlow compute with it where the CPU can"),
    Flag("xla_cpu_compilation_enabled", Kind.BOOL, False, "compile graphs with XLA, on CPUs too"),
    Flag("xla_gpu_compilation_enabled", Kind.BOOL, False, "compile graphs with XLA on GPUs"),
    Flag("ssl_config_file", Kind.PATH, "", "ssl.config: TLS for gRPC, and whether clients must show a certificate"),
    Flag("rest_ssl_config_file", Kind.PATH, "", "the same for REST; it may be the same file"),
    Flag("api_key_file", Kind.PATH, "", "keys, one a line, of which every request must carry one"),
    Flag("max_request_bytes", Kind.INT, MAX_REQUEST_BYTES, "bytes that a request may have, over gRPC and REST"),
    Flag("enable_grpc_healthcheck_service", Kind.BOOL, False, "serve grpc.health.v1: the whole, and each model"),
    Flag("enable_access_log", Kind.BOOL, False, "write one line of JSON to stdout for every request"),
    Flag("record", Kind.PATH, "", "file to append recorded requests to, as PredictionLogs; it holds users' data"),
    Flag("record_rate", Kind.FLOAT, None, "the probability with which a request is recorded, 0 to 1 [0.01]"),
    Flag("record_max_bytes", Kind.INT, None, "bytes that the file may have; then recording rests [1073741824]"),
    Flag("record_models", Kind.TEXT, None, "record requests to these models alone, with commas between [all]"),
    Flag("ignore_unknown_flags", Kind.BOOL, False, "start in spite of unknown flags, as tensorflow_model_server does"),
    Flag("version", Kind.BOOL, False, "show the versions of this server and of TensorFlow, and exit"),
    Flag("help", Kind.BOOL, False, "show this and exit"),
)

UNUSED: tuple[Unused, ...] = (
    Unused("enable_profiler", Kind.BOOL, False, "there is no profiler service"),
    Unused("flush_filesystem_caches", Kind.BOOL, False, "nothing is kept in a cache of the file system"),
    Unused("remove_unused_fields_from_bundle_metagraph", Kind.BOOL, True, "no meta graph is kept"),
    Unused("use_alts_credentials", Kind.BOOL, False, "ALTS exists in Google's own network; --ssl_config_file is TLS"),
    Unused("thread_pool_factory_config_file", Kind.PATH, "", "there are no thread pools to plug in"),
    Unused("skip_initialize_tpu", Kind.BOOL, True, "TPUs are not supported"),
    Unused("prefer_tflite_model", Kind.BOOL, False, "the SavedModel beside the TensorFlow Lite model is served"),
    Unused("num_tflite_pools", Kind.INT, None, "TensorFlow Lite models are not served"),
    Unused("num_tflite_interpreters_per_pool", Kind.INT, None, "TensorFlow Lite models are not served"),
)

_KNOWN: dict[str, Flag | Unused] = {flag.name: flag for flag in FLAGS} | {flag.name: flag for flag in UNUSED}

#: Where our tensorflow_model_server differs from `tfbundle serve`: None = every address, of IPv6 too for REST.
_MODEL_SERVER_DEFAULTS = {"host": None}
#: Python reads more, such as 1_000.
_INT = re.compile(r"[+-]?[0-9]{1,18}")
_BOOLS = {"": True, "true": True, "1": True, "false": False, "0": False}


class FlagError(ValueError):
    """The command line is misused; the text is for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A command line.

    Attributes:
        values: Flag name to value, defaults filled in.
        models_dir: The positional argument, "" where there is none.
        ignored: Unknown flags that were let pass.
        notices: One line for each flag that was given and means nothing here.
    """

    values: dict[str, Any]
    models_dir: str
    ignored: tuple[str, ...]
    notices: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Any:
        """Give a flag's value."""
        return self.values[name]


def parse(arguments: Sequence[str], *, as_model_server: bool = False) -> Parsed:
    """Read the arguments of `tfbundle serve`.

    Args:
        arguments: Those behind the command's name.
        as_model_server: Whether to read them as tensorflow_model_server does: what is unknown is let pass, there is no
            MODELS_DIR, and the server listens on every address.

    Raises:
        FlagError: A flag is unknown or malformed, or there are two positional arguments.
    """
    values = {flag.name: flag.default for flag in FLAGS}
    if as_model_server:
        values |= _MODEL_SERVER_DEFAULTS | {"ignore_unknown_flags": True}
    folders: list[str] = []
    unknown: list[str] = []
    unused: dict[str, str] = {}
    waiting = deque(arguments)
    while waiting:
        argument = waiting.popleft()
        if argument == "-h" and not as_model_server:
            argument = "--help"
        if not argument.startswith("-"):
            (unknown if as_model_server else folders).append(argument)
            continue
        name, has_value, text = argument.removeprefix("--").partition("=")
        if not as_model_server:
            name = name.replace("-", "_")
        flag = _KNOWN.get(name) if argument.startswith("--") else None
        if flag is None or (as_model_server and _is_unknown_there(flag, has_value=bool(has_value))):
            unknown.append(argument)
            continue
        if not (as_model_server or has_value or flag.kind is Kind.BOOL) and waiting and not waiting[0].startswith("-"):
            has_value, text = "=", waiting.popleft()
        value = values[name] = _read(flag, text, has_value=bool(has_value))
        if isinstance(flag, Unused):
            unused.pop(name, None)
            if value != flag.quiet:
                unused[name] = f"--{name} has no effect here: {flag.why}"
    if unknown and not values["ignore_unknown_flags"]:
        raise FlagError(_say_unknown(unknown[0]))
    if len(folders) > 1:
        raise FlagError(f"expected one MODELS_DIR, got {' and '.join(folders)} (a flag's value follows a =)")
    return Parsed(
        values=values,
        models_dir=folders[0] if folders else "",
        ignored=tuple(unknown),
        notices=tuple(unused.values()),
    )


def _is_unknown_there(flag: Flag | Unused, *, has_value: bool) -> bool:
    """Tell what TensorFlow's own parser looks past: a name without its value, and a --help that is not the first."""
    return flag.name == "help" or not (has_value or flag.kind is Kind.BOOL)


def _read(flag: Flag | Unused, text: str, *, has_value: bool) -> Any:
    if flag.kind is Kind.BOOL:
        if text not in _BOOLS or (has_value and not text):
            raise FlagError(f"--{flag.name} takes true, false, 1 or 0, got {text!r}")
        return _BOOLS[text]
    if not has_value:
        raise FlagError(f"--{flag.name} needs a value: --{flag.name}={flag.kind.value}")
    read = _READERS.get(flag.kind)
    return read(flag.name, text) if read else text


def _read_int(name: str, text: str) -> int:
    if not _INT.fullmatch(text):
        raise FlagError(f"--{name} takes a whole number, got {text!r}")
    return int(text)


def _read_float(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise FlagError(f"--{name} takes a number, got {text!r}") from None


def _read_port(name: str, text: str) -> int | str:
    if text == AUTO:
        return AUTO
    port = _read_int(name, text)
    if not 0 <= port <= 65535:
        raise FlagError(f"--{name} takes a port from 0 to 65535 or {AUTO}, got {port}")
    return port


_READERS: dict[Kind, Callable[[str, str], Any]] = {
    Kind.INT: _read_int,
    Kind.FLOAT: _read_float,
    Kind.PORT: _read_port,
}


def _say_unknown(argument: str) -> str:
    name = argument.split("=")[0]
    near = difflib.get_close_matches(name.lstrip("-"), _KNOWN, n=1, cutoff=0.5)
    hint = f"did you mean --{near[0]}?" if near else "--help lists the flags"
    return f"there is no flag {name}; {hint}"


def help_text() -> str:
    """Give the text of `tfbundle serve --help`."""
    return (
        "usage: tfbundle serve [MODELS_DIR] [--FLAG=VALUE ...]\n\n"
        "Serve version folders with TensorFlow Serving's flags and wire contract. MODELS_DIR: every folder in it that\n"
        "has a version is a model. Without it, name models by --model_config_file or --model_base_path.\n\n"
        f"{_flags_text()}"
    )


def model_server_help_text() -> str:
    """Give what our tensorflow_model_server prints where it is not understood."""
    return f"usage: tensorflow_model_server [--FLAG=VALUE ...]\n\n{_flags_text()}"


def _flags_text() -> str:
    used = [(f"--{flag.name}={flag.kind.value}", _help(flag)) for flag in FLAGS]
    unused = [(f"--{flag.name}={flag.kind.value}", flag.why) for flag in UNUSED]
    return f"flags:\n{_table(used)}\n\naccepted for tensorflow_model_server's sake, without effect:\n{_table(unused)}\n"


def _help(flag: Flag) -> str:
    default = str(flag.default).lower() if isinstance(flag.default, bool) else flag.default
    return flag.help if default in ("", None) or flag.name == "help" else f"{flag.help} [{default}]"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"  {name}\n      {text}" for name, text in rows)
