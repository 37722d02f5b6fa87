#!/usr/bin/env bash
# From a clone to a reviewed branch in one command.
#
#   ./quickstart.sh                        an agent mends a small sample repository
#   ./quickstart.sh REPO-PATH "PROMPT"     an agent works on a copy of your repository
#   ./quickstart.sh --no-install …         names what is missing instead of installing it
#
# It says what it installs: runsc (gVisor), node and a C compiler with apt, as root or with sudo; opencode, at the
# version that agents/opencode.toml pins, with npm into the data folder. With ANTHROPIC_API_KEY or OPENAI_API_KEY
# the model is the real one; without, a recorded one, which can do nothing but what is recorded. All that it starts is stopped at the end, on Ctrl-C too.
set -euo pipefail
called_from=$PWD
cd "$(dirname "$0")"

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; }
repo='' prompt=''
while [ $# -gt 0 ]; do
    case $1 in
    --no-install) NO_INSTALL=1 ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
    *) if [ -z "$repo" ]; then repo=$1; elif [ -z "$prompt" ]; then prompt=$1; else usage >&2; exit 2; fi ;;
    esac
    shift
done
if [ -n "$repo" ] && [ -z "$prompt" ]; then usage >&2; exit 2; fi
if [ -n "$repo" ]; then
    repo=$(cd "$called_from" && cd -- "$repo" 2>/dev/null && pwd) || { printf 'error: there is no such folder\n' >&2; exit 2; }
fi

# shellcheck source=install/require.sh
. install/require.sh

share=${XDG_DATA_HOME:-$HOME/.local/share}/code-workers
stages=() began=$SECONDS
stage() { # stage NAME: ends the stage before, and begins this one
    local now=$SECONDS
    [ -z "${stage_name:-}" ] || stages+=("$(printf '%-28s %4d s' "$stage_name" "$((now - stage_began))")")
    stage_name=$1 stage_began=$now
    [ -z "$1" ] || printf '\n== %s (%d s)\n' "$1" "$((now - began))"
}

stage 'what it needs'
need_rust
need git 'repositories' git
need curl 'the scripts' curl
need cc 'to build SQLite' gcc libc6-dev
need_runsc
need_node
need_agent opencode "$share/agents"
require_all
say 'all there'

stage 'build'
cargo build --release --locked -p cli -p coordinator -p gateway -p launcher -p relay -p repository -p worker -p recorded-model
bin=$(find "$PWD/target" -path '*/release/code-workers' -newermt '1970-01-01' -printf '%T@ %h\n' | sort -rn | awk 'NR==1{print $2}')

stage 'start'
# A place of its own beside yours: another data folder, key and ports, so that nothing of yours is touched.
place=$share/quickstart
mkdir -p "$place/code-workers"
ln -sfn "$share/agents" "$place/code-workers/agents"
export XDG_DATA_HOME=$place XDG_CONFIG_HOME=$place/config
unset XDG_RUNTIME_DIR FORTRESS_API_KEY COORDINATOR_URL

