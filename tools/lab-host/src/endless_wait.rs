// SPDX-License-Identifier: GPL-2.0

//! Detects that a guest's only processor waits, with interrupts off, for what only it could end.
//!
//! It waits for a spinlock, or for the handler of an interrupt. No other processor can hold the lock or run the handler, so what
//! it waits for was interrupted by a handler, where no kernel allows that: handlers run with interrupts off, and a lock
//! that a handler takes is taken with interrupts off. So the emulation of the host VM delivered an interrupt twice
//! (`Accelerator::processors()`).

/// The address of a kernel with `nokaslr`.
const TEXT: u64 = 0xffff_ffff_8100_0000;
const TEXT_SYMBOL: &str = "_text";

/// The functions that wait: for a lock that is held, and for a handler of the same interrupt.
const WAITS: [&str; 2] = ["native_queued_spin_lock_slowpath", "irq_wait_on_inprogress"];

/// The bit of RFLAGS that enables interrupts.
const RFLAGS_IF: u64 = 1 << 9;

/// Whether `registers`, the output of QEMU's `info registers`, show such a processor. `symbols` is `/proc/kallsyms` of a
/// running kernel of the same build.
pub fn is_endless(registers: &str, kallsyms: &str) -> bool {
    let register = |name: &str| {
        let (_, rest) = registers.split_once(name)?;
        let digits = rest.split_whitespace().next()?;
        u64::from_str_radix(digits, 16).ok()
    };
    let (Some(rip), Some(flags)) = (register("RIP="), register("RFL=")) else {
        return false;
    };
    let waits = |function: &str| {
        addresses(kallsyms, function).is_some_and(|(start, end)| (start..end).contains(&rip))
    };
    flags & RFLAGS_IF == 0 && WAITS.into_iter().any(waits)
}

/// The addresses of a function in a kernel without randomisation.
fn addresses(kallsyms: &str, function: &str) -> Option<(u64, u64)> {
    let symbols = || {
        kallsyms.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            Some((words.nth(1)?, address))
        })
    };
    let address = |wanted| symbols().find(|(name, _)| *name == wanted).map(|it| it.1);
    let (text, start) = (address(TEXT_SYMBOL)?, address(function)?);
    let end = symbols()
        .map(|(_, address)| address)
        .filter(|it| *it > start)
        .min()?;
    let unshifted = |address: u64| address.checked_sub(text)?.checked_add(TEXT);
    Some((unshifted(start)?, unshifted(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KALLSYMS: &str = "\
        0000000000000000 A fixed_percpu_data\n\
        ffffffff92000000 T _text\n\
        ffffffff92fca700 T native_queued_spin_lock_slowpath\n\
        ffffffff92fca9f0 T queued_read_lock_slowpath\n\
        ffffffff92447c70 t irq_wait_on_inprogress\n\
        ffffffff92447ce0 T __pfx_irq_chip_pre_redirect_parent\n\
        ffffffff92fca680 t other\n";

    #[test]
    fn a_processor_that_waits_is_told_from_others() {
        for (registers, waits) in [
            ("RIP=ffffffff81fca7a4 RFL=00000002 [-------]", true),
            ("RIP=ffffffff81fca7a4 RFL=00000202 [-------]", false),
            ("RIP=ffffffff81447c98 RFL=00000006 [-----P-]", true),
            ("RIP=ffffffff81447c98 RFL=00000206 [-----P-]", false),
            ("RIP=ffffffff81447ce0 RFL=00000006 [-----P-]", false),
            ("RIP=ffffffff81fca6ff RFL=00000002 [-------]", false),
            ("RIP=ffffffff81fca9f0 RFL=00000002 [-------]", false),
            ("EIP=0000fff0 EFL=00000002 [-------]", false),
            ("", false),
        ] {
            assert_eq!(is_endless(registers, KALLSYMS), waits, "{registers}");
        }
    }

    #[test]
    fn without_symbols_nothing_is_said() {
        let registers = "RIP=ffffffff81fca7a4 RFL=00000002";
        for kallsyms in [
            "",
            "0000000000000000 T _text\n0000000000000000 T native_queued_spin_lock_slowpath\n",
        ] {
            assert!(!is_endless(registers, kallsyms), "{kallsyms}");
        }
    }
}
