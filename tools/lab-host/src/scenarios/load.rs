// SPDX-License-Identifier: GPL-2.0

//! The content of a guest's disk, and the loads on it.
//!
//! The first part of every disk is written once, and has to stay unchanged. Behind it each load has an area. The rest is
//! never written.

use anyhow::Result;

use super::running::Running;
use crate::report::doing;

/// Size of the part that stays unchanged, in MiB.
pub const COLD: u64 = 8;

/// The loads of every disk: name, begin of the area in MiB, and arguments of fio. In each round a load writes its area once
/// and reads all of it back.
const LOADS: [(&str, u64, &[&str]); 3] = [
    // Many commands at once, each with a page or two.
    (
        "random",
        COLD,
        &[
            "--ioengine=libaio",
            "--iodepth=32",
            "--rw=randwrite",
            "--bs=4k",
            "--size=2m",
        ],
    ),
    // Commands with lists of pages, of all lengths.
    (
        "large",
        COLD + 4,
        &[
            "--ioengine=io_uring",
            "--iodepth=4",
            "--rw=randwrite",
            "--bs=128k",
            "--size=4m",
        ],
    ),
    // One command at a time, and flushes.
    (
        "single",
        COLD + 16,
        &[
            "--ioengine=psync",
            "--rw=write",
            "--bs=16k",
            "--size=1m",
            "--fsync=16",
        ],
    ),
];

/// Arguments that make fio verify each block, past the page cache.
const VERIFY: [&str; 4] = [
    "--direct=1",
    "--verify=crc32c",
    "--do_verify=1",
    "--verify_fatal=1",
];

/// The guest's file with the checksum of a disk's cold part.
pub fn sum_file(disk: &str) -> String {
    format!("/tmp/cold-{disk}")
}

/// Reads a disk's cold part, past the page cache, into a checksum.
fn sum_command(disk: &str) -> String {
    let command = sum_of_cold_part(&format!("/dev/{disk}"));
    format!("echo 1 > /proc/sys/vm/drop_caches; {command}")
}

/// A command that prints the checksum of the cold part of the disk in `file`.
pub fn sum_of_cold_part(file: &str) -> String {
    format!("head -c {} {file} | sha256sum", COLD << 20)
}

/// Writes the cold part of every disk.
pub fn lay_out(running: &Running) -> Result<()> {
    for disk in running.guest.found().disks {
        doing(format!("laying out {}", disk.name));
        let (name, sum, file) = (&disk.name, sum_command(&disk.name), sum_file(&disk.name));
        running.script(&format!(
            "set -e
             dd if=/dev/urandom of=/dev/{name} bs=1M count={COLD} 2>/dev/null
             sync
             ({sum}) > {file}"
        ))?;
    }
    Ok(())
}

/// Begins the loads of every disk.
pub fn begin(running: &Running) -> Result<()> {
    for disk in running.guest.found().disks {
        for (name, offset, arguments) in LOADS {
            let file = format!("--filename=/dev/{}", disk.name);
            let offset = format!("--offset={offset}m");
            let mut all = vec![&*file, &*offset];
            all.extend(VERIFY);
            all.extend(arguments);
            let name = format!("{}-{name}", disk.name);
            running.guest.load(&running.vm.link, &name, &all)?;
        }
    }
    Ok(())
}

/// Checks the cold part of every disk.
pub fn check(running: &Running) -> Result<()> {
    for disk in running.guest.found().disks {
        let (name, sum, file) = (&disk.name, sum_command(&disk.name), sum_file(&disk.name));
        running.script(&format!(
            "expected=$(cat {file}); seen=$({sum})
             [ \"$expected\" = \"$seen\" ] && exit 0
             echo \"{name}, its first {COLD} MiB: expected $expected, saw $seen\"
             exit 1"
        ))?;
    }
    Ok(())
}
