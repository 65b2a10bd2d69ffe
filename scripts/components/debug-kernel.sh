# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # declarations, see tools/lab/src/setup/component.rs
#
# A kernel with checkers, built from the stock kernel's source with clang, which KASAN with Rust requires. It has the layout
# of the stock kernel (see kernel.sh), and in obj a build tree for modules.

needs=(toolchain linux-source)
inputs=(scripts/debug.config)

build() {
	local out=$1 source release
	source=$(component_path linux-source)
	mkdir "$out/obj"
	cp "$ferry_src/scripts/debug.config" "$out/obj/debug.config"
	kernel_make() {
		in_toolchain nice make -C "$source" O="$path/obj" LLVM=1 KBUILD_BUILD_TIMESTAMP=0 KBUILD_BUILD_USER=ferry \
			KBUILD_BUILD_HOST=ferry LOCALVERSION=-ferry-debug "$@"
	}

	progress "configuring"
	kernel_make KCONFIG_ALLCONFIG="$path/obj/debug.config" allnoconfig
	check_configuration "$out/obj/.config"

	progress "building; this takes some ten minutes on two processors, once"
	kernel_make -j"$(nproc)" bzImage modules
	release=$(cat "$out/obj/include/config/kernel.release")
	echo "$release" > "$out/release"
	cp "$out/obj/arch/x86/boot/bzImage" "$out/vmlinuz"
	kernel_make INSTALL_MOD_PATH="$path" modules_install
	rm -f "$out/lib/modules/$release/build"

	# A module's build needs none of the kernel's own objects.
	find "$out/obj" \( -path "$out/obj/scripts" -o -path "$out/obj/tools" -o -path "$out/obj/rust" \) -prune -o \
		-type f \( -name '*.o' -o -name '*.a' -o -name '*.cmd' -o -name 'vmlinux*' \) ! -name vmlinux.symvers -exec rm {} +
}

# Fails unless every line of the fragment is in effect.
check_configuration() {
	local line missing=0
	while read -r line; do
		case $line in
		CONFIG_*=*) grep -qxF "$line" "$1" || { echo "not in effect: $line"; missing=1; } ;;
		'# CONFIG_'*' is not set') ! grep -q "^$(cut -d ' ' -f 2 <<< "$line")=" "$1" || { echo "not in effect: $line"; missing=1; } ;;
		esac
	done < "$ferry_src/scripts/debug.config"
	[[ $missing == 0 ]]
}
