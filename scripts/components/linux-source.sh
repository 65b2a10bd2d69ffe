# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # declarations, see tools/lab/src/setup/component.rs
#
# The source of the stock kernel, with Debian's patches.

packages=(linux:linux-source-*)

build() {
	local out=$1 tarball
	progress "unpacking the kernel's source"
	unpack_package "$(package_file 'linux:linux-source-*')" "$out" --wildcards './usr/src/linux-source-*.tar.xz'
	tarball=$(echo "$out"/usr/src/linux-source-*.tar.xz)
	# The register headers of one graphics driver are a third of the source, and nothing else includes them.
	tar -x -J -f "$tarball" -C "$out" --no-same-owner --strip-components 1 \
		--exclude '*/drivers/gpu/drm/amd/include'
	rm -r "$out/usr/src"
}
