#!/bin/busybox sh
# shellcheck shell=dash
# The first program of the VM: loads what its devices need, and goes over to its disk.
for module in $MODULES; do
    [ ! -e "/modules/$module.ko" ] || /bin/busybox insmod "/modules/$module.ko"
done
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t ext4 /dev/vda /disk
/bin/busybox mount -t devtmpfs dev /disk/dev
/bin/busybox mount -t tmpfs run /disk/run
/bin/busybox cp -a /job /disk/run/job
exec /bin/busybox switch_root /disk /bin/sh /run/job/start.sh
