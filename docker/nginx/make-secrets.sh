#!/bin/sh
# Writes what the profile `secure` needs into a folder, secrets/ beside this script unless another is named:
#
#   nginx/make-secrets.sh [FOLDER] [HOST]...
#
#   server.pem  server.key   a self-signed certificate for HOST (localhost and 127.0.0.1 unless told), to try things out
#   keys.map                 one key of a user and one of an admin
#
# What is there already stays. For others than yourself put a certificate from your authority in their place.
set -eu
here=$(dirname "$0")
folder=${1:-$here/secrets}
[ "$#" -eq 0 ] || shift
[ "$#" -gt 0 ] || set -- localhost 127.0.0.1
umask 077
mkdir -p "$folder"

if [ -e "$folder/server.key" ] && [ -e "$folder/server.pem" ]; then
    echo "kept $folder/server.pem and server.key" >&2
else
    names=""
    for host in "$@"; do
        case $host in
            *[!0-9.]*) case $host in *:*) kind=IP ;; *) kind=DNS ;; esac ;;
            *) kind=IP ;;
        esac
        names="$names${names:+,}$kind:$host"
    done
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 365 -subj "/CN=$1" \
        -addext "subjectAltName=$names" -keyout "$folder/server.key" -out "$folder/server.pem" 2>/dev/null
    echo "wrote $folder/server.pem and server.key, self-signed, for $* and a year" >&2
fi

if [ -e "$folder/keys.map" ]; then
    echo "kept $folder/keys.map" >&2
else
    {
        echo "# KEY ROLE:NAME; one a line. See keys.map.example."
        echo "$(openssl rand -hex 32) user:first;"
        echo "$(openssl rand -hex 32) admin:first;"
    } >"$folder/keys.map"
    echo "wrote $folder/keys.map: one key of a user, one of an admin" >&2
fi

# nginx runs as whoever owns the private key, so that nobody else need read it; and never as root.
[ "$(id -u)" -ne 0 ] || chown -R 10001:10001 "$folder"
owner=$(ls -ldn "$folder/server.key" | awk '{print $3 ":" $4}')
echo "nginx has to run as their owner; in .env: PROXY_USER=$owner" >&2
