# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # declarations, see tools/lab/src/setup/component.rs
#
# QEMU 11.1, which also runs the host VM.

packages=(qemu-11.1)
inputs=(scripts/lib/qemu.sh)
# shellcheck source=scripts/lib/qemu.sh
. "$ferry_src/scripts/lib/qemu.sh"

build() {
	build_qemu "$1" qemu-11.1
}
