# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # declarations, see tools/lab/src/setup/component.rs
#
# Programs of the migrated guest that load, make and check disks, and look at a network card: fio, nvme-cli, e2fsprogs,
# blkdiscard and ethtool, with their libraries. The tree becomes part of a VM's initramfs, so only these programs are kept. So
# is libuuid for static programs, with which the kernel's own tests are linked.

needs=(toolchain)
packages=(guest-tools)

build() {
	local root=$1 sha program library libraries
	local programs=(usr/bin/fio usr/sbin/nvme usr/sbin/mke2fs usr/sbin/e2fsck usr/sbin/blkdiscard
		usr/sbin/ethtool)
	progress "unpacking"
	mkdir -p "$root"/usr/{bin,sbin,lib,lib64}
	ln -s usr/bin usr/sbin usr/lib usr/lib64 "$root"
	while read -r _ _ _ _ _ sha _; do
		unpack_package "$ferry_cache/downloads/$sha.deb" "$root"
	done < <(selected_pins guest-tools)
	libraries=usr/lib/x86_64-linux-gnu
	# Debian's link is absolute, and would point out of the tree.
	ln -sf ../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 "$root/usr/lib64/"

	for library in "${unused[@]}"; do
		stand_in "$root" usr/bin/fio "$library"
	done
	# The tree's own loader lists the libraries.
	for program in "${programs[@]}"; do
		echo "$program"
		"$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$root/$libraries" --list "$root/$program" |
			awk -v directory="$libraries" '$2 == "=>" && $1 !~ /\// { print directory "/" $1 }'
	done > "$root/list.links"
	printf '%s\n' usr/lib64/ld-linux-x86-64.so.2 usr/include/uuid/uuid.h "$libraries/libuuid.a" >> "$root/list.links"

	# A link is kept with its target.
	sort -u "$root/list.links" | while read -r library; do
		echo "$library"
		(cd "$root" && realpath --relative-to . "$library")
	done | sort -u > "$root/list"
	mkdir "$root/kept"
	tar -c -C "$root" --no-recursion --files-from "$root/list" | tar -x -C "$root/kept"
	find "$root" -mindepth 1 -maxdepth 1 -type d ! -name kept -exec rm -rf {} +
	mv "$root/kept/usr" "$root/usr"
	rm -r "$root/kept" "$root/list" "$root/list.links"

	run_program() {
		"$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$root/$libraries" "$root/$1" "${@:2}"
	}
	run_program usr/bin/fio --version
	run_program usr/sbin/nvme version
	run_program usr/sbin/mke2fs -V
	run_program usr/sbin/e2fsck -V
	run_program usr/sbin/blkdiscard --version
	run_program usr/sbin/ethtool --version
}

# Debian's fio is linked with clients of storage clusters and of remote memory, 60 MiB with their own libraries, and the
# loader binds them when fio starts. fio calls a client only for the I/O engine of the same name.
unused=(libgfapi.so.0 libibverbs.so.1 libnbd.so.0 libnfs.so.14 libpmem.so.1 librados.so.2 librbd.so.1 librdmacm.so.1)

# Makes a library $3 in the root $1 that has only the symbols that the program $2 binds to, with their versions. A call of
# such a symbol is an illegal instruction.
stand_in() {
	local root=$1 program=$2 library=$3 prefix versions
	# Symbols without a version are recognised by their prefix.
	prefix=${library#lib}
	prefix=${prefix%%.*}_
	versions=$(in_toolchain x86_64-linux-gnu-objdump -p "$path/$program" | awk -v library="$library:" '
		$1 == "required" { wanted = $3 == library; next }
		NF != 4 { wanted = 0 }
		wanted { print $4 }')
	in_toolchain x86_64-linux-gnu-readelf -W --dyn-syms "$path/$program" | awk -v prefix="$prefix" -v list="$versions" '
		BEGIN { split(list, names); for (i in names) versions[names[i]] = 1 }
		$7 != "UND" || $5 != "GLOBAL" { next }
		split($8, part, "@") == 1 { if (index($8, prefix) == 1) print $8; next }
		part[2] in versions { print part[1], part[2] }' > "$root/names"
	awk '
		BEGIN { print ".text" }
		{ print ".globl " $1; print ".type " $1 ", @function"; print $1 ": ud2" }
		END { print ".section .note.GNU-stack, \"\", @progbits" }' "$root/names" > "$root/stand-in.s"
	awk '
		{ nodes[$2] = nodes[$2] " " $1 ";" }
		END { for (version in nodes) print version " { global:" nodes[version] " };" }' "$root/names" > "$root/stand-in.map"
	in_toolchain x86_64-linux-gnu-gcc-14 -shared -nostdlib -Wl,-soname,"$library" \
		-Wl,--version-script="$path/stand-in.map" -o "$path/usr/lib/x86_64-linux-gnu/$library" "$path/stand-in.s"
	rm "$root/stand-in.s" "$root/stand-in.map" "$root/names"
}
