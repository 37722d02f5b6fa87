#!/usr/bin/env bash
# Runs every check and every test, as CI does. Installs what it needs: runsc, node, shellcheck, systemd and qemu with
# apt (as root or with sudo), cargo-nextest, cargo-deny, vhost-device-vsock and (beside a nightly toolchain) cargo-fuzz
# with cargo, the agent CLIs with npm and a VM's kernel with apt into the cache folder.
# ./test.sh --no-install names what is missing instead.
set -euo pipefail
cd "$(dirname "$0")"
[ "${1:-}" != --no-install ] || NO_INSTALL=1
# shellcheck source=install/require.sh
. install/require.sh

cache=${XDG_CACHE_HOME:-$HOME/.cache}/code-workers
agents=$cache/agents
export CARGO_TERM_COLOR=never CODE_WORKERS_AGENTS=$agents CODE_WORKERS_VM=$cache/vm

started=$SECONDS
step() { printf '\n== %s (%d s)\n' "$1" "$((SECONDS - started))"; }

need_cargo_tool() { # need_cargo_tool PROGRAM: one that cargo brings
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
need_cargo_tool cargo-nextest
[ "${CI:-}" = true ] || require_all # the rest can be done without on a user's machine
need python3 'probes inside sandboxes' python3
need shellcheck 'to check the scripts' shellcheck
need_cargo_tool cargo-deny
need_runsc
need_docker
trap docker_end EXIT
need_cargo_tool vhost-device-vsock
need_vm "$CODE_WORKERS_VM"
need_systemd
need_node
for agent in opencode claude codex; do need_agent "$agent" "$agents"; done
[ "${CI:-}" != true ] || require_all
have() { command -v "$1" >/dev/null; }
nightly() { have rustup && rustup toolchain list | grep -q '^nightly'; }
if nightly; then need_cargo_tool cargo-fuzz; fi
skipped=("${missing[@]}")

step 'format'
cargo fmt --all --check
if have shellcheck; then shellcheck -x -- *.sh run-worker install/*.sh install/vm/*.sh .ci/run bench/src/*.sh e2e/src/*/*.sh; fi

step 'lints'
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

step 'directions, licences, sources'
if have cargo-deny; then cargo deny --log-level error check bans licenses sources; fi

step 'documentation'
RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked --quiet --document-private-items

step 'build'
cargo build --workspace --locked --quiet

step 'tests'
# Without runsc the tests that start sandboxes have nothing to test.
everywhere='not ((package(e2e) - binary(house)) + binary(gvisor))'
if runsc_found; then everywhere='all()'; fi
cargo nextest run --workspace --locked -E "$everywhere"

step 'fuzzing'
if nightly && have cargo-fuzz; then
    for target in gateway/fuzz/seeds/*; do
        name=$(basename "$target")
        found=$(mktemp -d)
        (cd gateway && cargo +nightly fuzz run -D -s none "$name" "$found" "fuzz/seeds/$name" -- \
            -max_total_time=8 -max_len=16384 -rss_limit_mb=1024 -timeout=5 -print_final_stats=1) >"$found.log" 2>&1 ||
            { tail -n 40 "$found.log"; fail "the gateway's $name does not hold: see gateway/fuzz/artifacts/$name"; }
        grep -a 'number_of_executed_units\|peak_rss_mb' "$found.log"
        rm -rf "$found" "$found.log"
    done
else
    skipped+=('a nightly toolchain and cargo-fuzz (to fuzz what reads bodies and streams): rustup toolchain install nightly')
fi

step 'done'
if [ ${#skipped[@]} != 0 ]; then
    say 'skipped, for want of:'
    printf '  %s\n' "${skipped[@]}"
fi
