"""batching.config and monitoring.config."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfbundle_serving.apis.errors import InvalidArgument
from tfbundle_serving.config.batching import BatchingParameters, read_batching
from tfbundle_serving.config.monitoring import MonitoringConfig, read_monitoring

ROOT = Path(__file__).parents[3]


def read(folder: Path, text: str) -> BatchingParameters:
    """Read these batching parameters."""
    path = folder / "batching.config"
    path.write_text(text)
    return read_batching(path)


def test_our_own_files() -> None:
    """The files in the repository are valid and say what their comments say."""
    batching = read_batching(ROOT / "serving/batching.config")
    assert (batching.max_batch_size, batching.batch_timeout_micros, batching.max_enqueued_batches) == (64, 0, 100)
    assert read_monitoring(ROOT / "serving/monitoring.config") == MonitoringConfig(
        enable=True, path="/monitoring/prometheus/metrics"
    )


def test_everything_given(tmp_path: Path) -> None:
    """Every field arrives, wrapped ones and plain ones."""
    text = """
    max_batch_size { value: 8 } batch_timeout_micros { value: 5 } max_enqueued_batches { value: 6 }
    num_batch_threads { value: 7 } thread_pool_name { value: "p" } allowed_batch_sizes: 2 allowed_batch_sizes: 4
    pad_variable_length_inputs: true enable_large_batch_splitting { value: true }
    max_execution_batch_size { value: 4 }
    """
    assert read(tmp_path, text) == BatchingParameters(
        max_batch_size=8,
        batch_timeout_micros=5,
        max_enqueued_batches=6,
        num_batch_threads=7,
        thread_pool_name="p",
        allowed_batch_sizes=(2, 4),
        pad_variable_length_inputs=True,
        enable_large_batch_splitting=True,
        max_execution_batch_size=4,
    )


def test_nothing_given(tmp_path: Path) -> None:
    """What is left out keeps TensorFlow Serving's default."""
    batching = read(tmp_path, "")
    assert (batching.max_batch_size, batching.max_execution_batch_size, batching.max_enqueued_batches) == (
        1000,
        1000,
        10,
    )
    assert batching.num_batch_threads >= 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 4",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
        ),
        ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 8 allowed_batch_sizes: 8",
            "allowed_batch_sizes entries must be monotonically increasing",
        ),
    ],
)
def test_impossible_sizes(tmp_path: Path, text: str, message: str) -> None:
    """Sizes that contradict each other are refused."""
    with pytest.raises(InvalidArgument) as caught:
        read(tmp_path, text)
    assert caught.value.message == message


def test_monitoring_without_a_path(tmp_path: Path) -> None:
    """Without a path, TensorFlow Serving's is meant; an empty file means off."""
    path = tmp_path / "monitoring.config"
    path.write_text("prometheus_config { enable: true }")
    assert read_monitoring(path) == MonitoringConfig(enable=True, path="/monitoring/prometheus/metrics")
    path.write_text("")
    assert not read_monitoring(path).enable
