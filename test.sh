#!/usr/bin/env bash
# Runs every check and every test, as CI does. Installs what it needs: runsc, node and shellcheck with apt (as
# root or with sudo), cargo-nextest and cargo-deny with cargo, the agent CLIs with npm into the cache folder.
# ./test.sh --no-install names what is missing instead.
set -euo pipefail
cd "$(dirname "$0")"
[ "${1:-}" != --no-install ] || NO_INSTALL=1
# shellcheck source=install/require.sh
. install/require.sh

agents=${XDG_CACHE_HOME:-$HOME/.cache}/code-workers/agents
export CARGO_TERM_COLOR=never CODE_WORKERS_AGENTS=$agents

started=$SECONDS
step() { printf '\n== %s (%d s)\n' "$1" "$((SECONDS - started))"; }

need_cargo() { # need_cargo PROGRAM: one that cargo brings
    command -v "$1" >/dev/null && return
    if [ "$NO_INSTALL" != 0 ]; then missing+=("$1: cargo install --locked $1"); return; fi
    say "installing $1 with cargo"
    cargo install --quiet --locked "$1" || missing+=("$1: cargo install --locked $1 failed")
}

step 'what the tests need'
need_rust
need git 'repositories' git
need curl 'the scripts' curl
need cc 'to build SQLite' gcc libc6-dev
need python3 'probes inside sandboxes' python3
need shellcheck 'to check the scripts' shellcheck
need_runsc
need_node
for agent in opencode claude codex; do need_agent "$agent" "$agents"; done
if command -v cargo >/dev/null; then need_cargo cargo-nextest; need_cargo cargo-deny; fi
require_all

step 'format'
cargo fmt --all --check
shellcheck -x -- *.sh run-worker install/*.sh .ci/run

step 'lints'
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

step 'directions, licences, sources'
cargo deny --log-level error check bans licenses sources

step 'documentation'
RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked --quiet --document-private-items

step 'build'
cargo build --workspace --locked --quiet

step 'tests'
cargo nextest run --workspace --locked --no-fail-fast

step 'done'
