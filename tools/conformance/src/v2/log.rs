// SPDX-License-Identifier: GPL-2.0

//! The kernel's complaints about itself, after all other cases.

use crate::case::cases;
use crate::case::Case;
use crate::check::Outcome;
use crate::kmsg::no_complaint;
use crate::target::Target;

/// The case that runs last.
pub const LAST: &[Case] = cases![&[]; log_the_kernel_did_not_complain];

fn log_the_kernel_did_not_complain(_: &Target) -> Outcome {
    no_complaint()
}
