# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # declarations, see lib/cache.sh
#
# The stock kernel as Debian ships it: vmlinuz, lib/modules/RELEASE, and the file release with its name.

needs=(toolchain)
packages=(linux:linux-binary-* linux:linux-modules-*)

build() {
	local out=$1 release
	progress "unpacking the stock kernel"
	unpack_package "$(package_file 'linux:linux-modules-*')" "$out" --exclude './usr/share/*'
	unpack_package "$(package_file 'linux:linux-binary-*')" "$out" --exclude './usr/share/*'
	mv "$out/usr/lib" "$out/lib"
	rm -r "$out/usr"
	release=$(ls "$out/lib/modules")
	echo "$release" > "$out/release"
	mv "$out/lib/modules/$release/vmlinuz" "$out/vmlinuz"
	in_toolchain depmod -b "$path" "$release"
}
