#!/bin/bash
# Healthy means: every model that models.config names (or $MODEL_NAME, where there is no config) has a version AVAILABLE.
# Needs bash and sed and nothing else, since tensorflow/serving's image has no curl: bash itself opens the connection.
set -u
config=${MODEL_CONFIG_FILE:-/config/models.config}
port=${REST_API_PORT:-8501}

if [ -r "$config" ]; then
    models=$(sed -n 's/^[^#]*\bname *: *"\([^"]*\)".*/\1/p' "$config")
else
    models=${MODEL_NAME:-model}
fi

for model in $models; do
    exec 3<>"/dev/tcp/127.0.0.1/$port" || exit 1
    printf 'GET /v1/models/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$model" >&3
    reply=$(cat <&3)
    exec 3>&-
    case $reply in
        *'"AVAILABLE"'*) ;;
        *) echo "no version of $model is AVAILABLE"; exit 1 ;;
    esac
done
