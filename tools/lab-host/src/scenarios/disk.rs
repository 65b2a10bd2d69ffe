// SPDX-License-Identifier: GPL-2.0

//! The scenarios that only a disk can go through.

use std::fs::File;

use anyhow::bail;
use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use rustix::fs::fcntl_lock;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::load;
use super::migration;
use super::running::Running;
use super::Bench;
use crate::kernel::Log;
use crate::program;
use crate::recipe::Recipe;
use crate::report::doing;
use crate::vm::Hardware;

/// mdev attributes of the disk.
const STORE: &str = "nvme/store";
const FILE: &str = "nvme/file";
const CAPACITY: &str = "nvme/capacity";

/// A capacity in bytes other than a disk's default.
const OTHER_CAPACITY: u64 = 32 << 20;

/// The file that both sides share, and its size in bytes, which is a disk's default capacity.
const SHARED: &str = "/tmp/shared-disk";
const SHARED_SIZE: u64 = 64 << 20;

/// The file of another namespace, which has the other capacity.
const OTHER_SHARED: &str = "/tmp/other-shared-disk";

/// How often a guest goes there and back.
const ROUND_TRIPS: usize = 2;

/// The type with the other size of blocks.
fn other_type(kind: &str) -> &'static str {
    if kind.ends_with("-512") {
        "ferry_nvme-4096"
    } else {
        "ferry_nvme-512"
    }
}

/// Moves a guest into a new device, and removes the old one.
fn move_on(mut from: Running) -> Result<Running> {
    let (mut to, uri) = from.destination(from.twins()?)?;
    from.migrate(&mut to, &uri)?;
    Ok(to)
}

pub fn round_trips(bench: &mut Bench<'_>) -> Result<Running> {
    let mut running = bench.guest()?;
    for _ in 0..2 * ROUND_TRIPS {
        running = move_on(running)?;
    }
    Ok(running)
}

/// Makes a file system on the disk. (Busybox's shell would take its own mke2fs.)
const MAKE_FILE_SYSTEM: &str = "
    set -e
    /usr/sbin/mke2fs -q -t ext4 /dev/nvme0n1
    mkdir -p /tmp/fs /tmp/sums
    mount -t ext4 /dev/nvme0n1 /tmp/fs
    rm -f /tmp/stop";

/// Writes files until a stop file appears, and keeps their checksums elsewhere.
const WRITE_FILES: &str = "
    cd /tmp/fs
    n=0
    while [ ! -e /tmp/stop ]; do
        f=file-$((n % 64))
        dd if=/dev/urandom of=$f bs=16k count=$((1 + n % 24)) 2>/dev/null || exit 1
        sha256sum $f > /tmp/sums/$f || exit 1
        [ $((n % 8)) != 7 ] || sync
        n=$((n + 1))
    done
    echo $n";

