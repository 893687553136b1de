"""The flags of `tfbundle serve`: one table that drives parsing and help.

Spelled as tensorflow_model_server's: `--name=value`; a boolean also bare, or with true, false, 1 or 0; the last one of
a name wins. Unlike there an unknown flag is an error that names the nearest one, unless --ignore_unknown_flags.

Source: tensorflow_serving/model_servers/main.cc, server.h.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

#: The value of a port flag with which the system picks a free port.
AUTO = "auto"


class Kind(Enum):
    """What a flag's value is."""

    BOOL = "BOOL"
    INT = "N"
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
class Later:
    """A flag of tensorflow_model_server that this server does not act on; accepted at its default only."""

    name: str
    kind: Kind
    default: Any


FLAGS: tuple[Flag, ...] = (
    Flag("port", Kind.PORT, 8500, "TCP port for gRPC; 0 = off, auto = the system picks a free one"),
    Flag("rest_api_port", Kind.PORT, None, "TCP port for REST; 0 = off (8501 with MODELS_DIR, else 0), or auto"),
    Flag("host", Kind.TEXT, "127.0.0.1", "address to listen on; 0.0.0.0 = every IPv4 address"),
    Flag("grpc_socket_path", Kind.PATH, "", "UNIX socket for gRPC, besides the port"),
    Flag("ports_file", Kind.PATH, "", 'file to write {"grpc": N, "rest": N, "pid": N} to once both listen'),
    Flag("model_name", Kind.TEXT, "default", "name of the one model to serve"),
    Flag("model_base_path", Kind.PATH, "", "its base path, the folder of its version folders"),
    Flag("model_config_file", Kind.PATH, "", "models.config: several models, policies, labels"),
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
    Flag("ignore_unknown_flags", Kind.BOOL, False, "start in spite of unknown flags, as tensorflow_model_server does"),
    Flag("help", Kind.BOOL, False, "show this and exit"),
)

LATER: tuple[Later, ...] = (
    Later("model_config_file_poll_wait_seconds", Kind.INT, 0),
    Later("enable_batching", Kind.BOOL, False),
    Later("batching_parameters_file", Kind.PATH, ""),
    Later("enable_per_model_batching_parameters", Kind.BOOL, False),
    Later("ssl_config_file", Kind.PATH, ""),
    Later("enable_grpc_healthcheck_service", Kind.BOOL, False),
    Later("enable_profiler", Kind.BOOL, True),
    Later("flush_filesystem_caches", Kind.BOOL, True),
    Later("tensorflow_session_config_file", Kind.PATH, ""),
    Later("per_process_gpu_memory_fraction", Kind.TEXT, "0"),
    Later("remove_unused_fields_from_bundle_metagraph", Kind.BOOL, True),
    Later("use_alts_credentials", Kind.BOOL, False),
    Later("platform_config_file", Kind.PATH, ""),
    Later("thread_pool_factory_config_file", Kind.PATH, ""),
    Later("mixed_precision", Kind.TEXT, ""),
    Later("skip_initialize_tpu", Kind.BOOL, False),
    Later("prefer_tflite_model", Kind.BOOL, False),
    Later("num_tflite_pools", Kind.INT, 0),
    Later("num_tflite_interpreters_per_pool", Kind.INT, 1),
    Later("xla_cpu_compilation_enabled", Kind.BOOL, False),
    Later("xla_gpu_compilation_enabled", Kind.BOOL, False),
    Later("version", Kind.BOOL, False),
)

_KNOWN: dict[str, Flag | Later] = {flag.name: flag for flag in FLAGS} | {flag.name: flag for flag in LATER}
_BOOLS = {"": True, "true": True, "1": True, "false": False, "0": False}


class FlagError(ValueError):
    """The command line is misused; the text is for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A command line.

    Attributes:
        values: Flag name to value, defaults filled in.
        models_dir: The positional argument, "" where there is none.
        ignored: Unknown flags that --ignore_unknown_flags let pass.
    """

    values: dict[str, Any]
    models_dir: str
    ignored: tuple[str, ...]

    def __getitem__(self, name: str) -> Any:
        """Give a flag's value."""
        return self.values[name]


def parse(arguments: Sequence[str]) -> Parsed:
    """Read the arguments of `tfbundle serve`.

    Raises:
        FlagError: A flag is unknown, not supported or malformed, or there are two positional arguments.
    """
    values = {flag.name: flag.default for flag in FLAGS}
    folders: list[str] = []
    unknown: list[str] = []
    for argument in arguments:
        if argument == "-h":
            argument = "--help"
        if not argument.startswith("-"):
            folders.append(argument)
            continue
        name, has_value, text = argument.removeprefix("--").partition("=")
        flag = _KNOWN.get(name) if argument.startswith("--") else None
        if flag is None:
            unknown.append(argument)
            continue
        value = _read(flag, text, has_value=bool(has_value))
        if isinstance(flag, Flag):
            values[name] = value
        elif value != flag.default:
            raise FlagError(f"--{name} is a flag of tensorflow_model_server that tfbundle serve does not support yet")
    if unknown and not values["ignore_unknown_flags"]:
        raise FlagError(_say_unknown(unknown[0]))
    if len(folders) > 1:
        raise FlagError(f"expected one MODELS_DIR, got {' and '.join(folders)} (a flag's value follows a =)")
    return Parsed(values=values, models_dir=folders[0] if folders else "", ignored=tuple(unknown))


def _read(flag: Flag | Later, text: str, *, has_value: bool) -> Any:
    if flag.kind is Kind.BOOL:
        if text not in _BOOLS or (has_value and not text):
            raise FlagError(f"--{flag.name} takes true, false, 1 or 0, got {text!r}")
        return _BOOLS[text]
    if not has_value:
        raise FlagError(f"--{flag.name} needs a value: --{flag.name}={flag.kind.value}")
    if flag.kind is Kind.PORT:
        return AUTO if text == AUTO else _read_port(flag.name, text)
    return _read_int(flag.name, text) if flag.kind is Kind.INT else text


def _read_int(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise FlagError(f"--{name} takes a whole number, got {text!r}") from None


def _read_port(name: str, text: str) -> int:
    port = _read_int(name, text)
    if not 0 <= port <= 65535:
        raise FlagError(f"--{name} takes a port from 0 to 65535 or {AUTO}, got {port}")
    return port


def _say_unknown(argument: str) -> str:
    name = argument.split("=")[0]
    near = difflib.get_close_matches(name.lstrip("-"), _KNOWN, n=1, cutoff=0.5)
    hint = f"did you mean --{near[0]}?" if near else "--help lists the flags"
    return f"there is no flag {name}; {hint}"


def help_text() -> str:
    """Give the text of `tfbundle serve --help`."""
    rows = [(f"--{flag.name}={flag.kind.value}", _help(flag)) for flag in FLAGS]
    return (
        "usage: tfbundle serve [MODELS_DIR] [--FLAG=VALUE ...]\n\n"
        "Serve version folders with TensorFlow Serving's flags and wire contract. MODELS_DIR: every folder in it that\n"
        "has a version is a model. Without it, name models by --model_config_file or --model_base_path.\n\n"
        f"flags:\n{_table(rows)}\n"
    )


def _help(flag: Flag) -> str:
    default = str(flag.default).lower() if flag.kind is Kind.BOOL else flag.default
    return flag.help if default in ("", None) or flag.name == "help" else f"{flag.help} [{default}]"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"  {name}\n      {text}" for name, text in rows)
