#!/bin/sh
# PID 1 of the VM once its disk is there: no service manager, cgroup v2, and one job.
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t tmpfs tmp /tmp
ip link set lo up
echo 'guest: up'
# shellcheck source=/dev/null
. /run/job/job.sh
echo 'guest: done'
poweroff -f
