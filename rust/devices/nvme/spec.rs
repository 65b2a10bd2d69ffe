// SPDX-License-Identifier: GPL-2.0

//! The NVM Express base specification, revision 1.4: registers, layouts, opcodes and codes.
//!
//! Names are the specification's mnemonics, as `include/linux/nvme.h` has them. Nothing in here
//! knows what the controller of this crate is like.

pub(crate) mod command;
pub(crate) mod completion;
pub(crate) mod event;
pub(crate) mod feature;
pub(crate) mod identify;
pub(crate) mod log_page;
pub(crate) mod opcode;
pub(crate) mod registers;
pub(crate) mod status;
