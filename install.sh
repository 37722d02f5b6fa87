#!/usr/bin/env bash
# Installs code-workers as services of yours that come back after a reboot. Run it again to upgrade, or to add to it;
# what is there already is left alone.
#
#   ./install.sh [--repo NAME[=PATH-OR-URL]]...
#
#   --repo NAME[=PATH-OR-URL]  keep a sandbox waiting for this repository; registers it first where a path is given
#   --vsock                    let VMs reach both servers through vsock: two system units, for which it asks sudo
#   --vm HOST                  and set up coordinator-shim in this VM, through ssh: skia:7222 for what runs in its Docker
#   --from FOLDER              take the programs from there instead of building them
#   --no-install               name what is missing on the machine instead of installing it
#   --dry-run                  say each step, and do none
#
# Programs go to ~/.local/bin, units to ~/.config/systemd/user, keys to ~/.config/code-workers/credentials (0600).
# ANTHROPIC_API_KEY and OPENAI_API_KEY are taken over when they are set. ./uninstall.sh takes all of it away.
set -euo pipefail
cd "$(dirname "$0")"

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; }
usage_error() { usage >&2; exit 2; }
DRY_RUN=0 from='' vsock=0 vm='' repos=()
while [ $# -gt 0 ]; do
    case $1 in
    --dry-run) DRY_RUN=1 NO_INSTALL=1 ;;
    --no-install) NO_INSTALL=1 ;;
    --vsock) vsock=1 ;;
    --from | --repo | --vm)
        [ -n "${2:-}" ] || usage_error
        case $1 in --repo) repos+=("$2") ;; --vm) vm=$2 vsock=1 ;; *) from=$2 ;; esac
        shift
        ;;
    -h | --help) usage; exit 0 ;;
    *) usage_error ;;
    esac
    shift
done

# shellcheck source=install/require.sh
. install/require.sh
# shellcheck source=install/services.sh
. install/services.sh

build() { # the programs, into $from
    [ -z "$from" ] || return 0
    need_rust
    need cc 'to build SQLite' gcc libc6-dev
    require_needs
    run cargo build --release --locked --quiet "${packages[@]/#/--package=}"
    command -v cargo >/dev/null || return 0 # a dry run
    from=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/$(rustc -vV | sed -n 's/^host: //p')/release
}

require_needs() { # all there, or said
    local missed
    [ "$DRY_RUN" = 1 ] || { require_all; return; }
    for missed in "${missing[@]}"; do doing "install $missed"; done
    missing=()
}

owner_key() { # makes the owner's key where there is none
    local file=$config/.env
    if [ -n "$(from_env_file FORTRESS_API_KEY)" ]; then
        there "$file"
    else
        doing "make the owner's key, in $file"
        [ "$DRY_RUN" = 1 ] || (
            umask 077
            mkdir -p "$config"
            [ ! -s "$file" ] || [ -z "$(tail -c1 "$file")" ] || echo >>"$file"
            printf 'FORTRESS_API_KEY=%s\n' "$(od -An -tx1 -N32 /dev/urandom | tr -d ' \n')" >>"$file"
            chmod 600 "$file"
        )
    fi
}

