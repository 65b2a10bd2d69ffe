# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Components: directories in the cache that are named after all that went into them, and so are either whole and
# right or not there.
#
# A component is a file scripts/components/NAME.sh, which sets
#
#   needs    the components that it is made with
#   packages the packages that it is made from, as GROUP or GROUP:GLOB
#   inputs   further files of this source tree that it is made from
#
# and has a function build that fills the directory given to it.

# shellcheck disable=SC2030,SC2031 # the declarations of one component are not to reach the next
# shellcheck source=scripts/lib/download.sh
. "${BASH_SOURCE[0]%/*}/download.sh"

# Prints the names of all components.
component_names() {
	local file
	for file in "$ferry_src"/scripts/components/*.sh; do
		file=${file##*/}
		echo "${file%.sh}"
	done
}

# Runs "$@" with the declarations of component $1 loaded.
with_component() {
	local name=$1
	shift
	(
		# shellcheck disable=SC2034 # read by the command
		needs=() packages=() inputs=()
		# shellcheck source=/dev/null
		. "$ferry_src/scripts/components/$name.sh"
		"$@"
	)
}

print_needs() { print_lines "${needs[@]}"; }
print_packages() { print_lines "${packages[@]}"; }
print_lines() { [[ $# == 0 ]] || printf '%s\n' "$@"; }

# Prints a file without its comments, which make no difference. (A "# CONFIG_... is not set" does.)
strip_comments() {
	sed '/^[[:space:]]*#/{/^# CONFIG_/!d}' "$1"
}

# Prints everything that makes a difference to the component whose declarations are loaded.
print_identity() {
	local name=$1 item
	strip_comments "$ferry_src/scripts/components/$name.sh"
	# A prepared tree holds absolute paths.
	echo "cache $ferry_cache"
	for item in "${needs[@]}"; do
		component_path "$item"
	done
	for item in "${packages[@]}"; do
		selected_pins "$item"
	done
	for item in "${inputs[@]}"; do
		strip_comments "$ferry_src/$item"
	done
}

# Prints where a component is, or will be.
component_path() {
	local hash
	hash=$(with_component "$1" print_identity "$1" | sha256sum | cut -c 1-16)
	printf '%s/%s-%s\n' "$ferry_cache" "$1" "$hash"
}

# Prints the given components and all that they need, what is needed first.
component_order() {
	local name
	for name in "$@"; do
		# shellcheck disable=SC2046 # words are wanted
		component_order $(with_component "$name" print_needs)
		echo "$name"
	done | awk 'NF && !seen[$0]++'
}
