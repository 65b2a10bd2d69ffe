# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Reads scripts/versions.lock; its format is described at its top.

# shellcheck source=scripts/lib/common.sh
. "${BASH_SOURCE[0]%/*}/common.sh"

# Prints the fields behind GROUP of the lines of KIND that belong to group $2.
lock_lines() {
	awk -v kind="$1" -v group="$2" '$1 == kind && $2 == group { $1 = $2 = ""; sub(/^ +/, ""); print }' "$lock_file"
}

# Prints the name of a file that is the group's identity: a resolved group is stored under it.
group_identity() {
	{ lock_lines group "$1"; lock_lines want "$1"; lock_lines pin "$1"; } | sha256sum | cut -c 1-16
}

# Prints where the group's fallback is, or would be, kept.
resolved_file() {
	printf '%s/resolved/%s-%s' "$ferry_cache" "$1" "$(group_identity "$1")"
}

# Prints the group's packages, one per line: SUITE PACKAGE VERSION ARCH SIZE SHA256 PATH. These are the pinned ones,
# or what an earlier run fell back to because a pinned one was gone.
group_pins() {
	local resolved
	resolved=$(resolved_file "$1")
	if [[ -f $resolved ]]; then
		cat "$resolved"
	else
		lock_lines pin "$1"
	fi
}

# Prints the packages named by a selection, GROUP or GROUP:GLOB.
selected_pins() {
	local group=${1%%:*} glob='*' suite package rest
	[[ $1 == *:* ]] && glob=${1#*:}
	while read -r suite package rest; do
		# shellcheck disable=SC2053 # the right side is a pattern
		if [[ $package == $glob ]]; then
			printf '%s %s %s\n' "$suite" "$package" "$rest"
		fi
	done < <(group_pins "$group")
}
