#!/bin/sh
# setup.sh up|down: installs the shim in the VM that it runs in, or takes it away. As root. install.sh --vm sends it
# there together with the program and the units, which lie beside it.
set -eu

fail() { echo "error: $*" >&2; exit 1; }
put() { # put FILE TARGET MODE
    if cmp -s "$1" "$2"; then return; fi
    mkdir -p "$(dirname "$2")"
    cp "$1" "$2.new"
    chmod "$3" "$2.new"
    mv "$2.new" "$2"
    echo "install $2"
    changed=yes
}

[ "$(id -u)" = 0 ] || fail 'this has to be done by root'
[ -d /run/systemd/system ] || fail 'this VM is not run by systemd'
command -v docker >/dev/null || fail 'there is no docker in this VM'
units='coordinator-shim-vsock.service coordinator-shim.service'

case ${1:-} in
up)
    cd "$(dirname "$0")"
    docker network inspect sandbox_net >/dev/null 2>&1 ||
        fail 'Docker has no network sandbox_net: docker network create --internal sandbox_net, or install the fortress first'
    changed=no
    put code-workers-relay /opt/code-workers/code-workers-relay 755
    for unit in $units; do put "$unit" "/etc/systemd/system/$unit" 644; done
    if [ "$changed" = yes ] || ! docker image inspect code-workers-shim >/dev/null 2>&1; then
        tar -c code-workers-relay | docker import - code-workers-shim >/dev/null
        changed=yes
    fi
    for unit in $units; do systemctl is-active --quiet "$unit" || changed=yes; done
    if [ "$changed" = no ]; then
        echo 'all there: nothing was changed'
        exit
    fi
    systemctl daemon-reload
    # shellcheck disable=SC2086 # two names
    systemctl enable --quiet $units
    # shellcheck disable=SC2086
    systemctl restart $units
    echo 'coordinator-shim is up: skia:7222 in sandbox_net'
    ;;
down)
    for unit in $units; do
        [ ! -e "/etc/systemd/system/$unit" ] || systemctl disable --quiet --now "$unit"
        rm -f "/etc/systemd/system/$unit"
    done
    systemctl daemon-reload
    docker image rm --force code-workers-shim >/dev/null 2>&1 || true
    rm -rf /opt/code-workers
    echo 'coordinator-shim is gone'
    ;;
*) fail 'usage: setup.sh up|down' ;;
esac
