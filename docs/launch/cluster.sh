#!/usr/bin/env bash
# A Ray cluster by hand; run on every node, from the repository on a shared file system:
#   docs/launch/cluster.sh head                     on the first one, prints how the others join
#   docs/launch/cluster.sh join ADDRESS             on each other one
#   docs/launch/cluster.sh run ADDRESS GRID ...     on any one: the sweep
#   docs/launch/cluster.sh stop                     on each one
# HF_TOKEN, where the grid names what is gated, has to be set where `run` is called.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
ray=.venv/bin/ray
token=${RAY_AUTH_TOKEN_PATH:-$PWD/.ray_token}
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$token

usage() {
    sed -n 's/^#   //p' "$0"
    exit 2
}

case ${1:-} in
head)
    if [ ! -s "$token" ]; then
        (umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$token")
    fi
    address=${2:-$(hostname -I | cut -d ' ' -f 1)}
    "$ray" start --head --node-ip-address="$address" --port="${PORT:-6379}" \
        --dashboard-host=127.0.0.1 --disable-usage-stats ${RAY_START_OPTIONS:-}
    echo "on each other node:  docs/launch/cluster.sh join $address:${PORT:-6379}"
    ;;
join)
    "$ray" start --address="${2:?$(usage)}" --disable-usage-stats ${RAY_START_OPTIONS:-}
    ;;
run)
    address=${2:?$(usage)}
    shift 2
    exec .venv/bin/python -m sweep.run "$@" --address "$address"
    ;;
stop)
    "$ray" stop
    ;;
*)
    usage
    ;;
esac
