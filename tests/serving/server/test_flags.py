"""The flags of `tfbundle serve`."""

from __future__ import annotations

import pytest

from tfbundle_serving.server.flags import FLAGS, UNUSED, FlagError, help_text, parse


def test_defaults_are_tensorflow_servings() -> None:
    """Without flags the values are tensorflow_model_server's."""
    flags = parse([])
    assert flags["port"] == 8500
    assert flags["model_name"] == "default"
    assert flags["file_system_poll_wait_seconds"] == 1
    assert flags["rest_api_timeout_in_ms"] == 30000
    assert flags["max_num_load_retries"] == 5
    assert flags["load_retry_interval_micros"] == 60_000_000
    assert flags["enable_model_warmup"] is True
    assert flags["saved_model_tags"] == "serve"


def test_values_and_the_last_one_wins() -> None:
    """--flag=value; of two the last one counts; the models directory may stand anywhere."""
    flags = parse(["--port=1", "models", "--port=2", "--rest_api_port=auto", "--model_name=a=b"])
    assert (flags["port"], flags["rest_api_port"], flags["model_name"]) == (2, "auto", "a=b")
    assert flags.models_dir == "models"


@pytest.mark.parametrize(
    ("argument", "value"),
    [("", True), ("=true", True), ("=1", True), ("=false", False), ("=0", False)],
)
def test_booleans(argument: str, value: bool) -> None:
    """A boolean is bare or has one of four values; a bare one leaves the next argument alone."""
    flags = parse([f"--rest_api_enable_cors_support{argument}", "models"])
    assert flags["rest_api_enable_cors_support"] is value
    assert flags.models_dir == "models"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--prot=1"], ["--prot", "--port"]),
        (["--rest_port=1"], ["--rest_port", "--rest_api_port"]),
        (["-port=1"], ["-port", "--port"]),
        (["--zzzzzz"], ["--zzzzzz", "--help"]),
        (["--port"], ["--port=PORT"]),
        (["--port=x"], ["--port", "'x'"]),
        (["--max_num_load_retries=1_000"], ["'1_000'"]),
        (["--port=70000"], ["65535", "70000"]),
        (["--enable_model_warmup=yes"], ["--enable_model_warmup", "'yes'"]),
        (["--enable_model_warmup="], ["--enable_model_warmup"]),
        (["a", "b"], ["a", "b"]),
        (["--per_process_gpu_memory_fraction=half"], ["--per_process_gpu_memory_fraction", "'half'"]),
        (["--num_tflite_pools=many"], ["--num_tflite_pools", "'many'"]),
    ],
)
def test_misuse(arguments: list[str], named: list[str]) -> None:
    """What is wrong is named, with what was probably meant."""
    with pytest.raises(FlagError) as caught:
        parse(arguments)
    for name in named:
        assert name in str(caught.value)


#: Every flag of tensorflow_model_server 2.20 with a value that it takes (tensorflow_serving/model_servers/main.cc).
TENSORFLOW_SERVINGS = """
port=1 grpc_socket_path=/s rest_api_port=2 rest_api_num_threads=8 rest_api_timeout_in_ms=9 model_name=m
rest_api_enable_cors_support=false enable_batching=true allow_version_labels_for_unavailable_models=true
batching_parameters_file=/b model_config_file=/c model_config_file_poll_wait_seconds=3 model_base_path=/m
num_load_threads=1 num_unload_threads=1 max_num_load_retries=1 load_retry_interval_micros=1
file_system_poll_wait_seconds=1 flush_filesystem_caches=true tensorflow_session_parallelism=1
tensorflow_intra_op_parallelism=1 tensorflow_inter_op_parallelism=1 use_alts_credentials=false ssl_config_file=/s
platform_config_file=/p per_process_gpu_memory_fraction=0.5 saved_model_tags=serve grpc_channel_arguments=a=1
grpc_max_threads=4 enable_model_warmup=true num_request_iterations_for_warmup=1 version=true
monitoring_config_file=/m remove_unused_fields_from_bundle_metagraph=false prefer_tflite_model=true
num_tflite_pools=1 num_tflite_interpreters_per_pool=1 enable_signature_method_name_check=true
xla_cpu_compilation_enabled=true xla_gpu_compilation_enabled=true enable_profiler=true
thread_pool_factory_config_file=/t mixed_precision=bfloat16 skip_initialize_tpu=true
enable_grpc_healthcheck_service=true enable_serialization_as_tensor_content=true tensorflow_session_config_file=/x
enable_per_model_batching_parameters=true
"""


def test_every_flag_of_tensorflow_serving_is_read() -> None:
    """Each of them with a value of its kind; both names of the program agree."""
    arguments = [f"--{each}" for each in TENSORFLOW_SERVINGS.split()]
    flags = parse(arguments)
    assert flags.ignored == ()
    assert (flags["per_process_gpu_memory_fraction"], flags["mixed_precision"]) == (0.5, "bfloat16")
    assert flags["model_config_file_poll_wait_seconds"] == 3
    assert parse(arguments, as_model_server=True).values == flags.values | {
        "host": None,
        "ignore_unknown_flags": True,
    }


def test_a_flag_without_meaning_here_is_said_once() -> None:
    """Given twice the last one counts; asked for what happens anyway nothing is said."""
    flags = parse(["--enable_profiler", "--enable_profiler=1", "--use_alts_credentials", "--skip_initialize_tpu=0"])
    assert [notice.split()[0] for notice in flags.notices] == [
        "--enable_profiler",
        "--use_alts_credentials",
        "--skip_initialize_tpu",
    ]
    quiet = [
        "--enable_profiler",
        "--enable_profiler=false",
        "--thread_pool_factory_config_file=",
        "--skip_initialize_tpu",
    ]
    assert parse(quiet).notices == ()


def test_as_tensorflow_model_server() -> None:
    """What is unknown is let pass, a bare word too; the server listens on every address unless told otherwise."""
    arguments = ["models", "--no_such=1", "-v", "--port=7", "--port", "--model_name", "--help"]
    flags = parse(arguments, as_model_server=True)
    assert flags.ignored == ("models", "--no_such=1", "-v", "--port", "--model_name", "--help")
    assert (flags.models_dir, flags["host"], flags["port"]) == ("", None, 7)
    assert parse(["--host=::1"], as_model_server=True)["host"] == "::1"
    with pytest.raises(FlagError, match="'x'"):
        parse(["--port=x"], as_model_server=True)


def test_unknown_flags_may_be_ignored() -> None:
    """As tensorflow_model_server does, when asked to."""
    flags = parse(["--no_such_flag=1", "--ignore_unknown_flags"])
    assert flags.ignored == ("--no_such_flag=1",)


def test_help_names_every_flag() -> None:
    """The help is made of the same table."""
    text = help_text()
    names = [*(flag.name for flag in FLAGS), *(flag.name for flag in UNUSED)]
    assert all(f"--{name}=" in text for name in names)
