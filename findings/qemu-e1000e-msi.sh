#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# QEMU 11.1.3 (Debian 1:11.1.3+ds-1~bpo13+1, amd64): Linux's e1000e driver does not use MSI on the emulated 82574L (-device e1000e),
# and "ethtool -t offline" fails on it.
#
# Versions: QEMU 1:11.1.3+ds-1~bpo13+1, Linux 7.3.4-1~bpo13+1, ethtool 1:6.14.2-1, of Debian.
#
# The driver (Linux 7.3.4, parameter IntMode=1) tests MSI with the cause RXSEQ, bit 3: it unmasks the cause in IMS and writes it to
# ICS. QEMU's IMS has no such bit, so no interrupt is sent, and the driver takes INTx. MSI itself works: LSC, bit 2, is sent. The
# offline test wants an interrupt of each of the causes 0 to 9 in turn, and QEMU's IMS lacks 3, 5 and 8. It also wants register 0x178
# (376, TXCW), which QEMU does not have, and its loopback does not get its packets back.
#
# Guess before the run: a driver that is told to use MSI gets MSI, and the card passes the test of its own driver.
# Seen:
#
#   cause 0x00000004: IMS 0x0000000000000004, MSI sent
#   cause 0x00000008: IMS 0x0000000000000000, MSI not sent
#   cause 0x000003ff: IMS 0x00000000000002d7, MSI sent
#   IntMode=1: MSI interrupt test failed, using legacy interrupt.
#   IntMode=1: interrupts of eth0 are IO-APIC
#   ethtool -t: Register test (offline) 376
#   ethtool -t: Eeprom test (offline) 0
#   ethtool -t: Interrupt test (offline) 4
#   ethtool -t: Loopback test (offline) 13
#   ethtool -t: Link test (on/offline) 0
#
# Needs Debian with apt; downloads the packages and their dependencies from the archive that apt is configured for, some 250 MB, and
# installs nothing. An emulated guest of 512 MiB runs for half a minute, without a disk and without a network.
# Exit status: 0 as described, 1 if QEMU or the driver differs from the description, 2 if it could not be tried.

set -euo pipefail

kernel=7.3.4+deb13-amd64
packages=(
	qemu-system-x86=1:11.1.3+ds-1~bpo13+1
	"linux-binary-$kernel=7.3.4-1~bpo13+1"
	"linux-modules-$kernel=7.3.4-1~bpo13+1"
	busybox-static=1:1.37.0-6+b9
	ethtool=1:6.14.2-1
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
modules=usr/lib/modules/$kernel
driver=$modules/kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko.xz
for package in "$directory"/archives/*.deb; do
	if [[ $package == */linux-modules-* ]]; then
		dpkg-deb --fsys-tarfile "$package" | tar -x -C "$root" "./$driver"
	else
		dpkg-deb --extract "$package" "$root"
	fi
done

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
seen() {
	echo "$1"
	all+=("$1")
}

# Registers of the card, which has slot 4 here: BAR 0, command, MSI control, address and data; IMS and ICS. MSI goes to a byte of
# memory, where it can be read.
bar=0xfe000000
memory=0x100000
data=0x00000000cafecafe
configure() {
	printf 'outl 0xcf8 %#x\nout%s %#x %s\n' $((0x80002000 + $1 / 4 * 4)) "$2" $((0xcfc + $1 % 4)) "$3"
}
registers() {
	configure 0x10 l "$bar"
	configure 0x04 w 6
	configure 0xd4 l "$memory"
	configure 0xd8 l 0
	configure 0xdc w 0xcafe
	configure 0xd2 w 1
	printf 'writel %#x %s\n' $((bar + 0xd0)) "$1"
	printf 'writel %#x %s\n' $((bar + 0xc8)) "$1"
	printf 'readl %#x\n' $((bar + 0xd0)) "$memory"
}

# Unmasks and raises causes in a stopped machine.
try() {
	local answer values=() sent='not sent'
	coproc machine { qemu -m 16M -S -device e1000e,addr=4,romfile= -qtest stdio -qtest-log /dev/null; }
	local pid=$machine_PID in=${machine[1]} out=${machine[0]}
	registers "$1" >&"$in"
	while [[ ${#values[@]} -lt 2 ]] && read -r answer <&"$out"; do
		[[ $answer != "OK 0x"* ]] || values+=("${answer#OK }")
	done
	kill "$pid" 2> /dev/null || true
	wait "$pid" || true
	[[ ${#values[@]} == 2 ]] || cannot "QEMU gave no answer: $(tail -n 1 "$directory/log")"
	[[ ${values[1]} == 0x0000000000000000 ]] || sent=sent
	seen "cause $1: IMS ${values[0]}, MSI $sent"
}
try 0x00000004
try 0x00000008
try 0x000003ff

# The guest: busybox, the driver, and ethtool with its libraries.
busybox=$root/usr/bin/busybox
guest=$directory/guest
mkdir -p "$guest"/{bin,dev,proc,sys,lib,lib64}
cp "$busybox" "$root/usr/sbin/ethtool" "$guest/bin"
cp "$libraries"/{libc.so.6,libm.so.6,libmnl.so.0} "$guest/lib"
cp "$libraries/ld-linux-x86-64.so.2" "$guest/lib64"
"$busybox" xzcat "$root/$driver" > "$guest/e1000e.ko"
cat > "$guest/init" << 'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs devices /dev
mount -t proc processes /proc
mount -t sysfs system /sys
exec > /dev/ttyS0 2>&1
dmesg -n 1
insmod /e1000e.ko IntMode=1
ip link set eth0 up
dmesg | sed -n 's/.* eth0: \(MSI interrupt test .*\)/seen IntMode=1: \1/p'
awk '$NF == "eth0" { print "seen IntMode=1: interrupts of eth0 are " $3 }' /proc/interrupts
rmmod e1000e
insmod /e1000e.ko
ip link set eth0 up
LD_LIBRARY_PATH=/lib ethtool -t eth0 offline | awk '/offline\)/ { gsub(/[ \t]+/, " "); print "seen ethtool -t: " $0 }'
echo seen the end
poweroff -f
END
chmod +x "$guest/init"
(cd "$guest" && find . | "$busybox" cpio -o -H newc 2> /dev/null) > "$directory/initrd"
ended=0
while read -r what line; do
	[[ $what == seen ]] || continue
	if [[ $line == "the end" ]]; then
		ended=1
	else
		seen "$line"
	fi
done < <(qemu -m 512M -no-reboot -serial stdio -kernel "$root/$modules/vmlinuz" -initrd "$directory/initrd" \
	-append "console=ttyS0 quiet panic=-1" -netdev hubport,id=network,hubid=0 -device e1000e,netdev=network,romfile= \
	< /dev/null | tr -d '\r')
[[ $ended == 1 ]] || cannot "the guest did not come to its end: $(tail -n 1 "$directory/log")"
[[ $(printf '%s\n' "${all[@]}") != "$expected" ]] || exit 0
echo "this is not what was seen before"
exit 1
