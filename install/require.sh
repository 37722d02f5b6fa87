# shellcheck shell=bash
# What quickstart.sh and test.sh need on a machine: each need is looked for, told, and installed as root or with
# sudo. Sourced, never run. Nothing is downloaded but from apt, cargo and npm.

# Set by the caller: NO_INSTALL=1 names what is missing instead of installing it.
NO_INSTALL=${NO_INSTALL:-0}
missing=()

say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

can_install() { [ "$NO_INSTALL" = 0 ] && { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; }; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

apt_updated=0
apt_install() { # apt_install [-t SUITE] PACKAGE...
    if [ "$apt_updated" = 0 ]; then
        as_root apt-get update -qq || true # a half-fresh list still holds what we need
        apt_updated=1
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@" >/dev/null </dev/null
}

# need COMMAND WHAT-FOR PACKAGE...: a command that apt can bring.
need() {
    local command=$1 reason=$2
    shift 2
    command -v "$command" >/dev/null && return
    if can_install && command -v apt-get >/dev/null; then
        say "installing $* ($reason) with apt"
        apt_install "$@" || missing+=("$command ($reason): apt-get install $* failed; install it by hand")
    else
        missing+=("$command ($reason): apt-get install $*")
    fi
}

need_rust() {
    [ -d "$HOME/.cargo/bin" ] && PATH=$HOME/.cargo/bin:$PATH
    command -v cargo >/dev/null || missing+=("cargo, 1.95 or newer (to build): see https://rustup.rs")
}

# gVisor. Debian 12 itself has a version of 2022 with which ls fails inside; its backports have a good one.
runsc_found() { command -v "${CODE_WORKERS_RUNSC:-runsc}" >/dev/null; }
need_runsc() {
    runsc_found && return
    local suite='' codename
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    [ "$codename" = bookworm ] && suite=bookworm-backports
    if ! can_install || ! command -v apt-get >/dev/null; then
        missing+=("runsc (gVisor, the sandbox): apt-get install${suite:+ -t $suite} runsc, or https://gvisor.dev/docs/user_guide/install")
        return
    fi
    say "installing runsc (gVisor, the sandbox) with apt${suite:+ from $suite}"
    [ -z "$suite" ] || add_suite "$suite" || { missing+=("runsc: no Debian mirror was found among apt's sources"); return; }
    apt_install ${suite:+-t "$suite"} runsc ||
        missing+=("runsc (gVisor, the sandbox): apt has none; see https://gvisor.dev/docs/user_guide/install")
}

# Adds a suite from the mirror that apt already uses for the release, with the same key.
add_suite() {
    local suite=$1 list=/etc/apt/sources.list.d/code-workers-$1.sources mirror
    apt-cache policy | grep -q "n=$suite" && return
    # shellcheck disable=SC2016 # apt's own names, not the shell's
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
        awk '$2 == "bookworm" && $3 == "main" { print $1; exit }')
    [ -n "$mirror" ] || return 1
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
        "$mirror" "$suite" | as_root tee "$list" >/dev/null
    apt_updated=0
}

# Docker with gVisor among its runtimes. On a user's machine it is only looked for: its daemon is theirs. In CI it is
# installed, told of runsc, and started where none runs; docker_end ends what was started here.
docker_daemon=''
docker_found() { docker info --format '{{json .Runtimes}}' 2>/dev/null | grep -q "\"${1:-runsc}\""; }
need_docker() {
    docker_found && { [ "${CI:-}" != true ] || docker_found runsc-host; } && return
    local remedy='see "Docker'"'"'s daemon" in docs/configuration.md'
    if [ "${CI:-}" != true ] || [ "$(id -u)" != 0 ] || ! can_install || ! runsc_found; then
        missing+=("Docker with the runtime runsc (sandboxes in Docker): $remedy")
        return
    fi
    need dockerd 'sandboxes in Docker' docker.io
    docker_tell_runsc
    if docker info >/dev/null 2>&1; then
        kill -HUP "$(cat /var/run/docker.pid)" # reads its runtimes again
    else
        say 'starting dockerd'
        dockerd >/tmp/code-workers-dockerd.log 2>&1 &
        docker_daemon=$!
    fi
    for _ in $(seq 60); do
        docker_found runsc-host && return
        sleep 1
    done
    missing+=("Docker with the runtime runsc (sandboxes in Docker): dockerd has not come up within 60 s, see /tmp/code-workers-dockerd.log")
}
docker_end() { [ -z "$docker_daemon" ] || { kill "$docker_daemon"; wait "$docker_daemon" || true; }; }

# Adds runsc to the daemon's runtimes and leaves the rest of its configuration as it is. Containers get no network and
# runsc leaves cgroups alone: what a CI machine that is a container itself can do. For the tests of a network there is a
# second one, with the network stack of the container's own namespace.
docker_tell_runsc() {
    mkdir -p /etc/docker
    python3 - /etc/docker/daemon.json "$(command -v "${CODE_WORKERS_RUNSC:-runsc}")" <<'PYTHON'
import json, os, sys
path, runsc = sys.argv[1:]
settings = json.load(open(path)) if os.path.exists(path) else {}
for name, network in [("runsc", "none"), ("runsc-host", "host")]:
    arguments = [f"--network={network}", "--host-uds=open", "--ignore-cgroups"]
    settings.setdefault("runtimes", {}).setdefault(name, {"path": runsc, "runtimeArgs": arguments})
json.dump(settings, open(path, "w"))
PYTHON
}

