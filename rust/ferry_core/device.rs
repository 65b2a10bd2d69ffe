// SPDX-License-Identifier: GPL-2.0

//! A device that a user opens: its data, and what each operation of VFIO does with it.

pub(crate) mod emulated;
pub(crate) mod execution;
mod mapping;
mod open;
pub(crate) mod open_model;
mod ops;
mod prepared;
mod registers;
mod settings;
mod target;
mod work;
