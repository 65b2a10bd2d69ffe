# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Paths that every part of the set-up shares.

[[ -z ${ferry_src:-} ]] || return 0

ferry_src=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
# shellcheck disable=SC2034 # used by those who source this
lock_file=${FERRY_LOCK:-$ferry_src/scripts/versions.lock}
ferry_cache=${FERRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ferry}

# shellcheck source=scripts/lib/log.sh
. "$ferry_src/scripts/lib/log.sh"

# The kernel's build takes neither blanks nor colons in a path, and a prepared tree names its own.
for path in "$ferry_src" "$ferry_cache"; do
	if [[ $path == *[[:space:]:]* ]]; then
		die "the path '$path' has a blank or a colon, which the kernel's build cannot take" \
			"Move the source tree, or set FERRY_CACHE to a directory without them."
	fi
done

mkdir -p "$ferry_cache" 2>/dev/null ||
	die "cannot make the cache directory $ferry_cache" "Set FERRY_CACHE to a directory you can write to."
ferry_cache=$(cd "$ferry_cache" && pwd -P)
export FERRY_CACHE=$ferry_cache
mkdir -p "$ferry_cache/downloads" "$ferry_cache/locks" "$ferry_cache/logs" "$ferry_cache/resolved"
