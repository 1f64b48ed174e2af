#!/usr/bin/env bash
# Makes once what compose.yaml needs: the image, the nodes' certificates (in the volume gemba-certs), two keys of the
# tenant acme, and with them compose/gemba.toml (hashes only), compose/viewer.token and .env (the tokens).
# GEMBA_IMAGE names an image that is there already; without it one is built.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -e .env ] || [ -e compose/gemba.toml ]; then
  echo "setup: .env or compose/gemba.toml is there already; delete both to make new keys" >&2
  exit 1
fi

image=${GEMBA_IMAGE:-gemba:local}
[ -n "${GEMBA_IMAGE:-}" ] || docker build -f Dockerfile -t "$image" ..

gemba() { docker run --rm -v gemba-certs:/etc/gemba/certs "$image" "$@"; }

docker volume create gemba-certs >/dev/null
gemba certs --cluster plant --nodes 3 --out /etc/gemba/certs >&2

admin=$(gemba key new --tenant acme --role admin --name me)
viewer=$(gemba key new --tenant acme --role viewer --name wall)
token_of() { sed -n 's/^token[^:]*: //p' <<<"$1"; }
entry_of() { sed -n '/^\[\[key\]\]/,$p' <<<"$1"; }

umask 077
cat >.env <<END
GEMBA_IMAGE=$image
GEMBA_TOKEN=$(token_of "$admin")
GEMBA_VIEWER_TOKEN=$(token_of "$viewer")
GRAFANA_PASSWORD=$(head -c 18 /dev/urandom | base64 | tr '+/' '-_')
END

# Containers run as other users than who calls this, and read these two.
umask 022
token_of "$viewer" >compose/viewer.token
{
  cat compose/gemba.in.toml
  printf '\n%s\n\n%s\n' "$(entry_of "$admin")" "$(entry_of "$viewer")"
} >compose/gemba.toml

cat >&2 <<'END'
setup: done. Next:
  docker compose --profile plant up -d      # three nodes, a broker, a simulated plant, Prometheus and Grafana
  http://127.0.0.1:8081                     # the page; its token is GEMBA_TOKEN of .env, 8082 and 8083 show the same
  http://127.0.0.1:3000                     # Grafana: admin, with GRAFANA_PASSWORD of .env
END
