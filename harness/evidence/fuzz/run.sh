#!/bin/sh
# Fuzzes one reader of what comes from outside, from our own cases and the language's words.
#
#   run.sh promql|logql|traceql|exposition|otlp_json|segment [RUNS]
#
# Needs a nightly toolchain and cargo-fuzz (cargo install cargo-fuzz). Without a nightly one, say
# TOOLCHAIN= RUSTC_BOOTSTRAP=1 and SANITIZER=none.
set -eu
target=$1
runs=${2:-10000000}
toolchain=${TOOLCHAIN-+nightly}
cd "$(dirname "$0")"

# One file for each query of our cases.
queries() {
    n=0
    cat "$1"/*.test | sed -nE 's/^eval[a-z_]* (instant at [^ ]+|instant from [^ ]+ to [^ ]+|range from [^ ]+ to [^ ]+ step [^ ]+|lines from [^ ]+ to [^ ]+( limit [0-9]+)?( forward)?|search|sets|show) (.*)$/\4/p' |
        while read -r query; do
            n=$((n + 1))
            printf '%s' "$query" >"corpus/$target/own-$n"
        done
}

mkdir -p "corpus/$target"
longest=1024
case $target in
promql) queries ../src/promql/tests ;;
logql) queries ../src/logql/tests ;;
traceql) queries ../src/traceql/scripts ;;
exposition) cp seeds/exposition/* "corpus/$target" ;;
otlp_json)
    cp seeds/otlp_json/* "corpus/$target"
    longest=4096
    ;;
segment)
    # Made anew after a change of the format: cargo run --example seeds -- seeds/segment
    cp seeds/segment/* "corpus/$target"
    longest=4096
    ;;
*) sed -n 4p "$0" && exit 2 ;;
esac
words=
if [ -e "$target.dict" ]; then words=-dict=$target.dict; fi

# shellcheck disable=SC2086
exec cargo $toolchain fuzz run ${SANITIZER:+--sanitizer $SANITIZER} "$target" "corpus/$target" -- \
    -runs="$runs" $words -max_len=$longest -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 ${EXTRA:-}
