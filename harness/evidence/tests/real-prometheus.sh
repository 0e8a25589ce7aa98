#!/bin/sh
# Puts the recorded questions and Prometheus' own test scripts to a real Prometheus on loopback that is
# fed the same samples by remote write. What it prints are the figures of docs/CONFORMANCE.md.
#
#   real-prometheus.sh [SHARED] [RUNNER] [PROMETHEUS]
#
# SHARED holds corpus/ and conformance/ (default $HARNESS_SHARED, else ../shared beside the repository),
# RUNNER is the built conformance example, PROMETHEUS the server's binary (default: the one in PATH).
set -eu

root=$(cd "$(dirname "$0")/../../.." && pwd)
shared=${1:-${HARNESS_SHARED:-$root/../shared}}
runner=${2:-$root/target/release/examples/conformance}
prometheus=${3:-prometheus}

dir=$(mktemp -d)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
trap 'kill "$(cat "$dir/pid")" 2>/dev/null || true; rm -rf "$dir"' EXIT
echo '{}' >"$dir/config.yml"

# Leaves an empty server at the port. The runner calls it wherever a script says `clear`.
cat >"$dir/restart" <<END
#!/bin/sh
if [ -e "$dir/pid" ]; then
    kill "\$(cat "$dir/pid")" 2>/dev/null
    while kill -0 "\$(cat "$dir/pid")" 2>/dev/null; do sleep 0.02; done
fi
rm -rf "$dir/data"
# Samples of the scripts are from 1970.
"$prometheus" --config.file="$dir/config.yml" --storage.tsdb.path="$dir/data" \\
    --storage.tsdb.retention.time=100y --web.listen-address="127.0.0.1:$port" \\
    --web.enable-remote-write-receiver --enable-feature=promql-at-modifier,promql-negative-offset \\
    --log.level=error >"$dir/log" 2>&1 </dev/null &
echo \$! >"$dir/pid"
END

url="http://127.0.0.1:$port"
"$prometheus" --version 2>&1 | head -1

sh "$dir/restart"
until curl -sf "$url/-/ready" >/dev/null; do sleep 0.1; done
echo "== recorded questions"
"$runner" replay --data "$shared/corpus/data" --cases "$shared/corpus/cases/prometheus.jsonl" \
    --url "$url" -v || true

echo "== Prometheus' scripts"
"$runner" promql "$shared/conformance/promql" --url "$url" --restart "sh $dir/restart" || true
