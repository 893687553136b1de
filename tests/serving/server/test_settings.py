"""From flags to settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfbundle_serving.apis.errors import InvalidArgument, NotFound
from tfbundle_serving.config.models import ModelConfig
from tfbundle_serving.server.flags import parse
from tfbundle_serving.server.servable_session import session_config
from tfbundle_serving.server.settings import ServerSettings, settings_from_flags


def settings(*arguments: str) -> ServerSettings:
    """Read a command line."""
    return settings_from_flags(parse(arguments))


def test_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model by flags; a relative base path is taken from here; REST is off unless asked for."""
    monkeypatch.chdir(tmp_path)
    made = settings("--model_name=m", "--model_base_path=models/m")
    assert made.models == (ModelConfig(name="m", base_path=str(tmp_path / "models/m")),)
    assert (made.grpc_port, made.rest_port) == (8500, None)


def test_ports(tmp_path: Path) -> None:
    """With a models directory REST is on; 0 is off; auto is what sockets call 0."""
    assert settings(str(tmp_path)).rest_port == 8501
    assert settings(str(tmp_path), "--rest_api_port=0", "--port=0").rest_port is None
    auto = settings(str(tmp_path), "--rest_api_port=auto", "--port=auto")
    assert (auto.grpc_port, auto.rest_port) == (0, 0)


def test_hosts() -> None:
    """This machine alone, what is asked for, or as tensorflow_model_server: every address, of IPv6 too for REST."""
    one = ["--model_base_path=/m"]
    here, asked = settings(*one), settings(*one, "--host=10.0.0.1")
    assert (here.host, here.rest_host) == ("127.0.0.1", "127.0.0.1")
    assert (asked.host, asked.rest_host) == ("10.0.0.1", "10.0.0.1")
    there = settings_from_flags(parse(one, as_model_server=True))
    assert (there.host, there.rest_host) == ("0.0.0.0", "::")


def test_units() -> None:
    """Milliseconds and microseconds become seconds; 0 and less mean no limit and no wait."""
    base = "--model_base_path=/m"
    made = settings(base, "--rest_api_timeout_in_ms=1500", "--load_retry_interval_micros=2500000")
    assert (made.rest_timeout_s, made.loading.retry_interval_s) == (1.5, 2.5)
    made = settings(base, "--rest_api_timeout_in_ms=0", "--load_retry_interval_micros=-1")
    assert (made.rest_timeout_s, made.loading.retry_interval_s) == (None, 0.0)


def test_channel_arguments() -> None:
    """Whole numbers become numbers, everything else stays text."""
    made = settings("--model_base_path=/m", "--grpc_channel_arguments=grpc.max_concurrent_streams=7,a=b=c")
    assert made.grpc_options == (("grpc.max_concurrent_streams", 7), ("a", "b=c"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "nothing to serve"),
        (["models", "--model_base_path=/m"], "--model_base_path"),
        (["models", "--model_config_file=/c"], "--model_config_file"),
        (["--model_base_path=/m", "--use_alts_credentials", "--ssl_config_file=/s"], "not both"),
        (["--model_base_path=/m", "--file_system_poll_wait_seconds=-1"], "--file_system_poll_wait_seconds"),
        (["--model_base_path=/m", "--grpc_channel_arguments=a"], "--grpc_channel_arguments"),
        (
            [
                "--model_base_path=/m",
                "--tensorflow_session_parallelism=1",
                "--tensorflow_intra_op_parallelism=1",
                "--tensorflow_inter_op_parallelism=1",
            ],
            "not all three",
        ),
    ],
)
def test_contradictions(arguments: list[str], named: str) -> None:
    """Settings that cannot be meant are refused, naming the flag."""
    with pytest.raises(InvalidArgument, match=named):
        settings(*arguments)


def test_one_port_for_both(caplog: pytest.LogCaptureFixture) -> None:
    """As in TensorFlow Serving REST is off then, and the log says why; in a program that is an error."""
    made = settings("--model_base_path=/m", "--port=9", "--rest_api_port=9")
    assert (made.grpc_port, made.rest_port) == (9, None)
    assert "REST is off" in caplog.text
    with pytest.raises(InvalidArgument, match="must differ"):
        ServerSettings(grpc_port=9, rest_port=9)


def test_a_polled_config(tmp_path: Path) -> None:
    """The file is kept with its interval; an empty one is a server without models."""
    config = tmp_path / "models.config"
    config.touch()
    made = settings(f"--model_config_file={config}", "--model_config_file_poll_wait_seconds=7")
    assert (made.models, made.config_file, made.config_poll_interval_s) == ((), config, 7.0)


def test_the_session(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """File and flags make one ConfigProto, in which flags win; an unknown precision is a warning."""
    text = tmp_path / "session.config"
    text.write_text("intra_op_parallelism_threads: 3 inter_op_parallelism_threads: 4 allow_soft_placement: true")
    base = ("--model_base_path=/m", f"--tensorflow_session_config_file={text}")
    made = settings(*base, "--tensorflow_inter_op_parallelism=2", "--mixed_precision=bfloat16")
    config = session_config(made.loading)
    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (3, 2)
    assert config.allow_soft_placement
    assert config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 == 1
    config = session_config(settings("--model_base_path=/m", "--per_process_gpu_memory_fraction=0.25").loading)
    assert config.gpu_options.per_process_gpu_memory_fraction == 0.25
    text.write_text("no_such_field: 1")
    with pytest.raises(InvalidArgument, match="no_such_field"):
        session_config(settings(*base).loading)
    settings("--model_base_path=/m", "--mixed_precision=float8")
    assert "float8 auto mixed precision is not supported" in caplog.text
    with pytest.raises(NotFound, match="absent"):
        settings("--model_base_path=/m", "--tensorflow_session_config_file=/absent")


def test_a_platform_config(tmp_path: Path) -> None:
    """The file counts in place of the flags for sessions, batching, tags and warm-up; others are left alone."""
    path = tmp_path / "platform.config"
    adapter = "[type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig]"
    legacy = """
        session_config { inter_op_parallelism_threads: 5 } saved_model_tags: "gpu" enable_model_warmup: true
        batching_parameters { max_batch_size { value: 8 } }
    """
    path.write_text(
        'platform_configs { key: "tensorflow" value { source_adapter_config {'
        f" {adapter} {{ legacy_config {{ {legacy} }} }} }} }} }}"
    )
    base = ("--model_base_path=/m", f"--platform_config_file={path}", "--max_num_load_retries=2")
    ignored = ("--batching_parameters_file=/absent", "--saved_model_tags=x", "--tensorflow_intra_op_parallelism=9")
    loading = settings(*base, *ignored).loading
    config = session_config(loading)
    assert (config.inter_op_parallelism_threads, config.intra_op_parallelism_threads) == (5, 0)
    assert (set(loading.tags), loading.warm_up, loading.max_retries) == ({"gpu"}, True, 2)
    assert (loading.batching.enabled, loading.batching.per_model) == (True, False)
    assert loading.batching.parameters is not None
    assert loading.batching.parameters.max_batch_size == 8
    path.write_text('platform_configs { key: "tensorflow" value {} }')
    loading = settings(*base, "--enable_batching", "--saved_model_tags=x").loading
    assert (set(loading.tags), loading.warm_up, loading.batching.enabled) == ({"serve"}, False, None)
    assert settings(*base, "--enable_batching=false").loading.batching.enabled is False
