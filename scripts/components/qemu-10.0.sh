# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # declarations, see tools/lab/src/setup/component.rs
#
# QEMU 10.0 of Debian 13.

packages=(qemu-10.0)
inputs=(scripts/lib/qemu.sh)
# shellcheck source=scripts/lib/qemu.sh
. "$ferry_src/scripts/lib/qemu.sh"

build() {
	build_qemu "$1" qemu-10.0
}
