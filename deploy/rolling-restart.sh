#!/usr/bin/env bash
# Restarts the nodes of a cluster one after the other, under load, so that no client sees more than a retried request.
#
#   deploy/rolling-restart.sh --restart 'ssh "$NODE" sudo systemctl restart gemba' \
#     a=http://a:8080 b=http://b:8080 c=http://c:8080
#   deploy/rolling-restart.sh --restart 'docker compose restart "$NODE"' \
#     gemba-1=http://127.0.0.1:8081 gemba-2=http://127.0.0.1:8082 gemba-3=http://127.0.0.1:8083
#
# --restart CMD   run by sh with NODE and URL set; it returns when the node has stopped and was started again
# --wait SECONDS  how long the cluster may take to be whole before each restart and after the last (300)
# --lag ENTRIES   how far a copy may be behind and still count as caught up (1000)
# --pause SECONDS between two looks (1)
#
# Before each restart all nodes have to be ready, every shard has an owner, and every copy has caught up, three looks in
# a row. If that does not come about in time the script ends with status 1 and touches nothing more: the nodes that were
# not restarted go on as they are. Needs curl. A token is not needed: what it looks at is not a tenant's.
set -euo pipefail

say() { printf '%s rolling-restart: %s\n' "$(date +%H:%M:%S)" "$*" >&2; }

usage() { sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p}' "$0"; }
misused() { usage >&2; exit 2; }

restart="" wait_s=300 lag_max=1000 pause=1
nodes=()
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage; exit 0 ;;
    --restart | --wait | --lag | --pause)
      [ $# -ge 2 ] || misused
      case $1 in
        --restart) restart=$2 ;;
        --wait) wait_s=$2 ;;
        --lag) lag_max=$2 ;;
        --pause) pause=$2 ;;
      esac
      shift 2
      ;;
    [!-]*=http*) nodes+=("$1"); shift ;;
    *) misused ;;
  esac
done
if [ -z "$restart" ] || [ ${#nodes[@]} = 0 ]; then misused; fi

# What a node's metrics say: the first number of a metric that matches, or the largest.
figure() { awk -v name="$1" '$0 !~ /^#/ && index($0, name) == 1 && ($NF > most || !seen) { most = $NF; seen = 1 } END { if (seen) printf "%d", most }' <<<"$2"; }

# Says on one line why the cluster is not whole; silent when it is.
missing() {
  local node url metrics lag quorum
  for node in "${nodes[@]}"; do
    url=${node#*=} node=${node%%=*}
    curl --fail --silent --max-time 5 --output /dev/null "$url/readyz" || { echo "$node is not ready"; return; }
    metrics=$(curl --fail --silent --max-time 5 "$url/metrics") || { echo "$node shows no metrics"; return; }
    quorum=$(figure cluster_has_quorum "$metrics")
    [ "$quorum" = 1 ] || { echo "$node knows shards without an owner"; return; }
    lag=$(figure cluster_shard_lag_entries "$metrics")
    [ "${lag:-0}" -le "$lag_max" ] || { echo "a copy of a shard of $node is $lag entries behind"; return; }
  done
}

whole() {
  local until=$((SECONDS + wait_s)) in_a_row=0 why said=
  while [ "$in_a_row" -lt 3 ]; do
    why=$(missing)
    if [ -z "$why" ]; then
      in_a_row=$((in_a_row + 1))
    else
      in_a_row=0
      [ "$why" = "$said" ] || say "waiting: $why"
      said=$why
      [ "$SECONDS" -lt "$until" ] || { say "gave up after $wait_s s: $why"; return 1; }
    fi
    sleep "$pause"
  done
}

for node in "${nodes[@]}"; do
  whole || exit 1
  say "restarting ${node%%=*}"
  NODE=${node%%=*} URL=${node#*=} sh -c "$restart" || { say "the restart of ${node%%=*} failed"; exit 1; }
done
whole || exit 1
say "done: ${#nodes[@]} nodes restarted"
