# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # declarations, see tools/lab/src/setup/component.rs
#
# The root directory in which everything for the kernel is built.
#
# Debian packages are unpacked, not installed: compilers need no maintainer scripts, which would need the right to become
# other users.

packages=(toolchain)

build() {
	local root=$1 pin suite package version arch size sha path files=()
	while read -r suite package version arch size sha path; do
		files+=("$ferry_cache/downloads/$sha.deb")
	done < <(selected_pins toolchain)
	progress "unpacking ${#files[@]} packages"
	# This package has the links /bin, /lib and so on, and must come first.
	unpack_package "$(package_file toolchain:base-files)" "$root"
	export -f unpack_package
	# shellcheck disable=SC2016 # expanded by the inner shell
	printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -n 8 bash -c '
		set -euo pipefail
		root=$1
		shift
		for file; do
			unpack_package "$file" "$root" --exclude "./usr/share/doc/*" --exclude "./usr/share/man/*" \
				--exclude "./usr/share/locale/*" --exclude "./usr/share/info/*"
		done' bash "$root"

	# The files of maintainer scripts that are used.
	printf 'root:x:0:0:root:/root:/bin/sh\n' > "$root/etc/passwd"
	printf 'root:x:0:\n' > "$root/etc/group"
	ln -sf mawk "$root/usr/bin/awk"
	mkdir -p "$root/mnt"
	# A command in the root cannot write it, except below a bind mount.
	"$ferry_src/scripts/in-root" "$root" --bare --bind "$root/etc:/etc" -- /usr/sbin/ldconfig -X
	"$ferry_src/scripts/in-root" "$root" --bare -- /bin/sh -ec '
		x86_64-linux-gnu-gcc-14 --version
		rustc --version
		bindgen --version
		clang --version
		make --version
		qemu-system-x86_64 --version'
}
