#!/bin/sh
# The guest's disk, kernel and initrd for virtual_machine.py: Debian 12 with systemd, storage tools and a Python
# environment without our program, which comes on a disk of its own. As root; needs mmdebstrap, e2fsprogs, qemu-utils.
# usage: virtual_machine.sh FOLDER
set -eu
folder=${1:?usage: virtual_machine.sh FOLDER}
root=$(mktemp -d "$folder/root.XXXXXX")
trap 'rm -rf "$root"' EXIT
trap 'exit 1' HUP INT TERM

packages=linux-image-amd64,initramfs-tools,lz4,systemd-sysv,dbus,udev,kmod,iproute2,procps,qemu-guest-agent
packages=$packages,python3,python3-venv,e2fsprogs,dmsetup,mdadm,lvm2,thin-provisioning-tools,smartmontools,sg3-utils

# The initrd does no more than find and mount the root filesystem.
# shellcheck disable=SC2016 # mmdebstrap's shell shall expand $1
initrd='mkdir -p "$1/etc/initramfs-tools/conf.d"
printf "MODULES=list\nCOMPRESS=lz4\nRESUME=none\n" >"$1/etc/initramfs-tools/conf.d/rig"
printf "virtio_pci\nvirtio_blk\next4\ncrc32c_generic\n" >"$1/etc/initramfs-tools/modules"'

mmdebstrap --quiet --variant=minbase --include="$packages" \
    --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --extract-hook="$initrd" bookworm "$root"

echo guest >"$root/etc/hostname"
printf '/dev/vda / ext4 errors=remount-ro 0 1\n/dev/vdb /opt/product ext4 ro 0 0\n' >"$root/etc/fstab"
mkdir -p "$root/opt/product" "$root/var/log/journal"
chroot "$root" python3 -m venv --without-pip /opt/holdfast
echo /opt/product >"$root/opt/holdfast/lib/python3.11/site-packages/product.pth"
printf '#!/opt/holdfast/bin/python3\nimport sys\nfrom holdfast_agent.__main__ import main\nsys.exit(main())\n' \
    >"$root/opt/holdfast/bin/holdfast-agent"
chmod 755 "$root/opt/holdfast/bin/holdfast-agent"
printf '[Match]\nType=ether\n[Network]\nDHCP=ipv4\n' >"$root/etc/systemd/network/10-guest.network"
chroot "$root" systemctl --quiet enable systemd-networkd
# Slow without KVM, and of no use to a guest that lives for minutes. LVM's and md's own monitors would repair or mail.
chroot "$root" systemctl --quiet mask systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service lvm2-monitor.service fstrim.timer \
    smartmontools.service mdmonitor.service
: >"$root/etc/machine-id" # the first boot writes it

cp "$root"/boot/vmlinuz-* "$folder/vmlinuz"
cp "$root"/boot/initrd.img-* "$folder/initrd.img"
mke2fs -q -t ext4 -d "$root" "$folder/root.raw" 3G
qemu-img convert -O qcow2 "$folder/root.raw" "$folder/root.qcow2"
rm -f "$folder/root.raw"
