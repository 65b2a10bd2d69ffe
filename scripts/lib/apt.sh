# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Debian's archive, through the machine's own apt but with private state: nothing of the machine's package
# management is read beyond its mirror, and nothing of it is changed.

# shellcheck source=scripts/lib/lock.sh
. "${BASH_SOURCE[0]%/*}/lock.sh"

archive_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Prints "URI SUITE" for every binary source that the machine's apt is configured with, in both file formats.
apt_sources() {
	local directory=${FERRY_APT_DIR:-/etc/apt}
	cat "$directory"/sources.list "$directory"/sources.list.d/*.list 2>/dev/null | awk '
		$1 == "deb" {
			field = 2
			if ($field ~ /^\[/) { while ($field !~ /\]$/ && field < NF) field++; field++ }
			print $field, $(field + 1)
		}' || true
	# Each paragraph is one source; a field may go on over indented lines.
	awk '
		function flush(   u, s, i, j, n, m, us, ss) {
			if (types ~ /(^| )deb( |$)/ && enabled !~ /^(no|false|0)$/) {
				n = split(uris, us, " "); m = split(suites, ss, " ")
				for (i = 1; i <= n; i++) for (j = 1; j <= m; j++) print us[i], ss[j]
			}
			types = uris = suites = enabled = key = ""
		}
		/^#/ { next }
		/^[ \t]*$/ || FNR == 1 { flush() }
		/^[A-Za-z-]+:/ {
			key = tolower(substr($0, 1, index($0, ":") - 1)); value = substr($0, index($0, ":") + 1)
		}
		/^[ \t]/ { value = $0 }
		NF {
			gsub(/[ \t]+/, " ", value); sub(/^ /, "", value); sub(/ $/, "", value)
			if (key == "types") types = types " " value
			if (key == "uris") uris = uris " " value
			if (key == "suites") suites = suites " " value
			if (key == "enabled") enabled = tolower(value)
			value = ""
		}
		END { flush() }' "$directory"/sources.list.d/*.sources 2>/dev/null || true
}

# Prints the URI of Debian's archive, taken from the first source whose suite is one of Debian's own, with a slash at the
# end. Third parties use suites of their own, or are recognised by what they put into the URI.
mirror_uri() {
	local uri suite list
	while read -r uri suite; do
		case $suite in
		bullseye | bookworm | trixie | forky | sid | stable | testing | unstable | oldstable) ;;
		*) continue ;;
		esac
		# A list of mirrors, as cloud images have it: its first line will do.
		if [[ $uri == mirror+file:* ]]; then
			list=${uri#mirror+file:}
			uri=$(awk '!/^#/ && NF { print $1; exit }' "/${list#"${list%%[!/]*}"}" 2>/dev/null) || continue
		fi
		if [[ $uri == */debian || $uri == */debian/ ]]; then
			printf '%s/\n' "${uri%/}"
			return
		fi
	done < <(apt_sources)
	die "no Debian mirror in the machine's apt configuration" \
		"Looked for a 'deb' source of a Debian release in ${FERRY_APT_DIR:-/etc/apt}/sources.list and sources.list.d beside it," \
		"with a URI that ends in /debian."
}

# Runs an apt tool ($2...) on the private state in directory $1.
private_apt() {
	local state=$1 tool=$2
	shift 2
	"$tool" -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
		-o Dir::State="$state" -o Dir::State::status="$state/status" -o Dir::Cache="$state/cache" \
		-o APT::Architecture=amd64 -o APT::Architectures=amd64 -o APT::Install-Recommends=false \
		-o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o APT::Sandbox::User="$(id -un)" "$@"
}

# Fetches the package lists of the suites ($2...) into directory $1; apt checks Debian's signature on them.
private_apt_update() {
	local state=$1 uri suite
	shift
	[[ -r $archive_keyring ]] || die "$archive_keyring is missing" "Install the package debian-archive-keyring."
	uri=$(mirror_uri)
	mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
	: > "$state/status"
	for suite in "$@"; do
		printf 'deb [signed-by=%s] %s %s main\n' "$archive_keyring" "$uri" "$suite"
	done > "$state/sources.list"
	private_apt "$state" apt-get -q update -o APT::Update::Error-Mode=any >&2
}

# Prints "PACKAGE VERSION SUITE" of all that the lists in directory $1 have of packages ($2...), newest first.
available_versions() {
	local state=$1
	shift
	private_apt "$state" apt-cache madison "$@" |
		awk -F ' *[|] *' '/ Packages$/ { split($3, f, " "); sub(/\/.*/, "", f[2]); gsub(/ /, "", $1); print $1, $2, f[2] }'
}

