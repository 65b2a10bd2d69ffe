# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Pinned packages, fetched into $ferry_cache/downloads/SHA256.deb by the helper that comes with apt, so that the
# machine's own proxies and credentials for its mirror apply. What came in whole is kept, whatever happens next.

# shellcheck source=scripts/lib/apt.sh
. "${BASH_SOURCE[0]%/*}/apt.sh"
# shellcheck source=scripts/lib/job.sh
. "${BASH_SOURCE[0]%/*}/job.sh"

# Prints the path of the downloaded package that a selection names; there must be just one.
package_file() {
	local suite package version sha
	read -r suite package version _ _ sha _ < <(selected_pins "$1") || true
	[[ -n ${sha:-} ]] || die "versions.lock names no package $1"
	printf '%s/downloads/%s.deb\n' "$ferry_cache" "$sha"
}

# Reports how much of the files with the sizes $3... has come in, until killed or pid $1 is gone.
download_progress() {
	local pid=$1 total=$2 pause=5 have start=$SECONDS
	[[ -t 3 ]] && pause=1
	while sleep "$pause" && kill -0 "$pid" 2>/dev/null; do
		have=$(du -sbc "${@:3}" 2>/dev/null | tail -n 1 | cut -f1)
		have="$(human_size "${have:-0}") of $(human_size "$total"), $((SECONDS - start)) s"
		if [[ -t 3 ]]; then
			printf '\r\033[Kferry: download: %s' "$have" >&3
		else
			say "download: $have"
		fi
	done
}

# Succeeds if the package with SHA-256 $1 is there. One that an interrupted run has fetched whole is taken over.
take_download() {
	local file=$ferry_cache/downloads/partial/$1
	[[ ! -f $ferry_cache/downloads/$1.deb ]] || return 0
	[[ -f $file ]] && sha256sum --status -c <<< "$1  $file" && mv "$file" "$ferry_cache/downloads/$1.deb"
}

# Makes sure that the packages of the selections are there. Returns 75 when a group had to fall back to other packages,
# after which everything that depends on the group has another identity.
fetch_packages() {
	local selection group pins=() line suite package version size sha path uri
	local items=() partial=() gone=() wrong=() failed=() total=0 log progress
	mkdir -p "$ferry_cache/downloads/partial"
	declare -A told=()
	exec 8> "$ferry_cache/locks/downloads"
	if ! flock -n 8; then
		say "download: waiting for another run that is downloading"
		flock 8
	fi
	for selection in "$@"; do
		group=${selection%%:*}
		if [[ -z ${told[$group]:-} && -f $(resolved_file "$group") ]]; then
			say_fallback "$group"
			told[$group]=1
		fi
		while read -r line; do
			pins+=("$group $line")
		done < <(selected_pins "$selection")
	done
	for line in "${pins[@]}"; do
		read -r group suite package version _ size sha path <<< "$line"
		! take_download "$sha" || continue
		uri=${uri:-$(mirror_uri)}
		[[ -n $uri ]] || exit 1
		rm -f "$ferry_cache/downloads/partial/$sha.FAILED"
		items+=("$uri$path" "$ferry_cache/downloads/partial/$sha" "SHA256:$sha")
		partial+=("$ferry_cache/downloads/partial/$sha")
		total=$((total + size))
	done
	if [[ ${#items[@]} == 0 ]]; then
		exec 8>&-
		return 0
	fi

	log=$ferry_cache/logs/download.log
	say "download: ${#partial[@]} packages, $(human_size "$total")"
	start_job /usr/lib/apt/apt-helper -q -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3 \
		download-file "${items[@]}" > "$log" 2>&1 8>&-
	download_progress "$job" "$total" "${partial[@]}" 8>&- 9>&- &
	progress=$!
	wait_job || true
	kill "$progress" 2>/dev/null || true
	wait "$progress" 2>/dev/null || true
	[[ ! -t 3 ]] || printf '\r\033[K' >&3

	for line in "${pins[@]}"; do
		read -r group suite package version _ size sha path <<< "$line"
		if take_download "$sha"; then
			continue
		elif [[ -f $ferry_cache/downloads/partial/$sha.FAILED ]]; then
			wrong+=("$package $version")
		elif grep -A 1 "^Err:[0-9]* .*${path##*/}$" "$log" | grep -Eq '404|410|File not found'; then
			gone+=("$group $package $version")
		else
			failed+=("$package $version")
		fi
	done
	[[ ${#wrong[@]} == 0 ]] ||
		die "the mirror's file does not have the SHA-256 that scripts/versions.lock pins: ${wrong[*]}" \
			"Nothing of it was used. The log is $log."
	[[ ${#failed[@]} == 0 ]] ||
		die "${#failed[@]} of ${#partial[@]} packages could not be downloaded, the first is ${failed[0]}" \
			"$(grep -m 1 '^E:' "$log" || tail -n 1 "$log")" \
			"What came in is kept: run the command again to go on. The log is $log."
	if [[ ${#gone[@]} != 0 ]]; then
		for group in $(printf '%s\n' "${gone[@]}" | cut -d ' ' -f 1 | sort -u); do
			fall_back "$group"
		done
		exec 8>&-
		return 75
	fi
	exec 8>&-
}

# Resolves a group anew because a pinned package of it is gone, and keeps the outcome for the next run.
fall_back() {
	local group=$1 resolved
	resolved=$(resolved_file "$group")
	say "$group: a pinned package is gone from the archive; looking for the newest of the same series"
	# A sub-shell of its own, as it cleans up on exit.
	(resolve_group "$group") > "$resolved.tmp$$" || { rm -f "$resolved.tmp$$"; exit 1; }
	if [[ -f $resolved ]] && cmp -s "$resolved" "$resolved.tmp$$"; then
		rm -f "$resolved.tmp$$"
		die "the archive lists packages of group $group that it does not have" "The mirror may be in the middle of an update: try again later."
	fi
	mv "$resolved.tmp$$" "$resolved"
}

# Says in one line what is used instead of what a group pins.
say_fallback() {
	local group=$1 changes
	changes=$(awk 'NR == FNR { pinned[$2] = $3; next }
		!($2 in pinned) || pinned[$2] != $3 {
			n++; if (n <= 4) text = text (n > 1 ? ", " : "") $2 " " $3 (($2 in pinned) ? " instead of " pinned[$2] : "")
		}
		END { print text (n > 4 ? " and " n - 4 " more" : "") }' <(lock_lines pin "$group") <(group_pins "$group"))
	say "NOTE: $group: pinned versions are gone from the archive, using the newest of the same series: $changes"
}
