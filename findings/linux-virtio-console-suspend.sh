#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Linux 7.3.4 (Debian 7.3.4-1~bpo13+1, amd64): a virtio-serial port does not work after the guest has slept.
#
# Versions: Linux 7.3.4-1~bpo13+1, QEMU 1:11.1.3+ds-1~bpo13+1, of Debian.
#
# When the device is resumed, virtcons_restore() tells QEMU that each port is ready, and QEMU answers whether the host has the port
# open. The queue for the answer gets its buffers only after that, so QEMU (11.1.3) drops the answer. The port counts as not
# connected from then on: a read returns 0 bytes, and a write waits until the driver is unbound. "devices" in /sys/power/pm_test is
# enough, with which the devices sleep and the processor does not.
#
# Guess before the run: the port is connected after the sleep as it was before.
# Seen:
#
#   before: host_connected: 1
#   slept with status 0
#   after: host_connected: 0
#   the driver bound anew: host_connected: 1
#
# Needs Debian with apt; downloads the packages and their dependencies from the archive that apt is configured for, some 100 MB, and
# installs nothing. An emulated guest of 512 MiB runs for a few seconds, without a disk and without a network.
# Exit status: 0 as described, 1 if the kernel or QEMU differs from the description, 2 if it could not be tried.

set -euo pipefail

kernel=7.3.4+deb13-amd64
packages=(
	qemu-system-x86=1:11.1.3+ds-1~bpo13+1
	"linux-binary-$kernel=7.3.4-1~bpo13+1"
	busybox-static=1:1.37.0-6+b9
)
directory=$(mktemp -d)
trap 'kill $(jobs -p) 2> /dev/null || true; rm -rf "$directory"' EXIT

cannot() {
	echo "cannot be tried: $*" >&2
	exit 2
}

# A separate configuration of apt: the machine's is not changed.
read -r uri _ < <(apt-get indextargets --format '$(REPO_URI) $(COMPONENT)' 'Created-By: Packages' |
	grep -v security | grep ' main$') || cannot "apt knows no archive"
mkdir -p "$directory"/{lists/partial,archives/partial,root}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
for suite in trixie trixie-backports; do
	echo "deb [signed-by=$keyring] $uri $suite main"
done > "$directory/sources.list"
cat > "$directory/apt.conf" << END
Dir::Etc::sourcelist "$directory/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$directory/lists";
Dir::State::status "/dev/null";
Dir::Cache "$directory";
APT::Architecture "amd64";
APT::Install-Recommends "false";
APT::Sandbox::User "";
END
export APT_CONFIG=$directory/apt.conf
apt-get -qq update || cannot "apt-get update failed"
apt-get -qq --yes --download-only --target-release trixie-backports install "${packages[@]}" > /dev/null ||
	cannot "not in the archive: ${packages[*]}"
root=$directory/root
for package in "$directory"/archives/*.deb; do
	dpkg-deb --extract "$package" "$root"
done

guest=$directory/guest
mkdir -p "$guest"/{bin,dev,proc,sys}
cp "$root/usr/bin/busybox" "$guest/bin"
cat > "$guest/init" << 'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs devices /dev
mount -t proc processes /proc
mount -t sysfs system /sys
mount -t debugfs debug /sys/kernel/debug
exec > /dev/ttyS0 2>&1
dmesg -n 1
connected() {
	echo "seen $1: $(grep host_connected /sys/kernel/debug/virtio-ports/*)"
}
driver=/sys/bus/virtio/drivers/virtio_console
device=$(cd $driver && ls -d virtio[0-9]*)
# QEMU's answer comes with an interrupt.
await() {
	for _ in $(seq 50); do
		! grep -q 'host_connected: 1' /sys/kernel/debug/virtio-ports/* || return
		sleep 0.1
	done
}
await
connected before
echo 0 > /sys/module/suspend/parameters/pm_test_delay
echo devices > /sys/power/pm_test
echo mem > /sys/power/state
echo "seen slept with status $?"
await
connected after
echo $device > $driver/unbind
echo $device > $driver/bind
await
connected "the driver bound anew"
echo seen the end
poweroff -f
END
chmod +x "$guest/init"
(cd "$guest" && find . | "$root/usr/bin/busybox" cpio -o -H newc 2> /dev/null) > "$directory/initrd"

libraries=$root/usr/lib/x86_64-linux-gnu
# Takes the place of the subshell that it is called in, so that no QEMU outlives the script.
qemu() {
	exec "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" "$root/usr/bin/qemu-system-x86_64" \
		-L "$root/usr/share/qemu" -L "$root/usr/share/seabios" -accel tcg -machine q35 -nodefaults -no-user-config \
		-display none "$@" 2>> "$directory/log"
}

# The head of this script has what was seen.
expected=$(sed -n 's/^#   //p' "$0")
all=()
ended=0
while read -r what line; do
	[[ $what == seen ]] || continue
	if [[ $line == "the end" ]]; then
		ended=1
	else
		echo "$line"
		all+=("$line")
	fi
done < <(qemu -m 512M -no-reboot -serial stdio -kernel "$root/usr/lib/modules/$kernel/vmlinuz" -initrd "$directory/initrd" \
	-append "console=ttyS0 quiet panic=-1" -device virtio-serial-pci -chardev file,id=port,path=/dev/null \
	-device virtserialport,chardev=port,name=port < /dev/null | tr -d '\r')
[[ $ended == 1 ]] || cannot "the guest did not come to its end: $(tail -n 1 "$directory/log")"
[[ $(printf '%s\n' "${all[@]}") != "$expected" ]] || exit 0
echo "this is not what was seen before"
exit 1
