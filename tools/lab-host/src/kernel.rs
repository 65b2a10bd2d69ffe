// SPDX-License-Identifier: GPL-2.0

//! The host VM's kernel: modules, its log, and how the VM ends.

use std::ffi::CString;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use lab_host::job::Module;
use lab_host::job::EXIT_PORT;
use rustix::fs::OFlags;
use rustix::io::Errno;

/// The kernel's release.
pub fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

/// Loads `module`. A module that is loaded or built in already is no error.
pub fn load(module: &Module) -> Result<()> {
    let file = File::open(&module.path).with_context(|| format!("opening {}", module.path))?;
    let parameters = CString::new(module.parameters.as_str()).context("module parameters")?;
    match rustix::system::finit_module(&file, &parameters, 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(_) if module.optional => Ok(()),
        Err(errno) => Err(errno).with_context(|| format!("loading the module {}", module.name)),
    }
}

/// Has KVM take the guests' clock rate for the host's.
///
/// A KVM that is built into the kernel measures the rate before the kernel has refined it. Under
/// translation the two differ by more than KVM tolerates, and without a processor that can scale
/// the rate, KVM 7.3 then leaves the scale at zero: the guest's timers come ever later.
pub fn tolerate_clock_rates() -> Result<()> {
    const TOLERANCE: &str = "/sys/module/kvm/parameters/tsc_tolerance_ppm";
    const PARTS_PER_MILLION: &str = "50000";
    if Path::new(TOLERANCE).exists() {
        fs::write(TOLERANCE, PARTS_PER_MILLION).context("setting KVM's tolerance")?;
    }
    Ok(())
}

/// Ends the VM by its `isa-debug-exit` device, with `code` (the VMM's exit status is `2 code + 1`).
/// Without the device it powers off, whose status is not mistaken for success.
pub fn end(code: u8) {
    let exit = || -> std::io::Result<()> {
        let mut ports = OpenOptions::new().write(true).open("/dev/port")?;
        ports.seek(SeekFrom::Start(EXIT_PORT))?;
        ports.write_all(&[code])
    };
    if exit().is_err() {
        let _ = rustix::system::reboot(rustix::system::RebootCommand::PowerOff);
    }
}

/// Lines of a kernel report that are shown.
const EXCERPT: usize = 40;

/// The beginnings of lines that report a fault.
const TROUBLE_STARTS: [&str; 10] = [
    "WARNING: ",
    "BUG: ",
    "kernel BUG at",
    "Oops: ",
    "INFO: task ",
    "INFO: trying to register non-static key",
    "INFO: rcu",
    "INFO: possible",
    "Kernel panic",
    "Internal error",
];

/// Parts of lines that report a fault.
const TROUBLE_PARTS: [&str; 18] = [
    "BUG: KASAN",
    "BUG: KFENCE",
    "BUG: sleeping function",
    "UBSAN:",
    "refcount_t:",
    "general protection fault",
    "unable to handle page fault",
    "NULL pointer dereference",
    "detected stalls",
    "self-detected stall",
    "possible circular locking",
    "possible recursive locking",
    "suspicious RCU usage",
    "inconsistent lock state",
    "new suspected memory leaks",
    "unreferenced object 0x",
    "panicked at",
    "bad page state",
];

/// Reads the kernel's log from the end of the last reading.
pub struct Log {
    kmsg: File,
    kept: Vec<String>,
}

