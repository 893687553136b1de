"""Everything that the server can be told, as one frozen value.

The command line builds it once; a program that embeds the server builds it directly.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import InvalidArgument, NotFound
from tfbundle_serving.config.batching import BatchingSettings, read_batching
from tfbundle_serving.config.models import ModelConfig, check_models, read_models
from tfbundle_serving.config.monitoring import MonitoringConfig, read_monitoring
from tfbundle_serving.config.platform import PlatformConfig, read_platform
from tfbundle_serving.config.ssl_config import SslConfig, read_ssl

from .api_key import read_api_keys
from .flags import AUTO, MAX_REQUEST_BYTES, Parsed
from .record_settings import DEFAULT_RATE, MAX_BYTES, RecordSettings

log = logging.getLogger(__name__)

#: The one value of --mixed_precision that there is.
BFLOAT16 = "bfloat16"

#: Every address of IPv4; and of IPv6, too, where there is that.
_EVERY_IPV4, _EVERY = "0.0.0.0", "::"

#: The REST port where a models directory is given and no port.
DEFAULT_REST_PORT = 8501


def _default_threads() -> int:
    return 4 * (os.cpu_count() or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """How versions are loaded and unloaded.

    Attributes:
        tags: Tags of the meta graph.
        warm_up: Whether warm-up requests are replayed before a version is AVAILABLE.
        warm_up_iterations: How often each is run.
        max_retries: Attempts after the first one that failed.
        retry_interval_s: Wait between attempts.
        load_threads: Versions that load at once, once the initial models are there.
        unload_threads: Versions that unload at once.
        unload_first: Whether an old version is unloaded before the new one is loaded, to save memory.
        batching: Whether requests are joined into batches, and how.
        session_config: Text of a ConfigProto for the sessions; "" = none. What else is said here wins.
        gpu_memory_fraction: Share of a GPU's memory to take; 0 = TensorFlow's choice.
        uses_bfloat16: Whether TensorFlow may compute with bfloat16.
        session_parallelism: Threads inside and between operations; 0 = TensorFlow's choice.
        intra_op_parallelism: Threads inside an operation; 0 = the above.
        inter_op_parallelism: Operations that run at once; 0 = the above.
    """

    tags: frozenset[str] = frozenset({"serve"})
    warm_up: bool = True
    warm_up_iterations: int = 1
    max_retries: int = 5
    retry_interval_s: float = 60.0
    load_threads: int = 1
    unload_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    unload_first: bool = False
    batching: BatchingSettings = field(default_factory=BatchingSettings)
    session_config: str = ""
    gpu_memory_fraction: float = 0.0
    uses_bfloat16: bool = False
    session_parallelism: int = 0
    intra_op_parallelism: int = 0
    inter_op_parallelism: int = 0

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            InvalidArgument: All three kinds of parallelism are given.
        """
        if min(self.session_parallelism, self.intra_op_parallelism, self.inter_op_parallelism) > 0:
            raise InvalidArgument(
                "give --tensorflow_session_parallelism or --tensorflow_intra_op_parallelism and "
                "--tensorflow_inter_op_parallelism, not all three"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What to serve, and how.

    Attributes:
        models: The models by configuration.
        models_dir: Folder of which every sub-folder with a version is a model, instead of `models`.
        host: Address to listen on.
        rest_host: The same for REST; None = `host`.
        grpc_port: Port for gRPC; 0 = the system picks one, None = off.
        rest_port: Port for REST; likewise.
        grpc_socket_path: UNIX socket for gRPC, "" = none.
        grpc_options: Options of the gRPC server.
        ports_file: Where to write the ports once both listen.
        poll_interval_s: How often base paths are looked at; 0 = once.
        rest_timeout_s: Time limit of a model run asked for over REST; None = none.
        cors: Whether REST replies allow requests from any web page.
        worker_threads: Model runs at once.
        typed_replies: Whether gRPC replies carry typed fields, as TensorFlow Serving's do, or tensor_content.
        check_method_names: Whether Predict refuses signatures with a foreign method_name.
        config_file: The models.config to read again at intervals; None = none.
        config_poll_interval_s: How often; 0 = never.
        unavailable_labels: Whether a label may point at a version that is not AVAILABLE.
        health_service: Whether grpc.health.v1 is served.
        max_request_bytes: Bytes that a request's message or body may have, over both protocols.
        ssl: TLS for gRPC, on its port and on its socket; None = none.
        rest_ssl: TLS for REST; None = none.
        api_keys: Keys of which a request must carry one; empty = none is asked for.
        access_log: Whether a line of JSON goes to stdout for every request.
        record: Which requests are recorded, and where; None = none.
        monitoring: Where metrics are shown.
        loading: How versions are loaded.
    """

    models: tuple[ModelConfig, ...] = ()
    models_dir: Path | None = None
    host: str = "127.0.0.1"
    rest_host: str | None = None
    grpc_port: int | None = 0
    rest_port: int | None = 0
    grpc_socket_path: str = ""
    grpc_options: tuple[tuple[str, str | int], ...] = ()
    ports_file: Path | None = None
    poll_interval_s: float = 1.0
    rest_timeout_s: float | None = 30.0
    cors: bool = False
    worker_threads: int = field(default_factory=_default_threads)
    typed_replies: bool = True
    check_method_names: bool = False
    config_file: Path | None = None
    config_poll_interval_s: float = 0.0
    unavailable_labels: bool = False
    health_service: bool = False
    max_request_bytes: int = MAX_REQUEST_BYTES
    ssl: SslConfig | None = None
    rest_ssl: SslConfig | None = None
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    access_log: bool = False
    record: RecordSettings | None = None
    monitoring: MonitoringConfig = field(default_factory=MonitoringConfig)
    loading: LoadSettings = field(default_factory=LoadSettings)

    def __post_init__(self) -> None:
        """Refuse what cannot be served.

        Raises:
            InvalidArgument: The polling interval is negative, or gRPC and REST are to share a port.
        """
        if self.poll_interval_s < 0:
            raise InvalidArgument(
                f"--file_system_poll_wait_seconds must be 0 (look once) or more, got {self.poll_interval_s:g}"
            )
        if not 0 < self.max_request_bytes <= MAX_REQUEST_BYTES:
            raise InvalidArgument(
                f"--max_request_bytes must be from 1 to {MAX_REQUEST_BYTES}, got {self.max_request_bytes}"
            )
        if self.grpc_port and self.grpc_port == self.rest_port:
            raise InvalidArgument(f"--port and --rest_api_port must differ, both are {self.grpc_port}")


def settings_from_flags(flags: Parsed) -> ServerSettings:
    """Turn a command line into settings; the files that it names are read.

    Raises:
        InvalidArgument: Flags contradict each other, none says what to serve, or a file is not what it should be.
        NotFound: A file or the models directory is missing.
    """
    if flags.values.get("use_alts_credentials") and flags["ssl_config_file"]:
        raise InvalidArgument("give --use_alts_credentials or --ssl_config_file, not both")
    if flags["mixed_precision"] not in ("", BFLOAT16):
        log.warning("%s auto mixed precision is not supported. Valid option: %s", flags["mixed_precision"], BFLOAT16)
    rest_port = flags["rest_api_port"]
    if rest_port is None:
        rest_port = DEFAULT_REST_PORT if flags.models_dir else 0
    if rest_port and rest_port != AUTO and rest_port == flags["port"]:
        # TensorFlow Serving goes on without REST, and so do scripts that run it.
        log.error("--rest_api_port and --port are both %d; REST is off, choose another port for it", rest_port)
        rest_port = 0
    monitoring = flags["monitoring_config_file"]
    return ServerSettings(
        models=_models(flags),
        models_dir=Path(flags.models_dir).absolute() if flags.models_dir else None,
        # As tensorflow_model_server: grpc's 0.0.0.0, and libevent's [::].
        host=flags["host"] or _EVERY_IPV4,
        rest_host=flags["host"] or _EVERY,
        grpc_port=_port(flags["port"]),
        rest_port=_port(rest_port),
        grpc_socket_path=flags["grpc_socket_path"],
        grpc_options=_channel_arguments(flags["grpc_channel_arguments"]),
        ports_file=Path(flags["ports_file"]) if flags["ports_file"] else None,
        poll_interval_s=float(flags["file_system_poll_wait_seconds"]),
        rest_timeout_s=flags["rest_api_timeout_in_ms"] / 1e3 if flags["rest_api_timeout_in_ms"] > 0 else None,
        cors=flags["rest_api_enable_cors_support"],
        worker_threads=max(flags["rest_api_num_threads"], flags["grpc_max_threads"]) or _default_threads(),
        typed_replies=not flags["enable_serialization_as_tensor_content"],
        check_method_names=flags["enable_signature_method_name_check"],
        config_file=Path(flags["model_config_file"]) if flags["model_config_file"] else None,
        config_poll_interval_s=float(max(flags["model_config_file_poll_wait_seconds"], 0)),
        unavailable_labels=flags["allow_version_labels_for_unavailable_models"],
        health_service=flags["enable_grpc_healthcheck_service"],
        max_request_bytes=flags["max_request_bytes"],
        ssl=_ssl(flags["ssl_config_file"]),
        rest_ssl=_ssl(flags["rest_ssl_config_file"]),
        api_keys=read_api_keys(Path(flags["api_key_file"])) if flags["api_key_file"] else (),
        access_log=flags["enable_access_log"],
        record=_record(flags),
        monitoring=read_monitoring(Path(monitoring)) if monitoring else MonitoringConfig(),
        loading=_loading(flags),
    )


def _record(flags: Parsed) -> RecordSettings | None:
    given = {
        name: flags[name] for name in ("record_rate", "record_max_bytes", "record_models") if flags[name] is not None
    }
    if not flags["record"]:
        if given:
            raise InvalidArgument(f"--{next(iter(given))} needs --record=FILE, the file to record to")
        return None
    return RecordSettings(
        file=Path(flags["record"]).absolute(),
        rate=given.get("record_rate", DEFAULT_RATE),
        max_bytes=given.get("record_max_bytes", MAX_BYTES),
        models=frozenset(filter(None, given.get("record_models", "").split(","))),
    )


def _ssl(path: str) -> SslConfig | None:
    return read_ssl(Path(path)) if path else None


def _loading(flags: Parsed) -> LoadSettings:
    common = LoadSettings(
        max_retries=max(flags["max_num_load_retries"], 0),
        retry_interval_s=max(flags["load_retry_interval_micros"], 0) / 1e6,
        load_threads=max(flags["num_load_threads"], 1),
        unload_threads=max(flags["num_unload_threads"], 0) or os.cpu_count() or 1,
        unload_first=flags["unload_before_load"],
    )
    if flags["platform_config_file"]:
        return _by_platform(common, read_platform(Path(flags["platform_config_file"])), flags["enable_batching"])
    return replace(
        common,
        tags=frozenset(tag for tag in flags["saved_model_tags"].split(",") if tag),
        warm_up=flags["enable_model_warmup"],
        warm_up_iterations=max(flags["num_request_iterations_for_warmup"], 1),
        batching=_batching(flags),
        session_config=_read_text_file(flags["tensorflow_session_config_file"]),
        gpu_memory_fraction=flags["per_process_gpu_memory_fraction"],
        uses_bfloat16=flags["mixed_precision"] == BFLOAT16,
        session_parallelism=flags["tensorflow_session_parallelism"],
        intra_op_parallelism=flags["tensorflow_intra_op_parallelism"],
        inter_op_parallelism=flags["tensorflow_inter_op_parallelism"],
    )


def _by_platform(common: LoadSettings, given: PlatformConfig, enable_batching: bool | None) -> LoadSettings:
    """Say how versions are loaded where a file says it; what it leaves out is at its default, whatever flags say."""
    # Joining what metadata.json allows is this server's own, so its flag alone turns that off.
    enabled = True if given.batching else (False if enable_batching is False else None)
    return replace(
        common,
        tags=given.tags or common.tags,
        warm_up=given.warm_up,
        warm_up_iterations=given.warm_up_iterations,
        batching=BatchingSettings(
            enabled=enabled, parameters=given.batching, per_model=given.per_model_batching and enabled is True
        ),
        session_config=given.session_config,
    )


def _read_text_file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8") if path else ""
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def _batching(flags: Parsed) -> BatchingSettings:
    path = flags["batching_parameters_file"]
    return BatchingSettings(
        enabled=flags["enable_batching"],
        parameters=read_batching(Path(path)) if path else None,
        per_model=flags["enable_per_model_batching_parameters"],
    )


def _models(flags: Parsed) -> tuple[ModelConfig, ...]:
    config, base_path = flags["model_config_file"], flags["model_base_path"]
    if flags.models_dir:
        given = next((name for name in ("model_config_file", "model_base_path") if flags[name]), None)
        if given:
            raise InvalidArgument(f"give MODELS_DIR ({flags.models_dir}) or --{given}, not both")
        return ()
    if config:
        return read_models(Path(config))
    if base_path:
        return check_models([ModelConfig(name=flags["model_name"], base_path=str(Path(base_path).absolute()))])
    raise InvalidArgument("nothing to serve: give MODELS_DIR, --model_config_file or --model_base_path")


def _port(value: Any) -> int | None:
    """Read a port flag's value: 0 there means off, and `auto` is what sockets call 0."""
    if value == AUTO:
        return 0
    return int(value) or None


def _channel_arguments(text: str) -> tuple[tuple[str, str | int], ...]:
    options: dict[str, str | int] = {}
    for entry in filter(None, text.split(",")):
        key, equals, value = entry.partition("=")
        if not equals:
            raise InvalidArgument(f"--grpc_channel_arguments takes key=value,key=value; got {entry!r}")
        options[key] = int(value) if value.lstrip("-").isdigit() else value
    return tuple(options.items())
