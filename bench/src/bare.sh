#!/usr/bin/env bash
# bare.sh AGENT: one recorded task with the bare CLI, the model beside it. Prints bare_ms=MILLISECONDS.
set -euo pipefail
cp ./model /tmp/model && chmod +x /tmp/model
/tmp/model --listen 127.0.0.1:9000 --turns turns.toml >/tmp/model.out &
model=$!
until grep -q listening /tmp/model.out; do :; done
export HOME=/tmp/bare PATH=/opt/agents/$1/node_modules/.bin:$PATH
mkdir -p "$HOME"
prompt='Make ./test.sh pass.'
began=$(date +%s%3N)
case $1 in
opencode)
    # The settings of agents/opencode.toml, so that both run the same CLI in the same way.
    export OPENCODE_DISABLE_MODELS_FETCH=1 OPENCODE_DISABLE_AUTOUPDATE=1 OPENCODE_DISABLE_LSP_DOWNLOAD=1
    export OPENCODE_CONFIG_CONTENT='{"autoupdate":false,"share":"disabled","snapshot":false,"permission":"allow","enabled_providers":["anthropic"],"model":"anthropic/claude-sonnet-4-5","small_model":"anthropic/claude-sonnet-4-5","agent":{"title":{"disable":true}},"provider":{"anthropic":{"options":{"baseURL":"http://127.0.0.1:9000/v1","apiKey":"none"}}}}'
    opencode run --format json "$prompt" >/tmp/agent.out 2>&1 </dev/null
    ;;
claude)
    ANTHROPIC_BASE_URL=http://127.0.0.1:9000 ANTHROPIC_API_KEY=none CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 \
        claude -p "$prompt" --model claude-sonnet-4-5 --output-format stream-json --verbose \
        --dangerously-skip-permissions --disallowedTools WebSearch,WebFetch >/tmp/agent.out 2>&1 </dev/null
    ;;
codex)
    export CODEX_HOME=$HOME/codex GW_API_KEY=none
    mkdir -p "$CODEX_HOME"
    cat >"$CODEX_HOME/config.toml" <<'END'
model = "gpt-5.1-codex"
model_provider = "gw"
approval_policy = "never"
sandbox_mode = "danger-full-access"
web_search = "disabled"
[model_providers.gw]
name = "gw"
base_url = "http://127.0.0.1:9000/v1"
env_key = "GW_API_KEY"
wire_api = "responses"
END
    codex exec --json "$prompt" >/tmp/agent.out 2>&1 </dev/null
    ;;
esac
ended=$(date +%s%3N)
kill "$model"
./test.sh >/tmp/test.out || { cat /tmp/agent.out /tmp/test.out; exit 1; }
printf 'bare_ms=%s\n' "$((ended - began))"
