#!/bin/sh
# What tensorflow/serving's entry point does: the image's own ports first, the caller's flags after them, the last one
# of a kind wins. With exec, so that the server is the process that receives `docker stop`.
set -eu
if [ "$#" -eq 0 ]; then
    set -- /models
fi
exec tfbundle serve --host=0.0.0.0 --port=8500 --rest_api_port=8501 "$@"
