"""Recurrent layers of old that tf_keras would build otherwise, or not at all, and what it is to build instead.

CuDNNLSTM and CuDNNGRU would become an operation that runs on a GPU only. They are plain layers with a sigmoid recurrent
activation, whose GRU applies the reset gate after the matrix product. A GRU from before Keras 2.1.3 does not say when
it does so, since it always was before; today's default is after. Stored weights of a cuDNN layer are converted by
tf_keras itself, as long as the layer that they meet is its own LSTM or GRU.

Source: the documentation of cuDNN's RNN modes, and of CuDNNLSTM, CuDNNGRU and GRU in Keras 2.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .configuration import walk

#: Class name to the plain layer and what its configuration lacks.
_STAND_INS: dict[str, tuple[str, dict[str, Any]]] = {
    "CuDNNLSTM": ("LSTM", {"recurrent_activation": "sigmoid"}),
    "CuDNNGRU": ("GRU", {"recurrent_activation": "sigmoid", "reset_after": True}),
    "GRU": ("GRU", {"reset_after": False}),
}


def cudnn_layers(architecture: Mapping[str, Any] | None) -> list[str]:
    """Name the cuDNN layers in a configuration."""
    return [name for node, name in walk(architecture) if node["class_name"] in ("CuDNNLSTM", "CuDNNGRU")]


def stand_ins(tf_keras: Any, architecture: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give what is to be built instead for the old layers of a configuration, as custom objects for tf_keras."""
    found = {}
    for node, _ in walk(architecture):
        name, config = node["class_name"], node.get("config")
        if name in _STAND_INS and isinstance(config, Mapping) and not _STAND_INS[name][1].keys() <= config.keys():
            plain, lacking = _STAND_INS[name]
            found[name] = _stand_in(name, getattr(tf_keras.layers, plain), lacking)
    return found


def _stand_in(name: str, plain: type, lacking: Mapping[str, Any]) -> type:
    def from_config(config: Mapping[str, Any]) -> Any:
        return plain(**{**lacking, **config})

    return type(name, (), {"from_config": staticmethod(from_config)})
