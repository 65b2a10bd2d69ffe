// SPDX-License-Identifier: GPL-2.0

//! What the kernel's sample device, `samples/vfio-mdev/mtty.c`, does differently.
//!
//! `Documentation/mtty-comparison.rst` has it at length.

/// The tests that mtty fails, and why.
pub const DIFFERENCES: &[(&str, &str)] = &[];

/// Returns why mtty fails a test.
pub fn difference(test: &str) -> Option<&'static str> {
    DIFFERENCES
        .iter()
        .find(|(name, _)| *name == test)
        .map(|(_, why)| *why)
}