/// Checks the file system and the files on the disk.
const CHECK_FILE_SYSTEM: &str = "
    umount /tmp/fs || exit 1
    echo 3 > /proc/sys/vm/drop_caches
    /usr/sbin/e2fsck -fn /dev/nvme0n1 || exit 1
    mount -t ext4 /dev/nvme0n1 /tmp/fs || exit 1
    cd /tmp/fs
    cat /tmp/sums/* > /tmp/all-sums
    sha256sum -c /tmp/all-sums || exit 1
    cd /tmp
    umount /tmp/fs";

pub fn file_system(bench: &mut Bench<'_>) -> Result<Running> {
    let from = bench.guest()?;
    from.verdict()?;
    doing("making a file system");
    from.script(MAKE_FILE_SYSTEM)?;
    let writer = from.guest.begin_script(&from.vm.link, WRITE_FILES)?;
    from.wait_alive("while files are written")?;
    let to = move_on(from)?;
    to.script("touch /tmp/stop")?;
    let files = to.guest.end_script(writer)?;
    ensure!(
        files.trim().parse::<u64>().is_ok_and(|files| files > 0),
        "expected some files to be written, saw: {files}"
    );
    doing("checking the file system");
    to.script(CHECK_FILE_SYSTEM)?;
    // The file system has overwritten the loads' areas.
    load::lay_out(&to)?;
    to.start_load()?;
    Ok(to)
}

/// Commands of nvme-cli and blkdiscard, in the part of the disk that no load uses.
const COMMANDS: &str = r#"
    disk=/dev/nvme0n1
    ctrl=/dev/nvme0
    block=$(cat /sys/block/nvme0n1/queue/logical_block_size)
    first=$((40 * 1048576 / block))
    failed=0
    fail() { echo "FAILED: $*"; failed=1; }
    zeros() { dd if=$disk bs=$block skip=$1 count=$2 iflag=direct 2>/dev/null | tr -d '\000' | wc -c; }

    nvme id-ctrl $ctrl > id || fail id-ctrl
    grep '^sn ' id && grep '^mn ' id && grep '^fr ' id || fail "id-ctrl: no names"
    nvme id-ns $disk > ns || fail id-ns
    blocks=$(( $(sed -n 's/^nsze *: *//p' ns) ))
    [ $((blocks * block)) = $(( $(cat /sys/block/nvme0n1/size) * 512 )) ] || fail "id-ns: nsze $blocks"
    nvme list-ns $ctrl | grep -q 0x1 || fail list-ns
    nvme ns-descs $disk > /dev/null || fail ns-descs
    nvme smart-log $ctrl > smart || fail smart-log
    grep -q '^critical_warning[[:space:]]*: 0$' smart || fail "smart-log: $(cat smart)"
    nvme fw-log $ctrl > firmware || fail fw-log
    fr=$(sed -n 's/^fr *: *\([^ ]*\) *$/\1/p' id)
    grep -q "^frs1 .*($fr\.*)" firmware || fail "fw-log: $(cat firmware)"
    nvme get-log $ctrl --log-id=5 --log-len=4096 --raw-binary > effects || fail "get-log: effects"
    [ "$(od -A n -t x4 -j 1028 -N 4 effects | tr -d ' ')" = 00000003 ] || fail "effects of a write"
    nvme get-feature $ctrl -f 7 > /dev/null || fail "get-feature: number of queues"
    nvme get-feature $ctrl -f 6 > /dev/null || fail "get-feature: volatile write cache"

    dd if=/dev/urandom of=data bs=$block count=8 2>/dev/null
    nvme write $disk -s $first -c 7 -z $((8 * block)) -d data || fail write
    nvme read $disk -s $first -c 7 -z $((8 * block)) -d back || fail read
    cmp data back || fail "read: other data"
    nvme compare $disk -s $first -c 7 -z $((8 * block)) -d data || fail compare
    dd if=/dev/zero of=data bs=1 count=1 seek=$((3 * block)) conv=notrunc 2>/dev/null
    printf '\001' | dd of=data bs=1 seek=$((5 * block)) conv=notrunc 2>/dev/null
    printf '\376' | dd of=data bs=1 seek=$((6 * block)) conv=notrunc 2>/dev/null
    ! nvme compare $disk -s $first -c 7 -z $((8 * block)) -d data || fail "compare: other data are the same"
    nvme flush $disk -n 1 || fail flush
    nvme write-zeroes $disk -s $first -c 3 || fail write-zeroes
    [ $(zeros $first 4) = 0 ] || fail "write-zeroes: no zeroes"
    [ $(zeros $((first + 4)) 4) != 0 ] || fail "write-zeroes: more zeroes than wanted"
    nvme dsm $disk -n 1 --ad --slbs=$((first + 4)) --blocks=4 || fail dsm
    ! nvme read $disk -s $blocks -c 0 -z $block -d back 2> /dev/null || fail "read: past the end"
    oncs=$(( $(sed -n 's/^oncs *: *//p' id) ))
    [ $((oncs & 128)) = 0 ] || nvme verify $disk -n 1 -s $first -c 7 || fail verify
    if [ $((oncs & 2)) != 0 ]; then
        nvme write-uncor $disk -s $first -c 0 || fail write-uncor
        ! nvme read $disk -s $first -c 0 -z $block -d back 2> /dev/null || fail "write-uncor: can be read"
        ! nvme verify $disk -n 1 -s $first -c 0 2> /dev/null || fail "write-uncor: can be verified"
        nvme write-zeroes $disk -s $first -c 0 || fail "write-zeroes after write-uncor"
        [ $(zeros $first 1) = 0 ] || fail "write-uncor: no zeroes"
    fi
    # NAWUPF is what Linux takes for the largest write with RWF_ATOMIC; without NSABP it is a logical block.
    atomic=$block
    [ $(( $(sed -n 's/^nsfeat *: *//p' ns) & 2 )) = 0 ] || atomic=$(( ($(sed -n 's/^nawupf *: *//p' ns) + 1) * block ))
    linux=$(cat /sys/block/nvme0n1/queue/atomic_write_max_bytes)
    [ $linux = $atomic ] || fail "atomic writes: Linux has $linux bytes, NAWUPF $atomic"
    echo "atomic writes of $linux bytes"
    [ $linux = $block ] || /proc/1/exe atomic-write $disk $((40 * 1048576)) || fail "atomic write"
    nvme error-log $ctrl -e 1 > errors || fail error-log
    grep -q '^error_count[[:space:]]*: [1-9]' errors || fail "error-log: $(cat errors)"
    formats=$(( $(sed -n 's/^oacs *: *//p' id) & 2 ))
    [ $formats != 0 ] || ! nvme format $disk --force > /dev/null 2>&1 || fail "format: not refused"

    dd if=/dev/urandom of=$disk bs=1M seek=40 count=4 conv=fsync 2>/dev/null || fail "writing"
    /usr/sbin/blkdiscard -o $((41 * 1048576)) -l $((2 * 1048576)) $disk || fail blkdiscard
    /usr/sbin/blkdiscard -z -o $((40 * 1048576)) -l $((1048576 / 2)) $disk || fail "blkdiscard -z"
    [ $(zeros $first $((524288 / block))) = 0 ] || fail "blkdiscard -z: no zeroes"
    echo 1 > /proc/sys/vm/drop_caches
    [ $(zeros $((first + 3 * 1048576 / block)) 64) != 0 ] || fail "blkdiscard: more than wanted"

    nvme reset $ctrl || fail reset
    nvme id-ctrl $ctrl > again || fail "id-ctrl after reset"
    cmp id again || fail "id-ctrl: other after reset"

    dd if=/dev/urandom of=kept bs=$block count=8 2>/dev/null
    nvme write $disk -s $first -c 7 -z $((8 * block)) -d kept || fail write
    exit $failed"#;

