// SPDX-License-Identifier: GPL-2.0

//! What `lab` on the developer's machine and `lab-host` in the host VM share: the [`job`] that
//! goes in and the [`event`]s that come out.

#![forbid(unsafe_code)]

pub mod device;
pub mod event;
pub mod job;
pub mod monitor;
pub mod scenario;
pub mod vmm;
