// SPDX-License-Identifier: GPL-2.0

//! Host tests of the 82574 against a model of its registers.

mod bench;
mod follow;
mod hostile;
mod model;
mod properties;
mod sequences;
mod spec;
mod statistics;
