#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# QEMU 11.1.3 (Debian 1:11.1.3+ds-1~bpo13+1, amd64): a guest migrates to a disk of another size, block size, data transfer size and
# serial number, without an error or a warning.
#
# Since 11.1 the nvme device migrates. The stream does not have the device's properties: QEMU compares neither the capacity of the
# namespace nor the size of its blocks, so the commands of the migrated guest address other bytes of the destination's disk, or
# none. virtio-blk behaves the same. QEMU refuses a property that changes the layout of registers or state: another number of queues.
# Only the administrator of the destination can make the disks equal.
#
# Guess before the run: a destination with another capacity or block size is refused.
# Seen:
#
#   nvme: the same disk: taken
#   nvme: half the size: taken
#   nvme: twice the size: taken
#   nvme: blocks of 4096 bytes: taken
#   nvme: another mdts: taken
#   nvme: another serial: taken
#   nvme: another number of queues: refused
#   virtio-blk-pci: half the size: taken
#   virtio-blk-pci: blocks of 4096 bytes: taken
#
# Needs Debian with apt; downloads the package and its dependencies from the archive that apt is configured for, and installs
# nothing. No guest runs and nothing is written to a disk: the machines are stopped, the disks are null-co.
# Exit status: 0 as described, 1 if QEMU differs from the description, 2 if QEMU could not be tried.

set -euo pipefail

version=1:11.1.3+ds-1~bpo13+1
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

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
apt-get -qq --yes --download-only --target-release trixie-backports install "qemu-system-x86=$version" > /dev/null ||
	cannot "no qemu-system-x86 $version in the archive"
for package in "$directory"/archives/*.deb; do
	dpkg-deb --extract "$package" "$directory/root"
done

root=$directory/root
loader=$(find "$root" -name ld-linux-x86-64.so.2 -type f | head -n 1)
qemu() {
	"$loader" --library-path "$root/usr/lib/x86_64-linux-gnu" "$root/usr/bin/qemu-system-x86_64" \
		-L "$root/usr/share/qemu" -L "$root/usr/share/seabios" -accel tcg -machine q35 -m 16M -nodefaults -no-user-config \
		-display none -S -monitor stdio "$@" 2>> "$directory/log"
}

# Prints whether a QEMU with the disk $1 accepts the state of the last source: taken, refused or gone.
takes() {
	local line seen=''
	# shellcheck disable=SC2086
	coproc destination { qemu $1 -incoming defer; }
	local pid=$destination_PID in=${destination[1]} out=${destination[0]}
	echo "migrate_incoming file:$directory/state" >&"$in"
	while [[ -z $seen ]]; do
		printf '%s\n' "info migrate" "info status" >&"$in"
		# Each answer to the second command ends a round.
		while read -r line <&"$out" && [[ $line != *"VM status:"* ]]; do
			case $line in
			*Status:*completed*) seen=taken ;;
			*Status:*failed*) seen=refused ;;
			esac
		done
		[[ $line == *"VM status:"* ]] || seen=${seen:-gone}
	done
	echo quit >&"$in"
	wait "$pid"
	echo "$seen"
}

# Migrates from the disk $1 to the disk $3, called $2, and compares the result with $4.
changed=0
try() {
	local seen
	rm -f "$directory/state"
	# shellcheck disable=SC2086
	printf 'migrate file:%s\nquit\n' "$directory/state" | qemu $1 > /dev/null
	[[ -s $directory/state ]] || cannot "no state was saved: $(tail -n 1 "$directory/log")"
	seen=$(takes "$3")
	echo "$2: $seen"
	[[ $seen == "$4" ]] || changed=1
}

nvme() {
	echo "-blockdev null-co,node-name=d,size=$1 -device nvme,drive=d,$2"
}
virtio() {
	echo "-blockdev null-co,node-name=d,size=$1 -device virtio-blk-pci,drive=d$2"
}
large=logical_block_size=4096,physical_block_size=4096
source=$(nvme 16777216 serial=a)
try "$source" "nvme: the same disk" "$source" taken
try "$source" "nvme: half the size" "$(nvme 8388608 serial=a)" taken
try "$source" "nvme: twice the size" "$(nvme 33554432 serial=a)" taken
try "$source" "nvme: blocks of 4096 bytes" "$(nvme 16777216 serial=a,$large)" taken
try "$source" "nvme: another mdts" "$(nvme 16777216 serial=a,mdts=1)" taken
try "$source" "nvme: another serial" "$(nvme 16777216 serial=b)" taken
try "$source" "nvme: another number of queues" "$(nvme 16777216 serial=a,max_ioqpairs=2)" refused
source=$(virtio 16777216 "")
try "$source" "virtio-blk-pci: half the size" "$(virtio 8388608 "")" taken
try "$source" "virtio-blk-pci: blocks of 4096 bytes" "$(virtio 16777216 ,$large)" taken
[[ $changed == 0 ]] || echo "this is not what was seen before"
exit $changed