free_port() { # free_port FIRST: the first port from there that nobody listens on
    local port=$1
    while (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
    printf '%s' "$port"
}
COORDINATOR_BIND=127.0.0.1:$(free_port 7222)
GATEWAY_BIND=127.0.0.1:$(free_port 4000)
export COORDINATOR_BIND GATEWAY_BIND COORDINATOR_URL=http://$COORDINATOR_BIND

children=()
# shellcheck disable=SC2317 # called by the trap
stop() { # the last one first: a launcher ends what it owes while the coordinator is still there
    local i
    trap - EXIT INT TERM
    [ -z "${task:-}" ] || "$bin/code-workers" cancel "$task" >/dev/null 2>&1 || true # has it not ended
    for ((i = ${#children[@]} - 1; i >= 0; i--)); do
        kill -TERM "${children[i]}" 2>/dev/null || continue
        wait "${children[i]}" 2>/dev/null || true
    done
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

logs=$place/logs
mkdir -p "$logs"
wait_for() { # wait_for FILE TEXT PID: the line that says so; fails when the program has ended without
    local line
    until line=$(grep -m1 -- "$2" "$1"); do
        kill -0 "$3" 2>/dev/null || { cat "$1" >&2; fail 'it did not start: see above'; }
        sleep 0.1
    done
    printf '%s\n' "$line"
}
begin() { # begin NAME COMMAND...: in the background, its words in a file
    local name=$1
    shift
    : >"$logs/$name"
    set -m # in a process group of its own: Ctrl-C is for this script, which ends them in order
    "$@" >>"$logs/$name" 2>&1 </dev/null &
    children+=("$!")
    set +m
}

model=() recorded=''
if [ -n "${ANTHROPIC_API_KEY:-}" ]; then
    say 'model: Anthropic, with your ANTHROPIC_API_KEY'
elif [ -n "${OPENAI_API_KEY:-}" ]; then
    say 'model: OpenAI, with your OPENAI_API_KEY'
    model=(--model openai/gpt-5.1-codex)
elif [ -n "${ANTHROPIC_UPSTREAM_URL:-}" ]; then
    say "model: the one at $ANTHROPIC_UPSTREAM_URL"
else
    recorded='recorded-model/sample/turns.toml'
    [ -z "$repo" ] || recorded='recorded-model/sample/any-repository.toml'
    say 'model: RECORDED. No ANTHROPIC_API_KEY or OPENAI_API_KEY is set, so the answers are played from'
    say "       $recorded; agent, sandbox, queue and gateway are real."
    begin model "$bin/code-workers-recorded-model" --listen 127.0.0.1:0 --turns "$recorded"
    address=$(wait_for "$logs/model" 'listening on' "$!")
    export ANTHROPIC_UPSTREAM_URL=http://${address##* }
fi
begin up "$bin/code-workers" up
wait_for "$logs/up" ready "$!"

if [ -z "$repo" ]; then
    name=sample repo=$place/sample prompt='./test.sh fails. Find out why, mend slug.sh, and make sure that the test passes.'
    rm -rf "$repo"
    cp -r recorded-model/sample/repository "$repo"
    git -C "$repo" init -q -b main
    git -C "$repo" add -A
    git -C "$repo" -c user.name=code-workers -c user.email=code-workers@localhost commit -qm 'A sample'
else
    name=$(basename "$repo" | tr -c 'A-Za-z0-9._\n-' '-' | sed 's/^[^A-Za-z0-9]*//')
    name=${name:-repository}
fi
"$bin/code-workers" repo remove "$name" >/dev/null 2>&1 || true
"$bin/code-workers" repo add "$name" "$repo"
begin launcher "$bin/code-workers" run-worker "$name"
case $(wait_for "$logs/launcher" 'sandbox waits\|no sandbox' "$!") in
*'no sandbox'*) cat "$logs/launcher" >&2; fail 'no sandbox can be had: see above' ;;
esac

stage 'the agent works'
say "\$ send_task.sh $name \"$prompt\""
task=$(printf '%s' "$prompt" | "$bin/code-workers" send "${model[@]}" "$name" -)
say "$task"
"$bin/code-workers" logs -f "$task" || true
code=0
"$bin/code-workers" poll "$task" || code=$?

stage 'the result'
"$bin/code-workers" diff "$task" || true

if [ "$name" = sample ] && [ "$code" = 0 ]; then
    stage 'its test, in a fresh sandbox'
    "$bin/code-workers" send --wait --base "code-workers/$task" --exec "$name" -- ./test.sh || code=$?
fi
stage ''

say
say "How long each part took (${recorded:+recorded model, }in all $((SECONDS - began)) s):"
printf '  %s\n' "${stages[@]}"
say
say 'To put the branch into the repository (nothing is checked out or merged):'
say "  XDG_DATA_HOME=$XDG_DATA_HOME XDG_CONFIG_HOME=$XDG_CONFIG_HOME COORDINATOR_URL=$COORDINATOR_URL \\"
say "    $bin/code-workers apply $task --into $repo"
exit "$code"