# What boots in a container as a machine of its own (e2e/src/machine/boot.sh).
need_systemd() {
    local file
    for file in /usr/lib/systemd/systemd:systemd /usr/bin/sudo:sudo /usr/bin/dbus-daemon:dbus-user-session \
        "/usr/lib/$(uname -m)-linux-gnu/security/pam_systemd.so:libpam-systemd"; do
        [ -e "${file%:*}" ] || need "${file%:*}" 'services' "${file#*:}"
    done
}

need_node() { need node 'to install agent CLIs' nodejs; need npm 'to install agent CLIs' npm; }

# need_agent NAME FOLDER: an agent CLI at the version that agents/NAME.toml pins, into FOLDER/NAME.
need_agent() {
    local name=$1 folder=$2/$1 package
    package=$(sed -n 's/^npm *= *"\(.*\)"$/\1/p' "agents/$name.toml")
    [ -n "$package" ] || fail "agents/$name.toml names no npm package"
    [ "$(cat "$folder/.installed" 2>/dev/null)" = "$package" ] && return
    if [ "$NO_INSTALL" != 0 ]; then
        missing+=("$name: npm install --prefix $folder $package && echo $package > $folder/.installed")
        return
    fi
    command -v npm >/dev/null || return 0 # is already named
    say "installing $package into $folder with npm"
    mkdir -p "$folder"
    if npm install --prefix "$folder" --no-save --no-audit --no-fund --loglevel=error "$package" </dev/null; then
        printf '%s\n' "$package" >"$folder/.installed"
    else
        missing+=("$name: npm install --prefix $folder $package failed")
    fi
}

# need_vm FOLDER: qemu, and Debian's kernel for virtual machines as FOLDER/vmlinuz and FOLDER/modules/*.ko, for a VM
# by emulation that boots beside everything else. Nothing of it is installed but the emulator and its tools.
need_vm() {
    local folder=$1 suite=''
    if [ "$(uname -m)" != x86_64 ]; then missing+=('a VM (real vsock): x86_64 only'); return; fi
    need busybox 'the VM' busybox-static
    need cpio 'the VM' cpio
    [ -x /usr/sbin/mke2fs ] || need mke2fs "the VM's disk" e2fsprogs
    if ! command -v qemu-system-x86_64 >/dev/null && can_install && command -v apt-get >/dev/null; then
        # Where a part of qemu is from the backports already, the rest must be too.
        if [ "$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")" = bookworm ] &&
            add_suite bookworm-backports; then
            suite=bookworm-backports
        fi
        say "installing qemu-system-x86 (the VM) with apt${suite:+ from $suite}"
        apt_install ${suite:+-t "$suite"} qemu-system-x86 ${suite:+qemu-system-common qemu-system-data qemu-utils} || true
    fi
    command -v qemu-system-x86_64 >/dev/null || missing+=('qemu-system-x86_64 (the VM): apt-get install qemu-system-x86')
    [ -e "$folder/vmlinuz" ] || fetch_kernel "$folder" ||
        missing+=("a kernel for the VM: ./test.sh unpacks Debian's linux-image-cloud-amd64 into $folder")
}

# The package that linux-image-cloud-amd64 stands for, unpacked.
fetch_kernel() {
    local folder=$1 scratch name
    [ "$NO_INSTALL" = 0 ] && command -v apt-get >/dev/null || return 1
    if can_install && [ "$apt_updated" = 0 ]; then
        as_root apt-get update -qq || true
        apt_updated=1
    fi
    name=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '$1 == "Depends:" { print $2; exit }')
    [ -n "$name" ] || return 1
    say "unpacking $name (the VM's kernel) into $folder"
    scratch=$(mktemp -d)
    # As root, apt says that it fetched without its own user: the folder is ours alone.
    (cd "$scratch" && apt-get download -qq "$name" 2>/dev/null && dpkg -x ./*.deb tree) || { rm -rf "$scratch"; return 1; }
    mkdir -p "$folder/modules"
    find "$scratch/tree" \( -name 'virtio*.ko*' -o -path '*/vmw_vsock/*.ko*' \) -exec cp {} "$folder/modules/" \;
    find "$folder/modules" -name '*.xz' -exec xz --decompress --force {} +
    cp "$scratch"/tree/boot/vmlinuz-* "$folder/vmlinuz"
    rm -rf "$scratch"
}

# Ends the program when something is missing, naming all of it.
require_all() {
    [ ${#missing[@]} = 0 ] && return
    printf 'These are missing:\n' >&2
    printf '  %s\n' "${missing[@]}" >&2
    exit 1
}
