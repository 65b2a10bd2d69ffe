// SPDX-License-Identifier: GPL-2.0

//! The 48 statements of the v1 protocol, and the tests that prove each.
//!
//! The numbers are those of `Documentation/protocol-v1.rst`. A test's name carries the number of the
//! statement it proves. Some statements, or parts of them, cannot be seen from user space; for these
//! the table names the host tests that prove them.

use super::all;

/// A statement.
struct Statement {
    /// Its number.
    number: u8,
    /// What it says, in short.
    says: &'static str,
    /// The part that user space cannot see, and the host tests that prove it.
    elsewhere: Option<&'static str>,
}

const fn seen(number: u8, says: &'static str) -> Statement {
    Statement {
        number,
        says,
        elsewhere: None,
    }
}

const fn partly(number: u8, says: &'static str, elsewhere: &'static str) -> Statement {
    Statement {
        number,
        says,
        elsewhere: Some(elsewhere),
    }
}

/// All of them.
const STATEMENTS: [Statement; 48] = [
    seen(1, "one region of type 3, subtype 1; argsz retry"),
    seen(2, "the header's fields and their offsets"),
    seen(3, "native width and alignment only"),
    seen(4, "reserved reads 0, writes are ignored"),
    seen(5, "pending_bytes and data_offset are read-only"),
    seen(6, "header operations are serialised"),
    seen(7, "errors are reported while the window is mapped"),
    seen(8, "the data section is page-aligned and past the header"),
    seen(9, "the sparse mmap capability names exactly the window"),
    seen(10, "read and write work with and without a mapping"),
    seen(11, "8/4/2/1-byte data accesses"),
    seen(12, "a chunk is inside the region and below 2 GiB"),
    seen(13, "data_offset is the start of the mmap area"),
    seen(14, "stores into the window never harm"),
    seen(15, "a window shows nobody else's bytes"),
    seen(16, "reserved bits of device_state read back"),
    seen(17, "every open starts in RUNNING"),
    seen(18, "five states are valid, three are refused"),
    seen(19, "the device is stopped before the write returns"),
    partly(
        20,
        "a failed write leaves the previous state, or ERROR",
        "ERROR after a device that cannot go back: rust/migration/tests, every failing step",
    ),
    partly(
        21,
        "ERROR is left by reset only; reset works from any state",
        "leaving ERROR: rust/migration/tests, every failing step",
    ),
    seen(22, "no transition on its own"),
    seen(23, "the drawn arcs"),
    seen(24, "the undrawn arcs that QEMU uses"),
    partly(
        25,
        "any valid to any valid, in one order, unwound on failure",
        "the order and the unwinding of each step: rust/migration/tests, enumeration",
    ),
    seen(26, "a same-state write has no side effect"),
    seen(
        27,
        "STOP is supported; pre-copy is accepted with nothing to send",
    ),
    seen(28, "a saving state may be left with data unread"),
    seen(29, "munmap before the cancelling state"),
    seen(30, "leaving RESUMING needs a complete stream"),
    seen(31, "config writes and SET_IRQS work while not RUNNING"),
    partly(
        32,
        "close in any state; the next open is fresh",
        "that memory is freed: kmemleak in `make test-debug`",
    ),
    seen(33, "reading pending_bytes has no side effect"),
    partly(
        34,
        "pending_bytes is the device's word, 0 outside saving",
        "growth between reads, which a device without dirty blocks does not show: \
         rust/migration/tests",
    ),
    seen(35, "reading data_offset prepares a chunk"),
    seen(36, "data_offset and data_size stay the same"),
    seen(37, "pending_bytes after data_offset consumes"),
    seen(38, "an unconsumed chunk is not lost by a state change"),
    seen(39, "never pending_bytes with an empty chunk"),
    partly(
        40,
        "0 is the end of stop-and-copy, not of pre-copy",
        "a rise during pre-copy, which a device without dirty blocks does not show: \
         rust/migration/tests",
    ),
    seen(41, "pending_bytes shrinks and is honest"),
    partly(
        42,
        "stop-and-copy takes time by what is dirty",
        "a device with dirty blocks: rust/migration/tests; the serial card has none",
    ),
    seen(43, "a chunk is consumed before the data_size write returns"),
    seen(44, "no meaning in chunk borders"),
    seen(45, "data_size too large, zero, or in another state"),
    partly(
        46,
        "bad streams are refused, the device is resettable",
        "every single-bit flip: rust/migration/tests; a bit in each byte is done here",
    ),
    seen(47, "a restarted save in one resuming session"),
    seen(48, "reset and a good stream after a refusal"),
];

/// Returns the names of the tests of a statement.
fn proofs(number: u8) -> impl Iterator<Item = &'static str> {
    let prefix = format!("v1_{number:02}_");
    all()
        .map(|test| test.name)
        .filter(move |name| name.starts_with(&prefix))
}

/// Lists the statements with their tests.
pub fn print() {
    for statement in &STATEMENTS {
        println!("{:02} {}", statement.number, statement.says);
        for name in proofs(statement.number) {
            println!("   {name}");
        }
        if let Some(elsewhere) = statement.elsewhere {
            println!("   not from user space: {elsewhere}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::all;
    use super::proofs;
    use super::STATEMENTS;

    #[test]
    fn every_statement_has_a_test_and_its_place() {
        for (i, statement) in STATEMENTS.iter().enumerate() {
            assert_eq!(usize::from(statement.number), i + 1, "order of the table");
            assert!(
                proofs(statement.number).next().is_some(),
                "statement {} has no test",
                statement.number
            );
        }
    }

    #[test]
    fn every_numbered_test_has_a_statement() {
        for test in all() {
            if let Some(rest) = test.name.strip_prefix("v1_") {
                let number: usize = rest[..2].parse().expect("two digits");
                assert!((1..=STATEMENTS.len()).contains(&number), "{}", test.name);
            }
        }
    }

    #[test]
    fn no_two_tests_have_the_same_name() {
        let mut names: Vec<&str> = all().map(|test| test.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
