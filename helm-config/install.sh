#!/usr/bin/env bash
# Installs the observability stack, and with --registry the service and the gate, into one namespace.
# What and which versions: versions.yaml. Run it again to bring everything to what the files say.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

usage() {
  cat <<'TEXT'
usage: install.sh [install|uninstall|list] [options]

  install      (default) create missing secrets, then install or upgrade every release
  uninstall    remove the releases; volumes and secrets stay unless --delete-data
  list         print the releases of versions.yaml: name, repository, chart, version, appVersion

  --namespace NS         default: observability
  --object-storage DIR   an S3 of your own: DIR holds loki.yaml and tempo.yaml (see object-storage/external);
                         MinIO is not installed, and the secrets loki-s3 and tempo-s3 must exist (harness-s3 for distributed runs)
  --registry PREFIX      where the images target-service and harness are, e.g. registry.example/team;
                         without it those two are not installed
  --only NAME            only this release; can be given several times
  --values DIR           DIR/NAME.yaml is laid over the values of the release NAME, where it exists
  --delete-data          with uninstall: volumes and secrets too. There is no way back
  --dry-run              print what would be done; the cluster is not asked
TEXT
}

die() { printf 'install.sh: %s\n' "$1" >&2; exit 2; }

command=install
namespace=observability
object_storage=""
registry=""
over=""
only=" "
delete_data=no
dry_run=no
while [ $# -gt 0 ]; do
  case "$1" in
    install | uninstall | list) command="$1" ;;
    --namespace | --object-storage | --registry | --only | --values)
      [ $# -ge 2 ] || die "$1 needs a value"
      case "$1" in
        --namespace) namespace="$2" ;;
        --object-storage) object_storage="$2" ;;
        --registry) registry="${2%/}" ;;
        --only) only="$only$2 " ;;
        --values) over="$2" ;;
      esac
      shift ;;
    --delete-data) delete_data=yes ;;
    --dry-run) dry_run=yes ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; die "unknown argument: $1" ;;
  esac
  shift
done

# versions.yaml: one release an item, one `key: value` a line, in a fixed order of keys.
releases() {
  awk '
    function flush() { if (name != "") print name, repository, chart, version, appVersion }
    /^  - name: /        { flush(); name = $3; repository = chart = version = appVersion = "?" }
    /^    repository: /  { repository = $2 }
    /^    chart: /       { chart = $2 }
    /^    version: /     { version = $2 }
    /^    appVersion: /  { appVersion = $2 }
    END { flush() }' "$here/versions.yaml"
}

if [ "$command" = list ]; then releases; exit 0; fi

printf '%s' "$namespace" | grep -Eq '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$' || die "--namespace $namespace: not a DNS label"
if [ -n "$object_storage" ]; then
  for name in loki tempo; do
    [ -f "$object_storage/$name.yaml" ] || die "--object-storage $object_storage: no $name.yaml in it"
  done
fi
for name in $only; do
  releases | grep -q "^$name " || die "--only $name: no such release; see install.sh list"
done

run() {
  printf '+ %s\n' "$*"
  [ "$dry_run" = yes ] || "$@"
}

if [ "$dry_run" = no ]; then
  for tool in helm kubectl; do
    command -v "$tool" >/dev/null 2>&1 || die "$tool is not installed"
  done
fi

wanted() {
  case "$1" in
    minio) [ -z "$object_storage" ] || return 1 ;;
    target-service | harness) [ -n "$registry" ] || [ "$command" = uninstall ] || return 1 ;;
  esac
  [ "$only" = " " ] || case "$only" in *" $1 "*) ;; *) return 1 ;; esac
}

# 32 random characters; there are no default passwords.
random() { LC_ALL=C tr -dc 'A-Za-z0-9' </dev/urandom | head -c 32 || true; }

