"""A canary verdict over ten thousand recorded requests to the digits CNN, server and command on one machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.conftest import Report
from tests.servers import running_server
from tfbundle.demo.training import build_model, load_digits
from tfbundle_client import CanaryReport, Client, check_canary
from tfbundle_exporter import export_model
from tfbundle_serving.apis.prediction_log import RecordedRequest, encode_prediction_log
from tfbundle_serving.apis.tfrecord import frame

pytestmark = pytest.mark.benchmark

REQUESTS = 10_000
#: Weights of the last layer that are moved, by so many of their standard deviations.
_MOVED, _BY = 5, 8.0


def _train(base: Path, images: Any, labels: Any, examples: Any) -> None:
    """Export version 1, version 2, which is trained on, and version 3, which is that with a few weights moved."""
    import keras

    keras.utils.set_random_seed(7)
    model = build_model()
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    for _ in range(2):
        model.fit(images, labels, batch_size=32, epochs=8, verbose=0)
        export_model(model, base, example_inputs=examples)
    weights, bias = model.layers[-1].get_weights()
    random = np.random.default_rng(0)
    places = random.choice(weights.size, _MOVED, replace=False)
    weights.flat[places] += random.choice([-1, 1], _MOVED) * _BY * weights.std()
    model.layers[-1].set_weights([weights, bias])
    export_model(model, base, example_inputs=examples)


def test_a_verdict_over_recorded_requests(tmp_path: Path, report: Report) -> None:
    """The version that was trained on is promoted, the broken one is not, each within a minute."""
    images, labels, test_images, test_labels = load_digits()
    base = tmp_path / "models" / "digits"
    _train(base, images, labels, test_images)
    places = np.random.default_rng(0).integers(0, len(test_images), REQUESTS)
    logs = (
        encode_prediction_log(
            RecordedRequest(signature="serving_default", inputs={"image": test_images[place : place + 1]})
        )
        for place in places
    )
    file = tmp_path / "recorded"
    file.write_bytes(b"".join(bytes(chunk) for chunk in frame([[log] for log in logs])))
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "digits" base_path: "{base}" model_platform: "tensorflow" '
        "model_version_policy { all {} } } }"
    )
    with running_server(f"--model_config_file={config}", fresh=True) as server, Client(server.grpc_url) as client:
        client.wait_until_available("digits", version=3, timeout=60)

        def verdict(version: int, truth: Any = None) -> tuple[CanaryReport, float]:
            begun = time.perf_counter()
            found = check_canary(client, "digits", version, stable_version=1, inputs=file, base_path=base, labels=truth)
            return found, time.perf_counter() - begun

        better, better_s = verdict(2)
        better_by_truth, truth_s = verdict(2, test_labels[places])
        broken, broken_s = verdict(3)
    for found in (better, better_by_truth, broken):
        print(f"\nversion {found.version}: {found.verdict.word}")
        for finding in found.verdict.findings:
            print(f"  {finding.status:8} {finding.rule:12} {finding.sentence}")
    assert (better.rows, better.figures.requests) == (REQUESTS, REQUESTS)
    assert (better.verdict.word, better_by_truth.verdict.word, broken.verdict.word) == ("promote", "promote", "don't")
    report.time("canary verdict, 10,000 recorded requests, digits CNN", better_s, at_most=60)
    report.time("canary verdict, the same with true classes", truth_s, at_most=60)
    report.time("canary verdict, the same, broken version", broken_s, at_most=60)
