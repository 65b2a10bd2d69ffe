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
/// it, or waits for a lock that it holds, or for the handler that it runs. See [`interrupts_its_own_entry`], too.
const EMULATION_BROKE: [&str; 3] = [
    "KVM internal error. Suberror: 3",
    "WARNING: kernel/time/hrtimer.c:2101 at __hrtimer_run_queues",
    WAITS,
];

/// What is said of a guest whose timer interrupt came twice at once.
const ENTRY: &str =
    "a timer interrupt came before the first instruction of the handler of a timer interrupt";

/// The sign of a broken emulation in the reason of a failure.
pub fn broken_emulation(why: &str) -> Option<&'static str> {
    EMULATION_BROKE
        .into_iter()
        .find(|sign| why.contains(sign))
        .or_else(|| interrupts_its_own_entry(why).then_some(ENTRY))
}

/// Whether a call trace has a timer interrupt that came before the first instruction of the handler of another. The
/// processor turns interrupts off as it enters the handler. The second handler takes the first for the kernel, whose
/// GS base it leaves as it is, which is that of user space.
fn interrupts_its_own_entry(why: &str) -> bool {
    const HANDLER: &str = "asm_sysvec_apic_timer_interrupt+";
    const INTERRUPTED: &str = "RIP: 0010:asm_sysvec_apic_timer_interrupt+0x0/";
    let lines: Vec<_> = why.lines().collect();
    lines.windows(2).any(|pair| {
        let [entered, interrupted] = pair else {
            return false;
        };
        entered.contains(HANDLER) && !entered.contains("RIP:") && interrupted.contains(INTERRUPTED)
    })
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
            (
                "[   13.657150]  sysvec_apic_timer_interrupt+0xe/0x90\n\
                 [   13.657161]  asm_sysvec_apic_timer_interrupt+0x1a/0x20\n\
                 [   13.657169] RIP: 0010:asm_sysvec_apic_timer_interrupt+0x0/0x20",
                Some(ENTRY),
            ),
            (
                "[   13.657161]  asm_sysvec_apic_timer_interrupt+0x1a/0x20\n\
                 [   13.657169] RIP: 0010:default_idle+0xf/0x20",
                None,
            ),
            (
                "[   13.657161]  asm_exc_general_protection+0x26/0x30\n\
                 [   13.657169] RIP: 0010:asm_sysvec_apic_timer_interrupt+0x0/0x20",
                None,
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
