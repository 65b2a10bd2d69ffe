# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the machine must have before anything can be made.

# shellcheck source=scripts/lib/common.sh
. "${BASH_SOURCE[0]%/*}/common.sh"

# Checks for the programs that the set-up itself runs, and names all missing ones at once.
check_needs() {
	local missing=() program package
	while read -r program package; do
		command -v "$program" > /dev/null || missing+=("$package")
	done <<- END
		dpkg-deb dpkg
		apt-get apt
		unshare util-linux
		flock util-linux
		mount mount
		tar tar
		xz xz-utils
		awk mawk
		git git
	END
	[[ -x /usr/lib/apt/apt-helper ]] || missing+=(apt)
	[[ $(uname -m) == x86_64 ]] || die "this machine is $(uname -m); the drivers and their tests are for x86_64"
	if [[ ${#missing[@]} != 0 ]]; then
		die "the machine lacks what the set-up needs" \
			"Install: apt-get install $(printf '%s\n' "${missing[@]}" | sort -u | tr '\n' ' ')"
	fi
	"$ferry_src/scripts/in-root" --check
}

# Checks for what the programs of user space are built with.
check_cargo() {
	local version
	command -v cc > /dev/null || die "the machine lacks a C linker, with which cargo links" "Install: apt-get install gcc libc6-dev"
	version=$("${CARGO:-cargo}" --version 2>/dev/null | cut -d ' ' -f 2) || true
	if [[ $(printf '%s\n' 1.85 "${version:-0}" | sort -V | head -n 1) != 1.85 ]]; then
		die "cargo 1.85 or later is needed, and here is ${version:-none}" \
			"Install a newer one, for example with rustup, and its component clippy."
	fi
}

# Checks for what `make test` looks at the source with.
check_lint() {
	"${CARGO:-cargo}" clippy --version > /dev/null 2>&1 ||
		die "cargo has no clippy" "Install it, for example with: rustup component add clippy"
}
