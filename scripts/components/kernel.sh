# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # declarations, see tools/lab/src/setup/component.rs
#
# The stock kernel as Debian ships it: vmlinuz, lib/modules/RELEASE, and the file release with its name.

needs=(toolchain)
packages=(linux:linux-base-* linux:linux-binary-* linux:linux-modules-*)

build() {
	local out=$1 release package
	progress "unpacking the stock kernel"
	for package in "${packages[@]}"; do
		unpack_package "$(package_file "$package")" "$out" --exclude './usr/share'
	done
	mv "$out/usr/lib" "$out/lib"
	rmdir "$out/usr"
	release=$(ls "$out/lib/modules")
	echo "$release" > "$out/release"
	mv "$out/lib/modules/$release/vmlinuz" "$out/vmlinuz"
	in_toolchain depmod -b "$path" "$release"
}
