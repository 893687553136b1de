"""The ConfigProto of a version's session, from the text in a file and from flags; flags win.

Source: tensorflow_serving/model_servers/server.cc (BuildAndStart).
"""

from __future__ import annotations

from typing import Any

from google.protobuf import text_format
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2

from tfbundle_serving.apis.errors import InvalidArgument

from .settings import LoadSettings


def session_config(settings: LoadSettings) -> Any:
    """Make the ConfigProto of every session.

    Raises:
        InvalidArgument: The text is no ConfigProto.
    """
    try:
        config = text_format.Parse(settings.session_config, config_pb2.ConfigProto())
    except text_format.ParseError as error:
        raise InvalidArgument(f"the sessions' configuration is no ConfigProto: {error}") from error
    within = settings.intra_op_parallelism or settings.session_parallelism
    between = settings.inter_op_parallelism or settings.session_parallelism
    if within:
        config.intra_op_parallelism_threads = within
    if between:
        config.inter_op_parallelism_threads = between
    if settings.gpu_memory_fraction:
        config.gpu_options.per_process_gpu_memory_fraction = settings.gpu_memory_fraction
    if settings.uses_bfloat16:
        rewrites = config.graph_options.rewrite_options
        rewrites.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
    return config
