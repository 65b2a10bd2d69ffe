// SPDX-License-Identifier: GPL-2.0

//! The stream: [`format`] describes it, [`writer`] puts its records into a chunk, [`reader`] takes them and
//! trusts nothing.

pub mod crc32c;
pub mod format;
pub mod identity;
mod order;
pub mod reader;
pub mod record;
pub mod writer;
