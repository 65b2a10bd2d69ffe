// SPDX-License-Identifier: GPL-2.0

//! The parts that the program in the migrated guest and the program in the host VM share.
//!
//! [`line`](mod@line) is the form of the streamed data and its judge, [`flow`] sends [`datagram`]s both ways, [`report`] has the messages between guest and host, [`fio`] reads fio's reports, and
//! [`init`] the tasks of a first process in any VM.

#![forbid(unsafe_code)]

pub mod datagram;
pub mod fio;
pub mod flow;
pub mod init;
pub mod line;
pub mod network;
pub mod report;
pub mod sequence;
