// SPDX-License-Identifier: GPL-2.0

//! Runs the checks of the pure crates in the kernel, with the kernel's compiler and sanitizers. The same
//! files are host tests.
//!
//! Built if `CONFIG_KUNIT` is set; the results are in the kernel log and in debugfs.

use kernel::prelude::*;

#[path = "../migration/tests/shared.rs"]
mod migration_checks;
#[path = "../devices/uart/tests/shared.rs"]
mod uart_checks;

module! {
    type: Module,
    name: "ferry_kunit",
    authors: ["The Ferry authors"],
    description: "KUnit tests of Ferry's pure crates",
    license: "GPL",
}

struct Module;

impl kernel::Module for Module {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }
}

/// Runs all `checks`, and fails if a check fails.
fn run(checks: &[(&str, fn() -> Result<(), &'static str>)]) -> Result {
    let mut result = Ok(());

    for (name, check) in checks {
        match check() {
            Ok(()) => pr_info!("{}: ok\n", name),
            Err(expected) => {
                pr_err!("{}: FAILED, expected {}\n", name, expected);
                result = Err(EINVAL);
            }
        }
    }

    result
}

#[kunit_tests(ferry_migration)]
mod migration_tests {
    #[test]
    fn protocol_and_stream() -> kernel::error::Result {
        crate::run(crate::migration_checks::CHECKS)
    }
}

#[kunit_tests(ferry_uart)]
mod uart_tests {
    #[test]
    fn device_model() -> kernel::error::Result {
        crate::run(crate::uart_checks::CHECKS)
    }
}
