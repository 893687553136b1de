"""The text that Prometheus reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import requests
from tensorflow_serving.apis import predict_pb2

from tests.serving.server.in_process import channel_to, refusal, serving
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.model_status import State, VersionStatus
from tfbundle_serving.apis.predict import PredictRequest, encode_predict_request
from tfbundle_serving.server.loading import VersionLoader
from tfbundle_serving.server.metrics import Counter, Histogram, Metrics, UnknownModels, version_states
from tfbundle_serving.server.settings import LoadSettings


def test_a_counter() -> None:
    """One line for each combination of labels, quotes and line breaks escaped; the type line even without any."""
    counter = Counter(":a:b", "model_name", "status")
    assert list(counter.lines()) == ["# TYPE :a:b counter"]
    counter.add("m", "OK")
    counter.add("m", "OK", amount=2)
    counter.add('a"b\\\n', "OK")
    assert list(counter.lines())[1:] == [
        ':a:b{model_name="m",status="OK"} 3',
        ':a:b{model_name="a\\"b\\\\\\n",status="OK"} 1',
    ]
    bare = Counter(":c")
    bare.add()
    assert list(bare.lines())[1:] == [":c{} 1"]


def test_a_histogram() -> None:
    """Buckets are cumulative and end with +Inf; a value that equals a limit falls into the next one."""
    histogram = Histogram(":h", "m")
    for value in (5.0, 10.0, 1e12):
        histogram.observe(value, "x")
    lines = list(histogram.lines())
    assert lines[0] == "# TYPE :h histogram"
    assert lines[1:4] == [
        ':h_bucket{m="x",le="10"} 1',
        ':h_bucket{m="x",le="18"} 2',
        ':h_bucket{m="x",le="32.4"} 2',
    ]
    assert lines[-3:] == [':h_bucket{m="x",le="+Inf"} 3', ':h_sum{m="x"} 1e+12', ':h_count{m="x"} 3']
    assert len(lines) == 1 + 34 + 2


#: The names and types of TensorFlow Serving's own metrics (contract of util/prometheus_exporter.cc).
SERVING = {
    "request_count": "counter",
    "request_latency": "histogram",
    "runtime_latency": "histogram",
    "request_example_counts": "histogram",
    "request_example_count_total": "counter",
    "model_warmup_latency": "histogram",
    "model_warmup_records_read": "counter",
    "request_log_count": "counter",
    "mlmd_map": "gauge",
    "batching_session:queuing_latency": "histogram",
    "batching_session:wrapped_run_count": "counter",
    "batching_session:padding_size": "histogram",
    "batching_session:input_batch_size": "histogram",
    "batching_session:processed_batch_size": "histogram",
}


def test_all_names_are_shown_from_the_start() -> None:
    """A scrape before the first request already has the type lines."""
    lines = Metrics().show().decode().splitlines()
    for name, kind in SERVING.items():
        assert f"# TYPE :tensorflow:serving:{name} {kind}" in lines
    assert "# TYPE :tensorflow:cc:saved_model:load_attempt_count counter" in lines


def test_unknown_models_are_bounded() -> None:
    """Who invents names makes the page only so much longer; names that are kept stay."""
    names = UnknownModels(most=2, longest=3)
    assert [names.admit(name) for name in ("a", "long", "b", "c", "a")] == ["a", "", "b", "", "a"]
    assert UnknownModels().admit("\udcff") == "?"


def test_unknown_models_are_counted_over_both_protocols(tiny_models: Path) -> None:
    """Under the name that was asked for, whatever else was wrong with the request."""
    empty = encode_predict_request(PredictRequest(ModelSpec("nope"), {}))
    broken = predict_pb2.PredictRequest(model_spec={"name": "nope"}, inputs={"x": {"dtype": 1, "tensor_content": b"1"}})
    with serving(tiny_models) as server, channel_to(server) as channel:
        assert refusal(channel, empty)[0] == "NOT_FOUND"
        assert refusal(channel, broken.SerializeToString())[0] == "NOT_FOUND"
        url = f"http://127.0.0.1:{server.rest_port}/v1/models/nope:predict"
        assert requests.post(url, json={"instances": [1]}, timeout=30).status_code == 404
        assert ':tensorflow:serving:request_count{model_name="nope",status="NOT_FOUND"} 3' in (
            server.metrics.show().decode().splitlines()
        )


def test_the_first_value() -> None:
    """A reload reports a counter by its slashed name: the first combination of labels; 0 where there is no counter."""
    metrics = Metrics()
    assert metrics.first_value("/tensorflow/serving/request_count") == 0
    metrics.requests.add("b", "OK")
    metrics.requests.add("a", "OK", amount=3)
    assert metrics.first_value("/tensorflow/serving/request_count") == 3
    assert metrics.first_value("/tensorflow/serving/request_latency") == 0
    assert metrics.first_value("/no/such") == 0


def test_runs_are_counted(tiny_models: Path) -> None:
    """Under TensorFlow's own names, whoever asked for the run."""
    metrics = Metrics()
    servable = VersionLoader(LoadSettings(), metrics)("m", 1, tiny_models / "half_plus_two/123")
    for _ in range(3):
        servable.run("serving_default", {"x": np.ones(1, np.float32)}, ("y",))
    servable.close()
    lines = metrics.show().decode().splitlines()
    assert ":tensorflow:core:graph_runs{} 3" in lines
    assert ":tensorflow:core:direct_session_runs{} 3" in lines
    assert metrics.first_value("/tensorflow/core/graph_run_time_usecs") > 0


def test_the_states_of_versions_are_shown(tiny_models: Path) -> None:
    """Each version that is served is a 1 under its state; TensorFlow Serving shows none."""
    with serving(tiny_models) as server:
        lines = server.metrics.show().decode().splitlines()
    at = lines.index("# TYPE :tfbundle:serving:versions gauge")
    assert lines[at + 1] == ':tfbundle:serving:versions{model_name="half_plus_two",version="123",state="AVAILABLE"} 1'


def test_versions_that_ended_in_peace_are_not_shown() -> None:
    """END is shown of versions that could not be loaded alone."""
    models = {
        "m": [VersionStatus(3, State.END, 5, "broken"), VersionStatus(2, State.AVAILABLE), VersionStatus(1, State.END)]
    }
    assert version_states(models) == {("m", "3", "END"): 1, ("m", "2", "AVAILABLE"): 1}
