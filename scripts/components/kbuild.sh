# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # declarations, see tools/lab/src/setup/component.rs
#
# A build tree against which Rust modules for the stock kernel build.
#
# Debian's headers packages have no Rust metadata (rust/*.rmeta, libmacros.so). This makes the metadata from the same source
# and configuration with the same compiler, so it fits the symbols that the stock kernel exports. Module.symvers is Debian's.

needs=(toolchain linux-source)
packages=(linux:linux-headers-*)

build() {
	local out=$1 source release headers
	source=$(component_path linux-source)
	unpack_package "$(package_file 'linux:linux-headers-*')" "$out" --wildcards \
		'./usr/src/linux-headers-*/.config' './usr/src/linux-headers-*/Module.symvers'
	headers=$(echo "$out"/usr/src/linux-headers-*)
	release=${headers##*/linux-headers-}
	mv "$headers/.config" "$headers/Module.symvers" "$out"
	cp "$out/Module.symvers" "$out/Module.symvers.debian"
	rm -r "${out:?}/usr"

	progress "preparing a tree for modules of $release"
	kernel_make() {
		in_toolchain make -C "$source" O="$path" CC=x86_64-linux-gnu-gcc-14 \
			LOCALVERSION="+${release#*+}" KBUILD_BUILD_TIMESTAMP=0 "$@"
	}
	kernel_make olddefconfig
	kernel_make -j"$(nproc)" prepare modules_prepare
	mv "$out/Module.symvers.debian" "$out/Module.symvers"

	[[ $(cat "$out/include/config/kernel.release") == "$release" ]] || {
		echo "the tree is for $(cat "$out/include/config/kernel.release"), not for $release"
		return 1
	}
	[[ -f $out/rust/libkernel.rmeta ]] || {
		echo "no Rust metadata was made: is CONFIG_RUST on, and its toolchain found?"
		return 1
	}
}
