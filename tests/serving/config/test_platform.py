"""platform.config: TensorFlow Serving's second way to say how versions are loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfbundle_serving.apis.errors import InvalidArgument, NotFound
from tfbundle_serving.config.platform import PlatformConfig, cut_messages, read_platform

HEAD = 'platform_configs {\n  key: "tensorflow"\n  value { source_adapter_config {\n    '
ADAPTER = "[type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig]"


def read(tmp_path: Path, legacy_config: str) -> PlatformConfig:
    """Read a file with this SessionBundleConfig."""
    path = tmp_path / "platform.config"
    path.write_text(f"{HEAD}{ADAPTER} {{ legacy_config {{\n{legacy_config}\n}} }} }} }} }}\n")
    return read_platform(path)


def test_everything_given(tmp_path: Path) -> None:
    """Session, batching, warm-up and tags arrive; the session's text stays as it is."""
    given = read(
        tmp_path,
        """
        # a } in a comment, and session_config
        session_target: "} session_config {"
        session_config: {
          gpu_options { per_process_gpu_memory_fraction: 0.4 visible_device_list: "}" }  # }
          intra_op_parallelism_threads: 3
        }
        batching_parameters { max_batch_size { value: 8 } allowed_batch_sizes: [4, 8] }
        enable_per_model_batching_params: true
        saved_model_tags: "serve" saved_model_tags: "gpu"
        enable_model_warmup: true
        model_warmup_options { num_request_iterations { value: 3 } }
        """,
    )
    assert "per_process_gpu_memory_fraction: 0.4" in given.session_config
    assert given.session_config.strip().endswith("intra_op_parallelism_threads: 3")
    assert given.batching is not None
    assert (given.batching.max_batch_size, given.batching.allowed_batch_sizes) == (8, (4, 8))
    assert given.tags == {"serve", "gpu"}
    assert (given.per_model_batching, given.warm_up, given.warm_up_iterations) == (True, True, 3)


def test_nothing_given(tmp_path: Path) -> None:
    """What the file leaves out is off, as in protobuf, whatever the flags' defaults are."""
    assert read(tmp_path, "") == PlatformConfig()
    path = tmp_path / "bare.config"
    path.write_text('platform_configs { key: "tensorflow" value {} }')
    assert read_platform(path) == PlatformConfig()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'no config for the platform "tensorflow"'),
        ('platform_configs { key: "caffe" value {} }', 'no config for the platform "tensorflow"'),
        (f"{HEAD}[type.googleapis.com/tensorflow.serving.SSLConfig] {{}} }} }} }}", "SSLConfig"),
        (f"{HEAD}[type.googleapis.com/no.Such] {{}} }} }} }}", "Invalid protobuf file: '.*no.Such not found"),
        (f"{HEAD}{ADAPTER} {{ legacy_config {{ session_config {{}}\n nope: 1 }} }} }} }} }}", "5:2 .*nope"),
        (
            f"{HEAD}{ADAPTER} {{ legacy_config {{ batching_parameters {{ allowed_batch_sizes: 3 }} }} }} }} }} }}",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 3; expected 1000",
        ),
    ],
)
def test_refused(tmp_path: Path, text: str, said: str) -> None:
    """What is no platform config for TensorFlow is refused, with line and column where there is a mistake."""
    path = tmp_path / "platform.config"
    path.write_text(text)
    with pytest.raises(InvalidArgument, match=said):
        read_platform(path)


def test_a_missing_file() -> None:
    """A file that is not there is named."""
    with pytest.raises(NotFound, match="absent"):
        read_platform(Path("/absent"))


def test_cutting_keeps_places() -> None:
    """What is cut leaves blanks, both kinds of brackets count, and quoted ones do not."""
    text = "a { f < x { y: '}>' }\n > b: 1 f {} }"
    rest, cut = cut_messages(text, "f")
    assert cut == [" x { y: '}>' }\n ", ""]
    assert rest.split() == ["a", "{", "b:", "1", "}"]
    assert (len(rest), rest.index("\n"), rest.index("b")) == (len(text), text.index("\n"), text.index("b"))
