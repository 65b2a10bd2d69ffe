// SPDX-License-Identifier: GPL-2.0

//! Recognises faults of the host VM's emulation in failures.

use lab_host::event::WAITS;

/// Signs, in the reason of a failure, that the emulation of the host VM broke its guest. No device can cause them.
///
/// KVM finds an exception under way where there is none: TCG leaves the type of the last exception that
/// was injected into a guest in EXITINTINFO, without its valid bit, and KVM looks at the type alone
/// (`svm_handle_exit()`).
///
/// A guest's timer interrupt comes during the handler of the same interrupt: TCG delivered it
/// twice, see `Accelerator::processors()`. Handlers run with interrupts off. The guest either warns of
/// it, or waits for a lock that it holds, or for the handler that it runs.
const EMULATION_BROKE: [&str; 3] = [
    "KVM internal error. Suberror: 3",
    "WARNING: kernel/time/hrtimer.c:2101 at __hrtimer_run_queues",
    WAITS,
];

/// The sign of a broken emulation in the reason of a failure.
pub fn broken_emulation(why: &str) -> Option<&'static str> {
    EMULATION_BROKE.into_iter().find(|sign| why.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_device_can_do_counts_as_broken_emulation() {
        for (why, sign) in [
            (
                "A: KVM internal error. Suberror: 3",
                Some(EMULATION_BROKE[0]),
            ),
            (
                "the guest's kernel: WARNING: kernel/time/hrtimer.c:2101 at \
                 __hrtimer_run_queues+0x201/0x240, CPU#0: fio/156",
                Some(EMULATION_BROKE[1]),
            ),
            (
                "B: query-status: {}\nthe guest's only processor waits with interrupts off for what \
                 only it could end\nRAX=0",
                Some(WAITS),
            ),
            ("KVM internal error. Suberror: 1", None),
            (
                "the guest's kernel: WARNING: drivers/nvme/host/pci.c:1",
                None,
            ),
            ("watchdog: BUG: soft lockup - CPU#0 stuck for 27s!", None),
            ("lost 1, doubled 0", None),
        ] {
            assert_eq!(broken_emulation(why), sign, "{why}");
        }
    }
}