from_env_file() { # from_env_file NAME: as .env beside the configuration has it
    local line value
    [ -r "$config/.env" ] || return 0
    line=$(grep -E "^(export )?$1=." "$config/.env" | tail -n1) || return 0
    value=${line#*=}
    case $value in \"*\" | \'*\') value=${value:1:-1} ;; esac
    printf %s "$value"
}

credential() { # credential NAME VALUE: an empty value keeps what is there
    local file=$config/credentials/$1 value=$2
    if [ -e "$file" ] && { [ -z "$value" ] || [ "$(cat "$file")" = "$value" ]; }; then
        there "$file"
        return
    fi
    doing "write $file (0600)"
    new_files[$file]=1
    [ "$DRY_RUN" = 1 ] || (
        umask 077
        mkdir -p "$config/credentials"
        printf %s "$value" >"$file.new"
        mv "$file.new" "$file"
    )
}

credentials() {
    local name
    # The value is in no argument list: printf and [ are the shell's own.
    credential FORTRESS_API_KEY "$(from_env_file FORTRESS_API_KEY)"
    for name in ANTHROPIC_API_KEY OPENAI_API_KEY; do
        credential "$name" "${!name:-$(from_env_file "$name")}"
    done
}

put() { # put SOURCE TARGET MODE: in one step, under whoever runs it
    if cmp -s "$1" "$2"; then
        there "$2"
        return
    fi
    doing "install $2"
    new_files[$2]=1
    [ "$DRY_RUN" = 1 ] || { install -D -m "$3" "$1" "$2.new" && mv "$2.new" "$2"; }
}

programs() {
    local name
    for name in "${programs[@]}"; do put "$from/$name" "$bin/$name" 755; done
    for name in send_task.sh poll_task.sh run-worker; do put "$name" "$bin/$name" 755; done
}

units() {
    local name before=${#done_steps[@]}
    for name in coordinator gateway launcher@; do
        put "install/units/code-workers-$name.service" "$units/code-workers-$name.service" 644
    done
    if may_make_namespaces; then
        put install/units/code-workers-gateway-namespaces.conf "$units/code-workers-gateway.service.d/namespaces.conf" 644
    else
        say 'note: a user may not make namespaces here, so the gateway sees what you see; the rest of its hardening holds'
        say '      (sysctl kernel.apparmor_restrict_unprivileged_userns; runsc as a plain user wants the same)'
    fi
    if wants_vsock; then
        for name in coordinator gateway; do
            put "install/units/code-workers-$name-vsock.conf" "$units/code-workers-$name.service.d/vsock.conf" 644
        done
    fi
    [ "${#done_steps[@]}" = "$before" ] || run systemctl --user daemon-reload
}

may_make_namespaces() { # what the gateway is to be hidden behind works, and the home folder is hidden
    local properties
    [ "$DRY_RUN" = 0 ] || return 0
    mapfile -t properties < <(sed -n '/%/d; s/^[A-Z].*=.*/--property=&/p' install/units/code-workers-gateway-namespaces.conf)
    # shellcheck disable=SC2016 # the inner shell's
    systemd-run --user --quiet --wait --collect "${properties[@]}" sh -c '! test -e "$0"' "$bin/code-workers" 2>/dev/null
}

linger() {
    local user
    user=$(id -un)
    if [ "$(loginctl show-user "$user" --property=Linger --value 2>/dev/null || true)" = yes ]; then
        there "lingering of $user"
    else
        doing "let services of $user run without a login (loginctl enable-linger $user)"
        if [ "$DRY_RUN" = 0 ]; then
            loginctl --no-ask-password enable-linger "$user" 2>/dev/null ||
                run_as_root loginctl enable-linger "$user"
            mkdir -p "$data"
            touch "$data/.lingering-by-install"
        fi
    fi
    [ "$DRY_RUN" = 1 ] || wait_until 20 'the manager of your services' user_manager_answers
}

serve() { # serve UNIT FILE...: enabled, and running with these files as they are now
    local unit=$1 do=start
    shift
    [ -z "${served[$unit]:-}" ] || return 0
    served[$unit]=1
    if [ "$(systemctl --user is-enabled "$unit" 2>/dev/null)" = enabled ]; then there "$unit"; else
        run systemctl --user enable --quiet "$unit"
    fi
    if is_older "$unit" "$@"; then do=restart; elif systemctl --user is-active --quiet "$unit" 2>/dev/null; then return; fi
    case $unit in
    *launcher@*) run systemctl --user --no-block $do "$unit" ;; # its tasks run to their end first
    *) run systemctl --user $do "$unit" ||
        fail "$unit does not start: systemctl --user status $unit, or journalctl --user -u $unit, says why" ;;
    esac
}

is_older() { # is_older UNIT FILE...: it was started before one of them
    local since file
    since=$(systemctl --user show --property=InactiveExitTimestamp --timestamp=us+utc --value "$1" 2>/dev/null) || return 1
    [ -n "$since" ] || return 1
    shift
    for file in "$@"; do [ -z "${new_files[$file]:-}" ] || return 0; done
    [ -n "$(find "$@" -maxdepth 0 -newermt "$since" 2>/dev/null)" ]
}

launcher() { # launcher NAME
    serve "code-workers-launcher@$1.service" "$bin"/code-workers-{launcher,worker,relay} \
        "$units/code-workers-launcher@.service" "$config/credentials/FORTRESS_API_KEY"
}

