# bash probe.sh every|any MODEL ...: exit 0 where every (any) of these models has a version AVAILABLE.
# tensorflow/serving's image has bash and no curl, and answers 200 for a model of which every version failed: the state
# has to be read.
which=$1
shift
for model in "$@"; do
    exec 3<>/dev/tcp/127.0.0.1/8501 || exit 1
    printf 'GET /v1/models/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$model" >&3
    reply=$(cat <&3)
    exec 3>&-
    if [[ $reply == *'"AVAILABLE"'* ]]; then
        [ "$which" = every ] || exit 0
    else
        echo "no version of $model is AVAILABLE"
        [ "$which" = any ] || exit 1
    fi
done
[ "$which" = every ]
