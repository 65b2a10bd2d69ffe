# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # declarations, see tools/lab/src/setup/component.rs
#
# QEMU 7.2 of Debian 12, the newest version that uses the v1 migration region.

packages=(qemu-7.2)
inputs=(scripts/lib/qemu.sh)
# shellcheck source=scripts/lib/qemu.sh
. "$ferry_src/scripts/lib/qemu.sh"

build() {
	build_qemu "$1" qemu-7.2
}
