#!/usr/bin/env bash
# Takes away what install.sh installed: services, units, programs. Your keys, tasks and repositories' mirrors are kept.
#
#   ./uninstall.sh [--purge] [--vm HOST]
#
#   --vm HOST  take coordinator-shim away from this VM too, through ssh
#   --purge    take the keys and the data away too
#   --dry-run  say each step, and do none
set -euo pipefail
cd "$(dirname "$0")"

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; }
DRY_RUN=0 purge=0 vm=''
while [ $# -gt 0 ]; do
    case $1 in
    --dry-run) DRY_RUN=1 ;;
    --purge) purge=1 ;;
    --vm)
        [ -n "${2:-}" ] || { usage >&2; exit 2; }
        vm=$2
        shift
        ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
done

# shellcheck source=install/require.sh
. install/require.sh
# shellcheck source=install/services.sh
. install/services.sh

gone() { # gone PATH...: those that are there
    local path
    for path in "$@"; do
        if [ -e "$path" ] || [ -L "$path" ]; then run rm -rf -- "$path"; fi
    done
}

services() {
    local unit
    # Launchers first: they tell the coordinator how their tasks ended. A second SIGTERM brings back what there is.
    for unit in $(running_launchers); do
        run systemctl --user --no-block stop "$unit"
        run systemctl --user kill --kill-whom=main --signal=TERM "$unit"
    done
    for unit in $(running_launchers); do
        run systemctl --user stop "$unit"
        # A keeper may still try to deliver. What it has stays in its folder.
        [ "$DRY_RUN" = 1 ] || systemctl --user kill --signal=KILL "$unit" 2>/dev/null || true
    done
    for unit in code-workers-gateway.service code-workers-coordinator.service; do
        if systemctl --user is-active --quiet "$unit"; then run systemctl --user stop "$unit"; fi
    done
    for unit in $(installed_units); do run systemctl --user disable --quiet "$unit"; done
}

installed_units() {
    systemctl --user list-unit-files --no-legend --state=enabled 'code-workers-*' | awk '{ print $1 }'
    find "$units/default.target.wants" -name 'code-workers-launcher@*' -printf '%f\n' 2>/dev/null || true
}

relays() { # the system's part
    local unit found=()
    for unit in code-workers-coordinator-relay.service code-workers-gateway-relay.service; do
        [ ! -e "$system_units/$unit" ] || found+=("$unit")
    done
    if [ ${#found[@]} != 0 ]; then
        run_as_root systemctl disable --quiet --now "${found[@]}"
        run_as_root rm "${found[@]/#/$system_units/}"
        run_as_root systemctl daemon-reload
    fi
    [ ! -e /opt/code-workers ] || run_as_root rm -r /opt/code-workers
}

lingering() {
    local user
    user=$(id -un)
    [ -e "$data/.lingering-by-install" ] || return 0
    doing "let services of $user end with its last login again, as before"
    [ "$DRY_RUN" = 1 ] || {
        rm "$data/.lingering-by-install"
        loginctl --no-ask-password disable-linger "$user" 2>/dev/null ||
            run_as_root loginctl disable-linger "$user"
    }
}

shim() {
    [ -n "$vm" ] || return 0
    doing "take coordinator-shim away from $vm: ssh $vm sudo sh -s down"
    [ "$DRY_RUN" = 1 ] || ssh -- "$vm" 'sudo sh -s down' <install/vm/setup.sh || fail "it is still in $vm: see above"
}

require_systemd
shim
relays
if user_manager_answers; then services; fi
for name in "${programs[@]}" send_task.sh poll_task.sh run-worker; do gone "$bin/$name"; done
gone "$units"/code-workers-*
if user_manager_answers; then run systemctl --user daemon-reload; fi
gone "$XDG_RUNTIME_DIR/code-workers" "$config/credentials"
lingering
if [ "$purge" = 1 ]; then gone "$config" "$data"; fi
[ "$DRY_RUN" = 1 ] || for folder in "$units/default.target.wants" "$units" "${units%/*}" "$bin" "${config%/*}" "${data%/*}" "${bin%/*}"; do
    rmdir "$folder" 2>/dev/null || true # where nothing else is in it
done
say
if [ ${#done_steps[@]} = 0 ]; then say 'Nothing was installed.'; else say "Done: ${#done_steps[@]} steps."; fi
for kept in "$config" "$data"; do
    [ ! -e "$kept" ] || say "  kept: $kept (./uninstall.sh --purge takes it away too)"
done
