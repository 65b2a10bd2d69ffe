# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the set-up tells the person who waits for it.
#
# Messages go to file descriptor 3, which is the caller's standard error, so that a component's build can
# send its own output to a log and still report progress.

# The caller may have opened it for something else: as flock does, for its lock file, to read.
if ! grep -q '^flags:.*[12]$' /proc/self/fdinfo/3 2>/dev/null; then
	exec 3>&2
fi

# Prints one message, on a terminal in place of the heartbeat's line.
say() {
	[[ ! -t 3 ]] || printf '\r\033[K' >&3
	printf 'ferry: %s\n' "$*" >&3
}

# Prints why the run cannot go on, and ends it. Further arguments are indented lines below the first.
die() {
	local line
	printf 'ferry: error: %s\n' "$1" >&3
	shift
	for line in "$@"; do
		printf '    %s\n' "$line" >&3
	done
	exit 1
}

# Prints a number of bytes for a reader.
human_size() {
	numfmt --to=iec --suffix=B "$1"
}

# Prints the space a directory takes.
disk_size() {
	human_size "$(du -s --block-size=1 "$1" | cut -f1)"
}

# Reports every few seconds, until it is killed or $2 is gone, that $1 still runs, with the last line of log $3.
# On a terminal the report stays on one line, unless heartbeat_lines is set because others report as well.
heartbeat() {
	local what=$1 pid=$2 log=$3 start=$SECONDS last pause=10 line=''
	if [[ -t 3 && -z ${heartbeat_lines:-} ]]; then
		pause=1 line=1
	fi
	while sleep "$pause" && kill -0 "$pid" 2>/dev/null; do
		last=$(tail -n 1 "$log" 2>/dev/null | tr -d '\r\033' | tr -s ' \t' ' ' | cut -c 1-60) || last=
		if [[ -n $line ]]; then
			printf '\r\033[Kferry: %s: %d s: %s' "$what" $((SECONDS - start)) "$last" >&3
		else
			say "$what: $((SECONDS - start)) s: $last"
		fi
	done
}

# Starts a heartbeat in the background; its pid is left in heartbeat_pid. It holds no lock of ours.
heartbeat_start() {
	heartbeat "$@" 9>&- </dev/null &
	heartbeat_pid=$!
}

# Ends the heartbeat and clears its line.
heartbeat_stop() {
	kill "$heartbeat_pid" 2>/dev/null || true
	wait "$heartbeat_pid" 2>/dev/null || true
	[[ ! -t 3 ]] || printf '\r\033[K' >&3
}
