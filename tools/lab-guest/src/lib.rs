// SPDX-License-Identifier: GPL-2.0

//! What the program in the migrated guest and the program in the host VM share.
//!
//! [`line`] is the form of the streamed data and its judge, [`report`] is what the guest tells the
//! host over its virtio-serial port, and [`init`] is what a first process has to do in any VM.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod init;
pub mod line;
pub mod report;
