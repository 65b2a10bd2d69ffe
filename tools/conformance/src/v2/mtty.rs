// SPDX-License-Identifier: GPL-2.0

//! The cases that the kernel's sample device, `samples/vfio-mdev/mtty.c`, fails, and why.
//!
//! `Documentation/mtty-comparison.rst` explains them.

use std::path::Path;

/// The tests that mtty fails, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "state_a_stopped_device_does_not_change",
        "its registers take writes in any state",
    ),
    (
        "file_ends_for_now_in_pre_copy",
        "a read returns 0 at the end of the present data, and it has no poll()",
    ),
    (
        "size_shrinks_as_it_is_read",
        "the size is that of the whole state at any time",
    ),
    (
        "logging_is_started_once_and_stopped_once",
        "the calls are stubs",
    ),
    ("logging_takes_ranges_however_large", "the calls are stubs"),
    ("logging_refuses_bad_ranges", "the calls are stubs"),
    ("logging_ends_with_the_open", "the calls are stubs"),
    (
        "moving_a_stream_with_a_flipped_bit_is_refused",
        "it checks nothing but a header of 24 bytes",
    ),
    (
        "moving_more_than_the_stream_is_refused",
        "a write that was refused for its length can be followed by a shorter one",
    ),
    (
        "lifetime_a_close_in_any_state_leaves_nothing",
        "the next user finds it in the state in which the last one left it",
    ),
    (
        "lifetime_a_file_dies_with_the_open_device",
        "the next user finds it in the state in which the last one left it",
    ),
];

/// The tests that mtty fails on a kernel without iommufd.
const WITHOUT_IOMMUFD: &[(&str, &str)] = &[(
    "logging_is_all_there_or_not_at_all",
    "it has the calls on kernels where a report cannot work",
)];

/// Returns why mtty fails a test.
pub fn difference(test: &str) -> Option<&'static str> {
    // The bitmaps of reports are a part of iommufd.
    let more = if Path::new("/sys/class/misc/iommu").exists() {
        &[]
    } else {
        WITHOUT_IOMMUFD
    };
    DIFFERENCES
        .iter()
        .chain(more)
        .find(|(name, _)| *name == test)
        .map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::DIFFERENCES;
    use super::WITHOUT_IOMMUFD;
    use crate::target::Target;
    use crate::v2::cases;

    #[test]
    fn what_mtty_does_differently_is_said_of_tests_that_it_has() {
        let target = Target::of_type("mtty-1").expect("a known type");
        let names: Vec<&str> = cases()
            .filter(|case| case.concerns(&target))
            .map(|case| case.name)
            .collect();
        for (name, _) in DIFFERENCES.iter().chain(WITHOUT_IOMMUFD) {
            assert!(names.contains(name), "{name} is no test of mtty");
        }
    }
}
