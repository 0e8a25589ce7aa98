#!/bin/sh
# Fuzzes one parser, from our own cases and the language's words.
#
#   run.sh promql|logql|traceql [RUNS]
#
# Needs a nightly toolchain and cargo-fuzz (cargo install cargo-fuzz). Without a nightly one, say
# TOOLCHAIN= RUSTC_BOOTSTRAP=1 and --sanitizer none is used.
set -eu
target=$1
runs=${2:-10000000}
toolchain=${TOOLCHAIN-+nightly}
cd "$(dirname "$0")"

case $target in
promql) cases=../src/promql/tests ;;
logql) cases=../src/logql/tests ;;
traceql) cases=../src/traceql/scripts ;;
*) sed -n 4p "$0" && exit 2 ;;
esac

# One file for each query of our cases.
mkdir -p "corpus/$target"
n=0
cat "$cases"/*.test | sed -nE 's/^eval[a-z_]* (instant at [^ ]+|instant from [^ ]+ to [^ ]+|range from [^ ]+ to [^ ]+ step [^ ]+|lines from [^ ]+ to [^ ]+( limit [0-9]+)?( forward)?|search|sets|show) (.*)$/\4/p' |
    while read -r query; do
        n=$((n + 1))
        printf '%s' "$query" >"corpus/$target/own-$n"
    done

# shellcheck disable=SC2086
exec cargo $toolchain fuzz run ${SANITIZER:+--sanitizer $SANITIZER} "$target" "corpus/$target" -- \
    -runs="$runs" -dict="$target.dict" -max_len=1024 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 ${EXTRA:-}
