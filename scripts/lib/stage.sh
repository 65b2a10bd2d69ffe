# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The stages that come before the virtual machines: each runs quietly into a log, and leaves a line
# "NAME SECONDS PASSED FAILED" in $FERRY_STAGES for the table that the test run ends with.

# shellcheck source=scripts/lib/common.sh
. "${BASH_SOURCE[0]%/*}/common.sh"

stage_logs=$ferry_src/build/logs
mkdir -p "$stage_logs"

# Adds up cargo's "test result" lines of a log as "PASSED FAILED"; without any, the stage itself is the test.
count_tests() {
	awk -v status="$2" '
		/^test result:/ { passed += $4; failed += $6 }
		END {
			if (passed + failed == 0) { passed = status == 0; failed = status != 0 }
			else if (status != 0 && failed == 0) failed = 1
			print passed + 0, failed + 0
		}' "$1"
}

# stage NAME COMMAND...: runs one stage. Fails if it does, after it has shown the log's end.
stage() {
	local name=$1 status=0 start=$SECONDS log counts
	shift
	log=$stage_logs/${name// /-}.log
	say "$name: started"
	# What a stage sets up once more is in the cache by now, and is not to be counted again.
	heartbeat_lines=1 heartbeat_start "$name" "$BASHPID" "$log"
	env -u FERRY_TIMINGS "$@" > "$log" 2>&1 < /dev/null 3>&1 || status=$?
	heartbeat_stop
	counts=$(count_tests "$log" "$status")
	printf '%s %d %s\n' "${name// /-}" $((SECONDS - start)) "$counts" >> "$FERRY_STAGES"
	if [[ $status == 0 ]]; then
		say "$name: passed in $((SECONDS - start)) s"
	else
		say "$name: FAILED after $((SECONDS - start)) s (exit status $status); the last lines of its log:"
		tail -n 30 "$log" | sed 's/^/    /' >&3
		say "$name: the log is $log"
	fi
	return "$status"
}
