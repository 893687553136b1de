"""The flags of `tfbundle serve`."""

from __future__ import annotations

import pytest

from tfbundle_serving.server.flags import FLAGS, FlagError, help_text, parse


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
        (["--port=70000"], ["65535", "70000"]),
        (["--enable_model_warmup=yes"], ["--enable_model_warmup", "'yes'"]),
        (["--enable_model_warmup="], ["--enable_model_warmup"]),
        (["a", "b"], ["a", "b"]),
        (["--enable_batching"], ["--enable_batching", "not support"]),
    ],
)
def test_misuse(arguments: list[str], named: list[str]) -> None:
    """What is wrong is named, with what was probably meant."""
    with pytest.raises(FlagError) as caught:
        parse(arguments)
    for name in named:
        assert name in str(caught.value)


def test_a_flag_for_later_is_accepted_at_its_default() -> None:
    """A script that only spells out a default works."""
    parse(["--enable_batching=false", "--batching_parameters_file=", "--enable_profiler"])


def test_unknown_flags_may_be_ignored() -> None:
    """As tensorflow_model_server does, when asked to."""
    flags = parse(["--no_such_flag=1", "--ignore_unknown_flags"])
    assert flags.ignored == ("--no_such_flag=1",)


def test_help_names_every_flag() -> None:
    """The help is made of the same table."""
    text = help_text()
    assert all(f"--{flag.name}=" in text for flag in FLAGS)
