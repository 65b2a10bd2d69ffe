// SPDX-License-Identifier: GPL-2.0

//! How the host VM's processors are made: by KVM where it works and nests, else by QEMU's translation.

use std::fs;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;

use super::limited;
use crate::components::kernel_image;
use crate::components::Components;

/// How long a kernel may take to print its first line when KVM is probed.
const PROBE_LIMIT: Duration = Duration::from_secs(15);

/// The beginning of that line.
const PROBE_WORD: &str = "Linux version";

/// How the host VM's processors are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// By the machine's processors, with nested virtualisation.
    Kvm,
    /// By QEMU's translation, which emulates AMD's virtualisation.
    Tcg,
    /// By QEMU's translation of a single processor, whose clock goes on by a nanosecond with each instruction.
    Counted,
}

impl Accelerator {
    pub(super) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            // With five-level page tables a kernel with KASAN once gave a false report. Fast string
            // instructions are emulated byte by byte, so kernels must not copy by them.
            Self::Tcg => &[
                "-accel",
                "tcg,thread=multi,tb-size=1024",
                "-cpu",
                "max,la57=off,erms=off,fsrm=off",
            ],
            Self::Counted => &[
                "-accel",
                "tcg,thread=single,tb-size=1024",
                "-cpu",
                "max,la57=off,erms=off,fsrm=off",
                "-icount",
                "shift=0,sleep=off",
            ],
        }
    }

    /// The number of processors of a host VM; `nested` says whether the VM runs guests.
    ///
    /// An emulated host VM that runs guests has one processor. QEMU up to 11.1 at least (`helper_vmrun()` in
    /// `svm_helper.c`) leaves the vector of an interrupt that it has injected into a guest in
    /// `exception_index`. Processors make each other leave their loops before some atomic accesses. If that
    /// happens before the guest has exited, the guest gets the interrupt again, in the middle of a handler or
    /// with interrupts off. The guest then waits for ever for a lock that it holds, or its state is lost and
    /// KVM reports an internal error. No other processor makes a single one leave its loop; only the main loop
    /// does, when it asks the processor to look at an interrupt that has been taken already.
    pub fn processors(self, nested: bool) -> u32 {
        match self {
            Self::Tcg if nested => 1,
            Self::Counted => 1,
            _ => 2,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG, as KVM cannot be used here",
            Self::Counted => "TCG, which counts instructions",
        }
    }

    /// The accelerator that works on this machine. `/dev/kvm` alone proves little, so a kernel is started under it.
    pub fn probe(components: &Components, kernel: &Path) -> Result<Self> {
        let usable = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_ok();
        let nested = ["kvm_amd", "kvm_intel"].iter().any(|module| {
            fs::read_to_string(format!("/sys/module/{module}/parameters/nested"))
                .is_ok_and(|value| matches!(value.trim(), "1" | "Y"))
        });
        if !usable || !nested {
            return Ok(Self::Tcg);
        }
        let mut command = limited(components.host_qemu()?, PROBE_LIMIT);
        let output = command
            .args(Self::Kvm.arguments())
            .args([
                "-machine",
                "q35",
                "-m",
                "256M",
                "-nodefaults",
                "-display",
                "none",
            ])
            .args([
                "-no-reboot",
                "-serial",
                "stdio",
                "-append",
                "console=ttyS0 panic=-1",
            ])
            .arg("-kernel")
            .arg(kernel_image(kernel)?)
            .stdin(Stdio::null())
            .output()
            .context("probing KVM")?;
        let works = String::from_utf8_lossy(&output.stdout).contains(PROBE_WORD);
        Ok(if works { Self::Kvm } else { Self::Tcg })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulated_host_of_guests_has_one_processor() {
        assert_eq!(Accelerator::Tcg.processors(true), 1);
        assert_eq!(Accelerator::Tcg.processors(false), 2);
        assert_eq!(Accelerator::Kvm.processors(true), 2);
        assert_eq!(Accelerator::Counted.processors(false), 1);
    }
}