repo() { # repo NAME[=PATH-OR-URL]
    local name=${1%%=*} known
    known=$([ ! -x "$bin/code-workers" ] || "$bin/code-workers" repo list 2>/dev/null | awk -v name="$name" '$1 == name') || true
    case $1 in
    *=*) if [ -n "$known" ]; then there "repository $name"; else run "$bin/code-workers" repo add "$name" "${1#*=}"; fi ;;
    *) [ -n "$known" ] || [ "$DRY_RUN" = 1 ] || fail "there is no repository $name: say --repo $name=PATH-OR-URL" ;;
    esac
    launcher "$name"
}

wants_vsock() { [ "$vsock" = 1 ] || [ -e "$system_units/code-workers-coordinator-relay.service" ]; }

relays() { # the system's part: what VMs connect to
    local name unit rendered before=${#done_steps[@]}
    wants_vsock || return 0
    rendered=$(mktemp)
    put_as_root "$from/code-workers-relay" /opt/code-workers/code-workers-relay 755
    for name in coordinator gateway; do
        sed "s/@UID@/$(id -u)/" "install/units/code-workers-$name-relay.service" >"$rendered"
        put_as_root "$rendered" "$system_units/code-workers-$name-relay.service" 644
    done
    rm "$rendered"
    [ "${#done_steps[@]}" = "$before" ] || run_as_root systemctl daemon-reload
    for name in coordinator gateway; do
        unit=code-workers-$name-relay.service
        if [ "$(systemctl is-enabled "$unit" 2>/dev/null)" = enabled ]; then there "$unit"; else
            run_as_root systemctl enable --quiet "$unit"
        fi
        if [ "${#done_steps[@]}" != "$before" ] || ! systemctl is-active --quiet "$unit"; then
            run_as_root systemctl restart "$unit" || fail "$unit does not start: systemctl status $unit says why"
        fi
    done
}

shim() { # what sandboxes in the VM's Docker call skia
    [ -n "$vm" ] || return 0
    local said
    if [ "$DRY_RUN" = 1 ]; then
        doing "set up coordinator-shim in $vm, through ssh"
        return
    fi
    say "\$ ssh $vm sudo …/setup.sh up"
    said=$(tar -c -C "$PWD/install/vm" . -C "$(cd "$from" && pwd)" code-workers-relay |
        ssh -- "$vm" 'folder=$(mktemp -d) && tar -x -C "$folder" && sudo "$folder/setup.sh" up; code=$?; rm -r "$folder"; exit $code') ||
        fail "coordinator-shim is not set up in $vm: $said"
    say "$said"
    case $said in *'nothing was changed'*) there "coordinator-shim in $vm" ;; *) done_steps+=("coordinator-shim in $vm") ;; esac
}

put_as_root() { # put_as_root SOURCE TARGET MODE
    if cmp -s "$1" "$2"; then
        there "$2"
        return
    fi
    run_as_root install -D -m "$3" "$1" "$2.new"
    run_as_root mv "$2.new" "$2"
}

prototype() { # what was there before this project
    [ -e /opt/bin/worker-up ] || return 0
    say 'an earlier prototype left /opt/bin/worker-up:'
    run_as_root rm /opt/bin/worker-up
}

declare -A new_files=() served=()
require_systemd
need git 'repositories' git
need curl 'the scripts' curl
need_runsc
require_needs
build
for name in "${programs[@]}"; do
    [ -x "$from/$name" ] || [ "$DRY_RUN" = 1 ] || fail "$from/$name is not there: cargo build builds it"
done
linger
require_same_folders
require_not_up
programs
owner_key
credentials
units
serve code-workers-coordinator.service "$bin"/code-workers-{coordinator,repository} \
    "$units/code-workers-coordinator.service" "$config/credentials/FORTRESS_API_KEY"
serve code-workers-gateway.service "$bin/code-workers-gateway" "$units/code-workers-gateway.service" \
    "$units/code-workers-gateway.service.d/namespaces.conf" "$config"/credentials/{ANTHROPIC,OPENAI}_API_KEY
[ "$DRY_RUN" = 1 ] || wait_until 20 'the coordinator' coordinator_answers
for repo in "${repos[@]}"; do repo "$repo"; done
for unit in $(running_launchers); do # those that are not named here
    unit=${unit#code-workers-launcher@}
    launcher "${unit%.service}"
done
relays
shim
prototype
summary
