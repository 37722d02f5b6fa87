#!/bin/sh
# work.sh CASE ROUNDS: does it once, then ROUNDS times, and prints us=MICROSECONDS for each of these.
set -eu
export PATH="${RUST:-/caches/rust}/bin:/usr/local/bin:/usr/bin:/bin" CARGO_HOME=/tmp/work-cargo
git config --global --add safe.directory '*'
once() {
    case $1 in
    'git status') git status --porcelain ;;
    'cargo build') rm -rf target && cargo build --offline --quiet ;;
    'npm test') npm test --silent ;;
    esac >/tmp/work.out 2>&1 || { cat /tmp/work.out >&2; exit 1; }
}
once "$1"
for _ in $(seq "$2"); do
    began=$(date +%s%N)
    once "$1"
    echo "us=$((($(date +%s%N) - began) / 1000))"
done
