// SPDX-License-Identifier: GPL-2.0

//! How an Intel 82574L is stopped, written down and started again elsewhere.
//!
//! Unlike the other devices here this one is not emulated: the registers are a card's. A variant driver
//! gives [`Controller`] access to them, and to the guest's memory, and moves the card's state with it.
//! Nothing in here allocates or locks.
//!
//! ```text
//! registers   names and bits of the data sheet
//! table       which registers a state has, and which of their bits
//! state       the state as bytes, and what is refused
//! statistics  registers that are cleared by reading them
//! phy         the PHY, through MDIC
//! ring        descriptor rings
//! controller  the sequences: stop, apply, start, reset; trapped accesses
//! follower    which pages the card may write to
//! ```
//!
//! `Documentation/ferry_e1000e.rst` lists what moves, and what cannot, with the reasons.

#![cfg_attr(not(MODULE), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![warn(clippy::arithmetic_side_effects)]
#![warn(clippy::indexing_slicing)]
#![warn(clippy::expect_used)]
#![warn(clippy::unwrap_used)]
#![warn(clippy::panic)]

mod controller;
mod ctrl_reset;
mod error;
mod follower;
mod phy;
mod registers;
mod ring;
mod state;
mod statistics;
mod table;

pub use controller::{
    Controller,
    Following, //
};
pub use error::Error;
pub use follower::{
    FollowError,
    Follower,
    Slot, //
};
pub use registers::QUEUES;
pub use ring::Direction;
pub use state::{
    Identity,
    State,
    StateError, //
};