# Prints the pin lines (see group_pins) of the PACKAGE=VERSION pairs read from standard input.
describe_packages() {
	local state=$1 wanted
	wanted=$(cat)
	# shellcheck disable=SC2001,SC2046,SC2086 # words are wanted
	awk 'NR == FNR { if (!(($1, $2) in suite)) suite[$1, $2] = $3; next }
		/^Package:/ { package = $2 } /^Version:/ { version = $2 } /^Architecture:/ { arch = $2 }
		/^Size:/ { size = $2 } /^SHA256:/ { sha = $2 } /^Filename:/ { path = $2 }
		/^$/ && package { print suite[package, version], package, version, arch, size, sha, path; package = "" }' \
		<(available_versions "$state" $(sed 's/=.*//' <<< "$wanted")) \
		<(private_apt "$state" apt-cache show $wanted; echo) | LC_ALL=C sort -k 2
}

# Prints the PACKAGE=VERSION that each wanted package ($2: "PATTERN SERIES" lines) of a list resolves to. They are built
# from one source, so all get the newest version that every one of them has.
resolve_list() {
	local state=$1 wants=$2 pattern series names available version count
	count=$(wc -l <<< "$wants")
	available=$(while read -r pattern series; do
		names=$(private_apt "$state" apt-cache pkgnames | while read -r name; do
			# shellcheck disable=SC2053 # the right side is a pattern
			[[ $name != $pattern ]] || echo "$name"
		done)
		# shellcheck disable=SC2086 # words are wanted
		[[ -z $names ]] || available_versions "$state" $names |
			awk -v p="$pattern" -v s="$series" 'index($2, s) == 1 { print p, $1, $2 }'
	done <<< "$wants")
	version=$(awk '!seen[$1, $3]++ { n[$3]++ } END { for (v in n) print n[v], v }' <<< "$available" |
		awk -v count="$count" '$1 == count { print $2 }' | sort -V | tail -n 1)
	[[ -n $version ]] || return 1
	awk -v v="$version" '$3 == v { print $2 "=" $3 }' <<< "$available"
}

# Prints the PACKAGE=VERSION of each wanted package ($2: "PACKAGE SERIES" lines), the newest of its own series. What
# starts with ? is a pattern of apt's and stays as it is.
resolve_each() {
	local state=$1 wants=$2 available package series version
	# shellcheck disable=SC2046 # words are wanted
	available=$(available_versions "$state" $(awk '!/^[?]/ { print $1 }' <<< "$wants"))
	while read -r package series; do
		if [[ $package == '?'* ]]; then
			echo "$package"
			continue
		fi
		version=$(awk -v p="$package" -v s="$series" '$1 == p && index($2, s) == 1 { print $2; exit }' <<< "$available")
		if [[ -z $version ]]; then
			say "no version $series* of $package"
			return 1
		fi
		echo "$package=$version"
	done <<< "$wants"
}

# Prints the PACKAGE=VERSION of the wanted packages ($2: "PACKAGE SERIES" lines) and of all that they depend on.
resolve_closure() {
	local state=$1 chosen
	chosen=$(resolve_each "$state" "$2") || return
	# shellcheck disable=SC2086 # words are wanted
	private_apt "$state" apt-get install -qq -s $chosen |
		awk '$1 == "Inst" { version = $3; sub(/^\(/, "", version); print $2 "=" version }'
}

# Prints the pin lines that group $1 resolves to in the archive as it is now.
resolve_group() {
	local group=$1 state mode suites wants packages
	read -r mode suites < <(lock_lines group "$group") || die "$lock_file has no group $group"
	wants=$(lock_lines want "$group")
	state=$(mktemp -d "$ferry_cache/.apt-XXXXXX")
	# shellcheck disable=SC2064 # the directory is known now
	trap "rm -rf '$state'" EXIT
	say "reading the package lists of $suites"
	# shellcheck disable=SC2086 # words are wanted
	private_apt_update "$state" $suites || die "the package lists of $suites cannot be fetched"
	packages=$("resolve_$mode" "$state" "$wants") ||
		die "the archive has nothing left of the series that group $group asks for:" "${wants//$'\n'/, }" \
			"Edit the 'want' lines of scripts/versions.lock and run 'make update-lock'."
	describe_packages "$state" <<< "$packages"
}
