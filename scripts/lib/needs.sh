# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the machine must have before anything can be made.

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
	END
	[[ -x /usr/lib/apt/apt-helper ]] || missing+=(apt)
	[[ $(uname -m) == x86_64 ]] || die "this machine is $(uname -m); the drivers and their tests are for x86_64"
	if [[ ${#missing[@]} != 0 ]]; then
		die "the machine lacks what the set-up needs" \
			"Install: apt-get install $(printf '%s\n' "${missing[@]}" | sort -u | tr '\n' ' ')"
	fi
	"$ferry_src/scripts/in-root" --check
}
