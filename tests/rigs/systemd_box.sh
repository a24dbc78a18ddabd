#!/bin/bash
# Boots systemd as process 1, with a system bus of its own, in namespaces of this machine: no VM, a second or two.
# Called by systemd_box.py. usage: systemd_box.sh ROOT BOOT_ID     (as root; becomes the parent of the new process 1)
#
# ROOT is a folder that will be its root filesystem. BOOT_ID is what it takes for the kernel's boot id, for otherwise all
# boxes and all their boots would share this machine's. Nothing of the machine itself can be changed from within: sysfs
# and /proc/sys are read-only, the network is its own and empty.
set -euo pipefail

inner() { # runs in the new namespaces, and becomes systemd
  local root=$1 boot_id=$2
  mount --make-rprivate /
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount --bind "$root/proc/sys" "$root/proc/sys"
  mount -o remount,ro,bind "$root/proc/sys" # systemd-sysctl must not change the machine
  mount -t sysfs -o ro sysfs "$root/sys"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  mount -t tmpfs -o mode=755 tmpfs "$root/run"
  mount -t tmpfs -o mode=755 tmpfs "$root/dev"
  echo "$boot_id" >"$root/run/boot_id"
  mount --bind "$root/run/boot_id" "$root/proc/sys/kernel/random/boot_id"
  mkdir "$root/dev/pts" "$root/dev/shm"
  mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
  mount -t tmpfs tmpfs "$root/dev/shm"
  ln -s pts/ptmx "$root/dev/ptmx"
  for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
  done
  # The machine's kernel log is not the box's: what one boot of a box writes there, the next would take for its own.
  touch "$root/dev/kmsg"
  mount --bind /dev/null "$root/dev/kmsg"
  ip link set lo up
  cd "$root"
  pivot_root . mnt
  umount -l /mnt
  exec env -i container=holdfast-test PATH=/usr/sbin:/usr/bin \
    /lib/systemd/systemd --system --log-target=journal </dev/null
}

if [ "${1:?}" = inner ]; then
  inner "$2" "$3"
fi
# Its own cgroup below ours: the cgroup namespace then makes that the root that systemd sees.
tree=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
mkdir "$tree/holdfast-box-$$"
echo $$ >"$tree/holdfast-box-$$/cgroup.procs"
exec unshare --fork --pid --mount --uts --ipc --net --cgroup --kill-child "$0" inner "$1" "$2"