/// Output that has to be the same before and after a migration.
const SAME_AS_BEFORE: &str = "
    disk=/dev/nvme0n1
    block=$(cat /sys/block/nvme0n1/queue/logical_block_size)
    nvme id-ctrl /dev/nvme0 > after || exit 1
    cmp id after || exit 1
    nvme compare $disk -s $((40 * 1048576 / block)) -c 7 -z $((8 * block)) -d kept || exit 1
    nvme smart-log /dev/nvme0 > /dev/null || exit 1
    nvme reset /dev/nvme0";

/// A subsystem reset takes the controller down with commands in flight, and the driver does not know. A PCI Express slot
/// would notice; here the administrator resets the controller, and the driver sends the commands again.
const SUBSYSTEM_RESET: &str = "
    nvme subsystem-reset /dev/nvme0 || exit 1
    nvme reset /dev/nvme0 || exit 1
    nvme id-ctrl /dev/nvme0 > /dev/null";

/// A command that the driver tries while it probes the disk, and that is not supported, is no error for smartd's count.
const PROBED: &str = r#"
    expect_none() {
        errors=$(nvme smart-log /dev/nvme0 | sed -n 's/^num_err_log_entries[[:space:]]*: *//p')
        [ "$errors" = 0 ] || { echo "entries in the error log $1: expected 0, saw $errors"; exit 1; }
    }
    expect_none "once the disk was probed"
    nvme reset /dev/nvme0 || exit 1
    expect_none "after a reset""#;

pub fn commands(bench: &mut Bench<'_>) -> Result<Running> {
    let mut running = bench.guest()?;
    if !running.hardware.devices.is_empty() {
        running.script(PROBED)?;
    }
    doing("asking the disk for all that nvme-cli knows");
    running.script(COMMANDS)?;
    // QEMU's own disk only shows that the commands are right, and has no such reset.
    if !running.hardware.devices.is_empty() {
        running.script(SUBSYSTEM_RESET)?;
        running.wait_alive("after a subsystem reset")?;
        running = move_on(running)?;
        running.script(SAME_AS_BEFORE)?;
    }
    Ok(running)
}

