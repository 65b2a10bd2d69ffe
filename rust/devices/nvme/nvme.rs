// SPDX-License-Identifier: GPL-2.0

//! An NVMe controller with one namespace, as a pure value.
//!
//! [`Controller`] is the whole device but for the content of its namespace: configuration space,
//! registers, queues, features and logs. A driver forwards the accesses of a virtual machine to it,
//! has a worker call [`Controller::work`] with access to the guest's memory ([`GuestMemory`]) and to
//! the namespace's content ([`BlockBackend`]), sends the messages that [`Controller::take_raised`] names or
//! drives the pin as [`Controller::intx_asserted`] says, and moves the controller to another host
//! with [`Controller::save`] and [`Controller::load`]. Nothing in here allocates, locks, sleeps or
//! looks at a clock.
//!
//! It follows revision 1.4 of the NVM Express base specification; section numbers in this crate are
//! those of that document.
//!
//! # Who does what when
//!
//! A register access never touches the guest's memory or the namespace. What an access starts,
//! [`Controller::work`] does: it enables the controller, completes a shutdown, and executes commands.
//! So CSTS.RDY and CSTS.SHST follow CC in the next call of it, while a reset is done at once.
//!
//! Doorbells do not even reach the controller in the access that writes them: [`Doorbells`] takes
//! them without a lock until the worker, or [`Controller::drain`], comes for them.
//!
//! While software does not let the function be a bus master, or has it in D3hot, commands wait and memory
//! is left alone. In D3hot, or without memory space, nobody reaches the registers either:
//! [`Controller::decodes`] says so, and whoever forwards accesses asks it before.
//!
//! A command is read once, executed to its end and completed within one call of
//! [`Controller::work`], so between calls a command either has not left its queue or is in its
//! completion queue. Asynchronous event requests are the exception, and a part of the state.
//!
//! # What a guest can do
//!
//! Anything. Each number that it gives is checked, each loop is bounded by the size of a queue, by
//! the maximum data transfer size or by the worker's budget, and what it gets wrong leads to a status
//! code, to an asynchronous event or to CSTS.CFS.

#![cfg_attr(not(MODULE), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod admin;
mod controller;
mod doorbells;
mod error_log;
mod events;
mod features;
mod function;
mod health;
mod identifiers;
mod io;
mod load_error;
mod msix_table;
mod names;
mod parameters;
mod prp;
mod queue;
mod queues;
mod registers;
mod shadow;
mod spec;
mod state;
mod window;
mod worker;

pub use controller::Controller;
pub use device_model::{
    BackendError, //
    BlockBackend,
    GuestMemory,
    MemoryError, //
};
pub use doorbells::Doorbells;
pub use load_error::LoadError;
pub use parameters::{
    capacity_max,
    ParameterError,
    Parameters,
    CAPACITY_MAX,
    CAPACITY_MIN,
    CAPACITY_UNIT,
    CONFIGURATION_MAX,
    QUEUE_PAIRS_MAX,
    QUEUE_PAIRS_MIN,
    SERIAL_SIZE,
    STORE_ZEROING, //
};
pub use pci_config::{
    AccessError,
    ImageError, //
    CONFIG_SPACE_SIZE,
};
pub use worker::Work;
