// SPDX-License-Identifier: GPL-2.0

//! The parts that `lab` on the developer's machine and `lab-host` in the host VM share: the [`job`] that the VM gets, and
//! the [`event`]s that it reports.

#![forbid(unsafe_code)]

pub mod device;
pub mod event;
pub mod job;
pub mod monitor;
pub mod scenario;
pub mod vmm;
