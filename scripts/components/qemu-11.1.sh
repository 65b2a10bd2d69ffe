# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # declarations, see lib/cache.sh
#
# QEMU 11.1. The host VM runs in it where KVM cannot be used.

packages=(qemu-11.1)
inputs=(scripts/lib/qemu.sh)
# shellcheck source=scripts/lib/qemu.sh
. "$ferry_src/scripts/lib/qemu.sh"

build() {
	build_qemu "$1" qemu-11.1
}