impl Log {
    /// Starts at the log's beginning.
    pub fn open() -> Result<Self> {
        let kmsg = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32)
            .open("/dev/kmsg")
            .context("opening /dev/kmsg")?;
        Ok(Self {
            kmsg,
            kept: Vec::new(),
        })
    }

    /// Takes the lines that were added since the last [`Self::take`].
    pub fn take(&mut self) -> Vec<String> {
        self.peek();
        std::mem::take(&mut self.kept)
    }

    /// The lines of the next [`Self::take`], without taking them.
    pub fn peek(&mut self) -> &[String] {
        let mut record = [0u8; 8192];
        loop {
            match self.kmsg.read(&mut record) {
                Ok(0) => break,
                Ok(length) => {
                    let record = String::from_utf8_lossy(&record[..length]);
                    // "prefix;text\n KEY=value..."
                    let text = record.split_once(';').map_or(&*record, |(_, text)| text);
                    self.kept
                        .push(text.lines().next().unwrap_or_default().to_owned());
                }
                // Records that were overwritten before they could be read.
                Err(error) if error.raw_os_error() == Some(Errno::PIPE.raw_os_error()) => {
                    self.kept.push("(kernel log records were lost)".to_owned());
                }
                Err(_) => break,
            }
        }
        &self.kept
    }
}

/// Whether a line of the kernel's log reports a fault.
pub fn is_trouble(line: &str) -> bool {
    TROUBLE_STARTS.iter().any(|start| line.starts_with(start))
        || TROUBLE_PARTS.iter().any(|part| line.contains(part))
}

/// Whether `report`, the lines from a report of lockdep on, is about type1's own order of locks: type1 takes a lock while
/// it has a driver unpin memory, which the driver does by a function of type1 that takes another lock; elsewhere type1 takes
/// the two in the other order. A driver can do nothing about it.
fn is_of_type1(report: &[String]) -> bool {
    const HELD: &str = "vfio_notify_dma_unmap";

    report
        .first()
        .is_some_and(|line| line.contains("possible circular locking"))
        && report
            .iter()
            .take(EXCERPT)
            .find(|line| line.contains(", at: ") && line.contains("device_list_lock"))
            .is_some_and(|line| line.contains(HELD))
}

/// The first fault in `lines`, with the lines that follow.
pub fn trouble(lines: &[String]) -> Option<String> {
    let first = (0..lines.len())
        .find(|&first| is_trouble(&lines[first]) && !is_of_type1(&lines[first..]))?;
    Some(
        lines[first..]
            .iter()
            .take(EXCERPT)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_type1s_locks_is_no_fault_of_a_driver() {
        let report = |held: &str| {
            [
                "WARNING: possible circular locking dependency detected",
                "a/1 is trying to acquire lock:",
                "ffff (Variant::open){+.+.}-{4:4}, at: rust_helper_mutex_lock+0xb/0x10",
                "but task is already holding lock:",
                held,
            ]
            .map(str::to_owned)
        };
        let type1 = report(
            "ffff (&iommu->device_list_lock){+.+.}-{4:4}, at: vfio_notify_dma_unmap+0x5d/0x180",
        );
        let other =
            report("ffff (Variant::migration){+.+.}-{4:4}, at: rust_helper_mutex_lock+0xb/0x10");
        assert_eq!(trouble(&type1), None);
        assert!(trouble(&other).is_some());
        let mut both = type1.to_vec();
        both.extend(other);
        assert!(trouble(&both).is_some());
    }

    #[test]
    fn splats_are_told_from_harmless_lines() {
        for bad in [
            "WARNING: drivers/base/core.c:12 at device_add+0x1/0x2, CPU#0: insmod/1",
            "BUG: KASAN: slab-use-after-free in foo",
            "WARNING: possible circular locking dependency detected",
            "refcount_t: underflow; use-after-free.",
            "Oops: general protection fault, probably for non-canonical address",
            "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
            "rust_kernel: panicked at ferry.rs:1:1:",
        ] {
            assert!(is_trouble(bad), "expected trouble: {bad}");
        }
        for good in [
            "kmemleak: Kernel memory leak detector initialized (mem pool available: 15000)",
            "RETBleed: WARNING: Spectre v2 mitigation leaves CPU vulnerable to RETBleed attacks, data leaks possible!",
            "ferry_uart: module verification failed: signature and/or required key missing - tainting kernel",
            "Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar",
        ] {
            assert!(!is_trouble(good), "expected no trouble: {good}");
        }
    }
}
