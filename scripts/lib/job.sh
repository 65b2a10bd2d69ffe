# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Work in the background that ends when the script is interrupted. Bash lets background commands ignore an interrupt, so
# each job is a process group of its own, and is ended as such.

job=''

# Starts "$@" in the background; its pid and process group are left in job.
start_job() {
	set -m
	"$@" &
	job=$!
	set +m
}

# Waits for the job and returns its exit status.
wait_job() {
	local status=0
	wait "$job" || status=$?
	job=''
	return "$status"
}

# Ends the job, if there is one.
stop_job() {
	[[ -n $job ]] || return 0
	kill -TERM -- "-$job" 2>/dev/null || true
	wait "$job" 2>/dev/null || true
	job=''
}
trap stop_job EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
