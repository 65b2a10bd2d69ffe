# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The recipe of all QEMU components.

# Makes in directory $1 a tree of the QEMU of package group $2, with its libraries and firmware. The QEMU runs the host VM, or
# becomes part of its initramfs, so only the files of a q35 or microvm guest without a display are kept.
build_qemu() {
	local root=$1 group=$2 suite package version arch size sha path file keep library libraries
	progress "unpacking"
	mkdir -p "$root"/usr/{bin,sbin,lib,lib64}
	ln -s usr/bin usr/sbin usr/lib usr/lib64 "$root"
	while read -r suite package version arch size sha path; do
		unpack_package "$ferry_cache/downloads/$sha.deb" "$root"
	done < <(selected_pins "$group")

	libraries=usr/lib/x86_64-linux-gnu
	# Debian's link is absolute, and would point out of the tree.
	ln -sf ../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 "$root/usr/lib64/"
	keep=(usr/bin/qemu-system-x86_64 usr/bin/qemu-img usr/lib64/ld-linux-x86-64.so.2)
	for file in accel-kvm-x86_64.so accel-tcg-x86_64.so; do
		[[ ! -f $root/$libraries/qemu/$file ]] || keep+=("$libraries/qemu/$file")
	done
	for file in bios-256k.bin bios-microvm.bin qboot.rom kvmvapic.bin linuxboot.bin linuxboot_dma.bin \
		multiboot.bin multiboot_dma.bin pvh.bin; do
		for path in usr/share/qemu usr/share/seabios; do
			[[ ! -e $root/$path/$file ]] || keep+=("$path/$file")
		done
	done
	# The tree's own loader lists the libraries.
	for file in "${keep[@]}"; do
		[[ $file == usr/bin/* || $file == *.so ]] || continue
		while read -r library; do
			keep+=("$libraries/$library")
		done < <("$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$root/$libraries" --list "$root/$file" |
			awk '$2 == "=>" && $1 !~ /\// { print $1 }')
	done

	mkdir "$root/kept"
	# A link is kept with its target.
	printf '%s\n' "${keep[@]}" | while read -r file; do
		echo "$file"
		(cd "$root" && realpath --relative-to . "$file")
	done | sort -u > "$root/list"
	tar -c -C "$root" --no-recursion --files-from "$root/list" | tar -x -C "$root/kept"
	find "$root" -mindepth 1 -maxdepth 1 -type d ! -name kept -exec rm -rf {} +
	mv "$root/kept/usr" "$root/usr"
	rm -r "$root/kept" "$root/list"
	mkdir -p "$root/usr/sbin"

	"$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$root/$libraries" "$root/usr/bin/qemu-system-x86_64" --version
}
