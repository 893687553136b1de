#!/bin/bash
# Healthy means: every model that models.config names has a version AVAILABLE; without a config, the model $MODEL_NAME;
# without either, some model that the embedded server lists.
# Needs bash, sed and tr and nothing else, since tensorflow/serving's image has no curl: bash itself opens the connection.
set -u
config=${MODEL_CONFIG_FILE:-/config/models.config}
port=${REST_API_PORT:-8501}

available() {
    exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
    printf 'GET /v1/models%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$1" >&3
    reply=$(cat <&3)
    exec 3>&-
    [[ $reply == *'"AVAILABLE"'* ]]
}

if [ -e "$config" ]; then
    # One model a line: comments away, then a new line before each brace; names may stand in either kind of quotes.
    models=$(sed 's/#.*//' "$config" | tr '{' '\n' | tr "'" '"' | sed -n 's/^\(.*[^_[:alnum:]]\)\{0,1\}name *: *"\([^"]*\)".*/\2/p')
    if [ -z "$models" ]; then
        echo "$config names no model"
        exit 1
    fi
else
    models=${MODEL_NAME:-}
    [ -n "$models" ] || { available ""; exit; }
fi

for model in $models; do
    available "/$model" || { echo "no version of $model is AVAILABLE"; exit 1; }
done
