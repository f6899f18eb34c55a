#!/bin/sh
# Writes the secrets that compose.yaml mounts: two provider keys, read as two lines from standard input, and new passwords.
#
#   sudo sh deploy/compose/secrets.sh
#
# Existing files are kept. The user of each container can read its own folder only.
set -eu
umask 077
cd "$(dirname "$0")"

password() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

keep() { # FILE VALUE
  [ -s "$1" ] || printf '%s' "$2" >"$1"
}

ask() { # FILE PROMPT
  if [ ! -s "$1" ]; then
    [ ! -t 0 ] || { printf '%s: ' "$2" >&2; stty -echo; }
    read -r answer
    [ ! -t 0 ] || { stty echo; echo >&2; }
    [ -n "$answer" ] || { echo "secrets.sh: $2 is empty" >&2; exit 1; }
    printf '%s' "$answer" >"$1"
  fi
}

mkdir -p secrets/gateway secrets/store secrets/grafana
ask secrets/gateway/runward_providers__promptlayer__api_key "PromptLayer's API key"
ask secrets/gateway/runward_providers__prompt_studio__api_key "Prompt Studio's API key"
keep secrets/store/password "$(password)"
cp secrets/store/password secrets/gateway/runward_store__password
keep secrets/grafana/admin_password "$(password)"

# The users of the images: runward, valkey, grafana.
chown -R 10001:10001 secrets/gateway
chown -R 999:1000 secrets/store
chown -R 472:0 secrets/grafana
chmod 0755 secrets
