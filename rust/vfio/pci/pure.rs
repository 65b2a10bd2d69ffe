// SPDX-License-Identifier: GPL-2.0

//! The modules of the crate that need no kernel, as a crate of their own for host tests.

#![no_std]
#![forbid(unsafe_code)]

#[path = "config_layout.rs"]
pub mod config_layout;
#[path = "traps.rs"]
pub mod traps;
#[path = "unmaps.rs"]
pub mod unmaps;