/// Unbinds the driver from the disk.
const UNBIND: &str = "
    address=$(basename $(readlink -f /sys/class/nvme/nvme0/device))
    echo $address > /tmp/address
    echo $address > /sys/bus/pci/drivers/nvme/unbind || exit 1
    [ ! -e /dev/nvme0n1 ]";

/// Binds the driver to the disk again.
const REBIND: &str = "
    cat /tmp/address > /sys/bus/pci/drivers/nvme/bind || exit 1
    for i in $(seq 200); do
        [ ! -b /dev/nvme0n1 ] || exit 0
        sleep 0.1
    done
    echo 'no disk came back'
    exit 1";

pub fn unbind_and_rebind(bench: &mut Bench<'_>) -> Result<Running> {
    let from = bench.guest()?;
    from.verdict()?;
    doing("unbinding and rebinding the disk's driver");
    from.script(UNBIND)?;
    from.script(REBIND)?;
    load::check(&from)?;
    from.script(UNBIND)?;
    let to = if from.hardware.devices.is_empty() {
        from
    } else {
        move_on(from)?
    };
    to.script(REBIND)?;
    load::check(&to)?;
    to.start_load()?;
    Ok(to)
}

/// Resets the controller until a stop file appears, but at least a few times.
const RESETS: &str = "
    rm -f /tmp/stop
    n=0
    while [ $n -lt 3 ] || [ ! -e /tmp/stop ]; do
        nvme reset /dev/nvme0 || exit 1
        n=$((n + 1))
        sleep 0.2
    done";

pub fn reset_while_migrating(bench: &mut Bench<'_>) -> Result<Running> {
    let mut running = bench.guest()?;
    doing("resetting the controller again and again");
    let resets = running.guest.begin_script(&running.vm.link, RESETS)?;
    if !running.hardware.devices.is_empty() {
        running = move_on(running)?;
        running = move_on(running)?;
    }
    running.script("touch /tmp/stop")?;
    running.guest.end_script(resets)?;
    running.wait_alive("after the controller was reset")?;
    Ok(running)
}

pub fn mismatch(bench: &mut Bench<'_>, log: &mut Log) -> Result<Running> {
    let kind = bench.kind()?.to_owned();
    let mut from = bench.guest()?;
    make_shared_file()?;
    for other in [
        Recipe::new(&kind).with(CAPACITY, OTHER_CAPACITY),
        Recipe::new(other_type(&kind)),
        Recipe::new(&kind).with(STORE, "file").with(FILE, SHARED),
    ] {
        migration::refused(&mut from, &other, log)?;
    }
    Ok(from)
}

pub fn two_disks(bench: &mut Bench<'_>) -> Result<Running> {
    let kind = bench.kind()?.to_owned();
    let recipes = [
        Recipe::new(&kind),
        Recipe::new(other_type(&kind)).with(CAPACITY, OTHER_CAPACITY),
    ];
    let mut running = bench.boot(&recipes)?;
    running.start_load()?;
    for _ in 0..2 {
        running = move_on(running)?;
    }
    Ok(running)
}

/// The namespaces of a disk but for the first one, which is in memory: attributes and their values.
const NAMESPACES: [(&str, &str); 9] = [
    ("nvme-ns2/block_size", "4096"),
    ("nvme-ns2/file", SHARED),
    ("nvme-ns2/store", "file"),
    ("nvme-ns3/block_size", "4096"),
    ("nvme-ns3/capacity", "50331648"),
    ("nvme-ns3/store", "ram"),
    ("nvme-ns4/block_size", "512"),
    ("nvme-ns4/file", OTHER_SHARED),
    ("nvme-ns4/store", "file"),
];

/// Finds the disk of a namespace: Linux looks at the namespaces at once, and numbers the disks as they come.
const DISK_OF: &str = "disk_of() { grep -lx $1 /sys/block/nvme0n*/nsid | cut -d / -f 4; }";

/// Checks that the guest sees the namespaces as they were made, by sectors of 512 bytes and the size of a block, and writes
/// atomically to those in memory.
const CHECK_NAMESPACES: &str = "
    for expected in 1:131072: 2:131072:4096 3:98304:4096 4:65536:512; do
        disk=$(disk_of ${expected%%:*})
        seen=$(cat /sys/block/$disk/size):$(cat /sys/block/$disk/queue/logical_block_size)
        case $seen in
        ${expected#*:}*) ;;
        *) echo \"$disk, namespace $expected: saw $seen\"; exit 1 ;;
        esac
    done
    for disk in $(disk_of 1) $(disk_of 3); do
        [ $(cat /sys/block/$disk/queue/atomic_write_max_bytes) -gt 4096 ] || exit 1
        /proc/1/exe atomic-write /dev/$disk $((40 * 1048576)) || exit 1
    done";