# secret NAME KEY=VALUE…: made once, with random values, and never changed. A VALUE of `*` is random.
# Values go through a file, not through arguments, which every user of the machine can read.
secret() {
  local name="$1" file pair
  shift
  if [ "$dry_run" = yes ]; then
    printf '+ secret %s (%s): created with random values unless it exists\n' "$name" "$(printf '%s\n' "$@" | cut -d= -f1 | paste -sd, -)"
    return
  fi
  if kubectl --namespace "$namespace" get secret "$name" >/dev/null 2>&1; then return; fi
  file="$(mktemp)"
  for pair in "$@"; do
    if [ "${pair#*=}" = '*' ]; then pair="${pair%%=*}=$(random)"; fi
    printf '%s\n' "$pair" >>"$file"
  done
  if ! kubectl --namespace "$namespace" create secret generic "$name" --from-env-file="$file"; then
    rm -f "$file"
    die "secret $name could not be created"
  fi
  rm -f "$file"
}

need_secret() {
  [ "$dry_run" = yes ] || kubectl --namespace "$namespace" get secret "$1" >/dev/null 2>&1 ||
    die "secret $1 ($2) is missing in $namespace: create it, it holds the keys of your object storage"
}

install_one() {
  local name="$1" repository="$2" chart="$3" version="$4"
  local args=(upgrade --install "$name")
  if [ "$repository" = ./charts ]; then
    args+=("$here/charts/$chart")
  else
    args+=("$chart" --repo "$repository" --version "$version")
  fi
  args+=(--namespace "$namespace")
  [ ! -f "$here/values/$name.yaml" ] || args+=(--values "$here/values/$name.yaml")
  if [ -n "$object_storage" ] && [ -f "$object_storage/$name.yaml" ]; then args+=(--values "$object_storage/$name.yaml"); fi
  if [ -n "$over" ] && [ -f "$over/$name.yaml" ]; then args+=(--values "$over/$name.yaml"); fi
  case "$name" in
    alloy) args+=(--set "rbac.namespaces={$namespace}") ;;
    target-service | harness) args+=(--set-string "image.repository=$registry/$name") ;;
  esac
  # A gate that fails is a verdict, and must not keep the rest from being installed: it is not waited for here.
  [ "$name" = harness ] || args+=(--wait --timeout 10m)
  run helm "${args[@]}"
}

case "$command" in
  install)
    if [ "$dry_run" = yes ] || ! kubectl get namespace "$namespace" >/dev/null 2>&1; then
      run kubectl create namespace "$namespace"
      # Kubernetes' own check that nothing runs as root or reaches into the host. A namespace that was there is
      # left as it is.
      run kubectl label namespace "$namespace" pod-security.kubernetes.io/enforce=restricted
    fi
    secret grafana-admin admin-user=admin 'admin-password=*'
    if [ -z "$object_storage" ]; then
      secret minio-root rootUser=root 'rootPassword=*'
      secret loki-s3 accessKeyId=loki 'secretAccessKey=*'
      secret tempo-s3 accessKeyId=tempo 'secretAccessKey=*'
      secret harness-s3 accessKeyId=harness 'secretAccessKey=*'
    else
      need_secret loki-s3 "accessKeyId, secretAccessKey"
      need_secret tempo-s3 "accessKeyId, secretAccessKey"
    fi
    while read -r name repository chart version _; do
      if wanted "$name"; then install_one "$name" "$repository" "$chart" "$version" </dev/null; fi
    done < <(releases)
    if [ -z "$registry" ]; then
      printf 'target-service and harness were left out: build and push their images (images/), then give --registry PREFIX\n'
    fi
    ;;
  uninstall)
    while read -r name _; do
      if wanted "$name"; then run helm uninstall "$name" --namespace "$namespace" --ignore-not-found --wait </dev/null; fi
    done < <(releases | tac)
    if [ "$delete_data" = yes ]; then
      run kubectl --namespace "$namespace" delete persistentvolumeclaim --ignore-not-found \
        minio prometheus-server grafana storage-loki-0 storage-tempo-0 harness-runs
      run kubectl --namespace "$namespace" delete secret --ignore-not-found grafana-admin minio-root loki-s3 tempo-s3 harness-s3
    else
      printf 'volumes and secrets of %s stay; --delete-data removes them\n' "$namespace"
    fi
    ;;
esac
