# shellcheck shell=bash
# shellcheck disable=SC2034 # what is not used here is used there
# What install.sh and uninstall.sh share. Sourced, never run.

packages=(attack cli coordinator gateway launcher relay repository worker)
programs=(code-workers code-workers-attack code-workers-coordinator code-workers-gateway code-workers-launcher
    code-workers-relay code-workers-repository code-workers-worker)
config=${XDG_CONFIG_HOME:-$HOME/.config}/code-workers
data=${XDG_DATA_HOME:-$HOME/.local/share}/code-workers
bin=$HOME/.local/bin
units=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
system_units=/etc/systemd/system

XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/run/user/$(id -u)} # a shell of su or sudo has none
export XDG_RUNTIME_DIR

done_steps=() there_steps=()
doing() { # doing WHAT: says a step
    done_steps+=("$1")
    if [ "$DRY_RUN" = 1 ]; then say "would $1"; else say "$1"; fi
}
there() { there_steps+=("$1"); } # there WHAT: is as it should be
run() { # run COMMAND...: says it, and does it
    done_steps+=("$*")
    if [ "$DRY_RUN" = 1 ]; then say "would run: $*"; else
        say "\$ $*"
        "$@"
    fi
}

run_as_root() { # run_as_root COMMAND...: says it, and does it
    if [ "$(id -u)" = 0 ]; then run "$@"; return; fi
    [ "$DRY_RUN" = 1 ] || command -v sudo >/dev/null || fail "there is no sudo here; as root: $*"
    run sudo "$@"
}

require_systemd() {
    [ -z "${SUDO_USER:-}" ] || fail "run it as $SUDO_USER, without sudo: it asks for what only root can do"
    if [ -d /run/systemd/system ] && command -v systemctl >/dev/null; then return; fi
    fail "this machine is not run by systemd, so there is nothing to install services into.
Run code-workers by hand instead: cargo build --release, then code-workers up, and code-workers run-worker NAME"
}

user_manager_answers() { systemctl --user show-environment >/dev/null 2>&1; }
coordinator_answers() {
    curl -q --silent --fail --output /dev/null --max-time 5 --unix-socket "$XDG_RUNTIME_DIR/code-workers/owner.sock" \
        http://localhost/health
}

wait_until() { # wait_until SECONDS WHAT COMMAND...
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$until" ] || fail "$what does not answer: see systemctl --user status, and journalctl --user"
        sleep 0.1
    done
}

require_same_folders() { # services do not read a shell's profile
    local name
    [ "$DRY_RUN" = 0 ] || return 0
    for name in XDG_CONFIG_HOME XDG_DATA_HOME; do
        [ "${!name:-}" = "$(systemctl --user show-environment | sed -n "s/^$name=//p")" ] || fail \
            "$name is ${!name:-not set} here, and another thing for your services: put it into ~/.config/environment.d/, log in anew, or unset it"
    done
}

require_not_up() {
    [ "$DRY_RUN" = 0 ] || return 0
    systemctl --user is-active --quiet code-workers-coordinator.service || ! coordinator_answers ||
        fail 'code-workers up is running: end it first, since the services take its place'
}

running_launchers() { # what is just ending or starting anew too
    systemctl --user list-units --plain --no-legend --state=active,activating,deactivating \
        'code-workers-launcher@*' 2>/dev/null |
        awk '{ print $1 }'
}

summary() {
    say
    if [ ${#done_steps[@]} = 0 ]; then
        say "All ${#there_steps[@]} parts were already there: nothing was changed."
    elif [ "$DRY_RUN" = 1 ]; then
        say "${#done_steps[@]} steps would be taken, ${#there_steps[@]} parts are already there. Nothing was changed."
    else
        say "Done: ${#done_steps[@]} steps; ${#there_steps[@]} parts were already there."
    fi
    [ "$DRY_RUN" = 1 ] || next
}

next() {
    local launchers
    launchers=$(running_launchers | sed 's/code-workers-launcher@\(.*\)\.service/\1/' | paste -sd' ' -)
    say "  coordinator and gateway run as services of $(id -un), and start again with the machine"
    say "  sandboxes for: ${launchers:-no repository yet}"
    say 'Next:'
    case :$PATH: in *:"$bin":*) ;; *) say "  export PATH=$bin:\$PATH" ;; esac
    [ -n "$launchers" ] || say '  ./install.sh --repo NAME=PATH-OR-URL'
    if [ ! -s "$config/credentials/ANTHROPIC_API_KEY" ] && [ ! -s "$config/credentials/OPENAI_API_KEY" ]; then
        say '  ANTHROPIC_API_KEY=… ./install.sh     (or OPENAI_API_KEY; without one, agents have no model)'
    fi
    say '  code-workers doctor NAME             (looks at every link, and says what is missing, an agent CLI for instance)'
    say '  code-workers send --wait NAME "PROMPT"'
}