pub fn namespaces(bench: &mut Bench<'_>) -> Result<Running> {
    let files = [(SHARED, SHARED_SIZE), (OTHER_SHARED, OTHER_CAPACITY)];
    for (file, size) in files {
        make_file(file, size)?;
    }
    let recipe = NAMESPACES
        .iter()
        .fold(Recipe::new(bench.kind()?), |recipe, (name, value)| {
            recipe.with(name, value)
        });
    let mut running = bench.boot_with(Hardware {
        kernel_options: FOUR_DISKS,
        ..Bench::hardware(bench.qemu, &[recipe])?
    })?;
    let check = format!("{DISK_OF}\n{CHECK_NAMESPACES}");
    running.script(&check)?;
    running.start_load()?;
    for _ in 0..2 {
        running = move_on(running)?;
        for (file, _) in files {
            expect_locked(file)?;
        }
    }
    running.script(&check)?;
    running.verdict()?;
    for (file, nsid) in [(SHARED, 2), (OTHER_SHARED, 4)] {
        let disk = running.script(&format!("{DISK_OF}\ndisk_of {nsid}"))?;
        expect_in_file(&running, file, disk.trim())?;
    }
    Ok(running)
}

/// The guest's parameter that tells the number of disks.
const FOUR_DISKS: &str = "lab.disks=4";

/// The kernel's parameter that disables MSI and MSI-X.
const WITHOUT_MESSAGES: &str = "pci=nomsi";

/// Checks that the disk has one interrupt, INTx.
const ON_ITS_PIN: &str = "
    seen=$(grep ' nvme' /proc/interrupts)
    case $seen in
    *MSI* | '') echo \"expected the disk's pin, saw: $seen\"; exit 1 ;;
    esac";

pub fn intx_only(bench: &mut Bench<'_>) -> Result<Running> {
    let recipe = Recipe::new(bench.kind()?);
    let mut running = bench.boot_with(Hardware {
        kernel_options: WITHOUT_MESSAGES,
        ..Bench::hardware(bench.qemu, &[recipe])?
    })?;
    running.start_load()?;
    for _ in 0..2 {
        running = move_on(running)?;
    }
    running.script(ON_ITS_PIN)?;
    Ok(running)
}

fn make_shared_file() -> Result<()> {
    make_file(SHARED, SHARED_SIZE)
}

fn make_file(path: &str, size: u64) -> Result<()> {
    let file = File::create(path).context("creating a disk's file")?;
    file.set_len(size).context("creating a disk's file")
}

/// Checks that no other disk can open the file while a guest's disk has it.
fn expect_locked(path: &str) -> Result<()> {
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .context("opening a disk's file")?;
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(()),
        other => bail!("locking the file of a disk in use: expected EAGAIN, saw {other:?}"),
    }
}

pub fn shared_file(bench: &mut Bench<'_>) -> Result<Running> {
    make_shared_file()?;
    let recipe = Recipe::new(bench.kind()?)
        .with(STORE, "file")
        .with(FILE, SHARED);
    let mut running = bench.boot(&[recipe])?;
    running.start_load()?;
    expect_locked(SHARED)?;
    for _ in 0..2 {
        running = move_on(running)?;
        expect_locked(SHARED)?;
    }
    running.verdict()?;
    expect_in_file(&running, SHARED, "nvme0n1")?;
    Ok(running)
}

/// Checks that the host, too, reads the guest's data in the file of a disk.
fn expect_in_file(running: &Running, file: &str, disk: &str) -> Result<()> {
    let in_guest = running.script(&format!("cat {}", load::sum_file(disk)))?;
    let mut in_file = String::new();
    let command = load::sum_of_cold_part(file);
    program::run_with("/bin/sh", &["-c", &command], |line| in_file.push_str(&line))?;
    ensure!(
        in_guest.trim() == in_file.trim(),
        "{file}, its first part: expected {}, as the guest has it, saw {}",
        in_guest.trim(),
        in_file.trim()
    );
    Ok(())
}
