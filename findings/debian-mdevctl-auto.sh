#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# mdevctl of Debian 12 (1.2.0-3+b1) and 13 (1.4.0-2+b1), amd64: no definition is started at boot, "auto" or not.
#
# mdevctl(8) says of "define --auto": "Automatically start the device on parent availability". The package's udev rule
# should start the device. The rule runs /usr/sbin/mdevctl. The package installs /usr/bin/mdevctl and no link, and Debian's
# /usr/sbin is not /usr/bin. The rule's shell prints "not found" into a pipe to logger, and no mdev is made.
#
# Guess before the run: the rule runs the program at the path of its installation.
# Seen:
#
#   mdevctl 1.2.0-3+b1: the rule runs /usr/sbin/mdevctl, the package has /usr/bin/mdevctl
#   mdevctl 1.4.0-2+b1: the rule runs /usr/sbin/mdevctl, the package has /usr/bin/mdevctl
#
# In a virtual machine with systemd-udevd 257 and a parent of mdevs, loading the parent's module again started a definition with
# "auto" after "ln -s /usr/bin/mdevctl /usr/sbin/mdevctl", and not before.
#
# Needs Debian with apt; downloads two packages from the archive that apt is configured for, and installs nothing.
# Exit status: 0 as described, 1 if the packages differ from the description, 2 if the packages could not be examined.

set -euo pipefail

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

cannot() {
	echo "cannot be tried: $*" >&2
	exit 2
}

# A separate configuration of apt: the machine's is not changed.
read -r uri _ < <(apt-get indextargets --format '$(REPO_URI) $(COMPONENT)' 'Created-By: Packages' |
	grep -v security | grep ' main$') || cannot "apt knows no archive"
mkdir -p "$directory"/{lists/partial,archives/partial}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
for suite in bookworm trixie; do
	echo "deb [signed-by=$keyring] $uri $suite main"
done > "$directory/sources.list"
cat > "$directory/apt.conf" << END
Dir::Etc::sourcelist "$directory/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$directory/lists";
Dir::State::status "/dev/null";
Dir::Cache "$directory";
APT::Architecture "amd64";
APT::Sandbox::User "";
END
export APT_CONFIG=$directory/apt.conf
apt-get -qq update || cannot "apt-get update failed"

changed=0
for version in 1.2.0-3+b1 1.4.0-2+b1; do
	(cd "$directory" && apt-get -qq download "mdevctl=$version" > /dev/null) || cannot "no mdevctl $version in the archive"
	package=$(echo "$directory/mdevctl_$version"_*.deb)
	dpkg-deb --extract "$package" "$directory/$version"
	rules=$(find "$directory/$version" -path '*/udev/rules.d/*' -type f)
	runs=$(grep -oh '/[a-z/]*/mdevctl start-parent-mdevs' $rules | cut -d ' ' -f 1 | sort -u)
	has=$(cd "$directory/$version" && find . -name mdevctl -path '*bin/*' | cut -c 2-)
	echo "mdevctl $version: the rule runs $runs, the package has $has"
	[[ $runs == /usr/sbin/mdevctl && $has == /usr/bin/mdevctl ]] || changed=1
done
[[ $changed == 0 ]] || echo "this is not what was seen before"
exit $changed
