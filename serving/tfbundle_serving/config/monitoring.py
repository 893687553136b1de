"""monitoring.config: whether and where the server shows its metrics.

    prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }

Source: tensorflow_serving/config/monitoring_config.proto; the path from tensorflow_serving/util/prometheus_exporter.cc.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .schema import read_text

#: Where metrics are shown unless the file says otherwise.
DEFAULT_PATH = "/monitoring/prometheus/metrics"


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringConfig:
    """Whether Prometheus may scrape the server.

    Attributes:
        enable: Whether metrics are shown on the REST port.
        path: Under which path.
    """

    enable: bool = False
    path: str = DEFAULT_PATH


def read_monitoring(path: Path) -> MonitoringConfig:
    """Read a monitoring.config.

    Raises:
        NotFound: The file is missing.
        InvalidArgument: It holds no MonitoringConfig.
    """
    parsed: Any = read_text(path, "MonitoringConfig")
    prometheus = parsed.prometheus_config
    return MonitoringConfig(enable=prometheus.enable, path=prometheus.path or DEFAULT_PATH)
