#!/usr/bin/env bash
# boot.sh NAME REPOSITORY PROGRAMS: boots a machine of its own, a container whose first process is this host's systemd. It has
# the host's /usr, read-only, one user `u` who may use sudo, no network, and the two folders in /src and /programs.
set -euo pipefail
name=$1 repository=$2 programs=$3
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

mkdir -p "$root"/{usr,etc/systemd/system,etc/default,var,tmp,root,home/u,run,proc,sys,dev,opt/bin,src,programs}
chmod 1777 "$root/tmp"
for alias in bin sbin lib lib32 lib64 libx32; do
    [ ! -L "/$alias" ] || cp -a "/$alias" "$root/"
done
for file in alternatives bash.bashrc dbus-1 debian_version ld.so.cache ld.so.conf ld.so.conf.d login.defs \
    nsswitch.conf os-release pam.d profile security; do
    [ ! -e "/etc/$file" ] || cp -a "/etc/$file" "$root/etc/"
done
cat >"$root/etc/passwd" <<'EOF'
root:x:0:0:root:/root:/bin/bash
messagebus:x:100:100::/nonexistent:/usr/sbin/nologin
u:x:1000:1000::/home/u:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
EOF
printf 'root:x:0:\nmessagebus:x:100:\nu:x:1000:\nnogroup:x:65534:\n' >"$root/etc/group"
printf 'root:*:1::::::\nu:*:1::::::\n' >"$root/etc/shadow"
printf 'u ALL=(ALL) NOPASSWD: ALL\n' >"$root/etc/sudoers"
chmod 440 "$root/etc/sudoers"
chmod 640 "$root/etc/shadow"
: >"$root/etc/machine-id"
# Asks on the console.
ln -s /dev/null "$root/etc/systemd/system/systemd-firstboot.service"
# What an earlier prototype left on its machines.
printf '#!/bin/sh\n' >"$root/opt/bin/worker-up"
chown -R 1000:1000 "$root/home/u"
cat >"$root/etc/first" <<'EOF'
#!/bin/sh
# cgroups of its own, below the container's: those of the host are not its business.
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -o remount,rw /sys/fs/cgroup
else
    umount -R /sys/fs/cgroup
    mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
fi
exec /lib/systemd/systemd
EOF
chmod 755 "$root/etc/first"

tar -C "$root" -c . | docker import - "$name" >/dev/null
docker run --detach --name "$name" --hostname machine --network none --cgroupns private --cap-add SYS_ADMIN --cap-add SYS_PTRACE \
    --security-opt seccomp=unconfined --security-opt apparmor=unconfined --tmpfs /run --tmpfs /run/lock \
    --volume /usr:/usr:ro --volume "$repository:/src:ro" --volume "$programs:/programs:ro" "$name" /etc/first >/dev/null
