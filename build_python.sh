#!/usr/bin/env bash
# Builds the Python development image: build_python.sh [TAG], usually code-workers-python:latest. What comes after
# the tag goes to `docker build` (or podman's, with DOCKER=podman): build_python.sh mine:1 --network host.
set -euo pipefail

case ${1:-} in
-h | --help)
    sed -n '2,3s/^# //p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac
docker=${DOCKER:-docker}
command -v "$docker" >/dev/null || {
    printf 'error: there is no %s here: install it, or name another by DOCKER\n' "$docker" >&2
    exit 1
}
tag=${1:-code-workers-python:latest}
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# From standard input: the build needs no file of this folder.
exec "$docker" build --tag "$tag" "${@:2}" - <"$here/Dockerfile.python"
