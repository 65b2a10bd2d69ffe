// SPDX-License-Identifier: GPL-2.0

//! An NVMe controller with one namespace, as a pure value.
//!
//! [`Controller`] is the whole device but for the content of its namespace: configuration space,
//! registers, queues, features and logs. It is a [`DeviceModel`], whose worker executes commands with
//! access to the guest's memory ([`GuestMemory`]) and to the content of the namespace ([`BlockBackend`]).
//! Nothing in here allocates, locks, sleeps or looks at a clock.
//!
//! It follows revision 1.4 of the NVM Express base specification; section numbers in this crate are
//! those of that document.
//!
//! # Accesses and the worker
//!
//! A register access never touches the guest's memory or the namespace. The worker,
//! [`Controller::serve`], enables the controller, completes a shutdown, and executes commands. So
//! CSTS.RDY and CSTS.SHST follow CC in its next call, while a reset is done at once.
//!
//! Doorbells do not even reach the controller in the access that writes them: [`Doorbells`] takes
//! them without a lock until the worker, or [`Controller::drain`], takes them from there.
//!
//! While the function is no bus master, or is in D3hot, commands wait and memory is left alone. In
//! D3hot, or without memory space, the registers do not answer either, see [`DeviceModel::decodes`].
//!
//! A command is read once, executed to its end and completed within one call of the worker, so between
//! calls a command either has not left its queue or is in its completion queue. Asynchronous event
//! requests are the exception, and a part of the state.
//!
//! # A hostile guest
//!
//! A guest can do anything. Each number of a guest is checked, and each loop is bounded by the size of a
//! queue, by the maximum data transfer size (`mdts`) or by the worker's budget. An error of a guest leads
//! to a status code, to an asynchronous event or to CSTS.CFS.

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
mod marks;
mod model;
mod msix_table;
mod names;
mod namespace;
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
    BackendError,
    BlockBackend,
    DeviceModel,
    GuestMemory,
    MemoryError,
    Place,
    PostedWrites,
    ReadStraight,
    Untold,
    Work, //
    CONFIGURATION_MAX,
};
pub use doorbells::Doorbells;
pub use load_error::LoadError;
pub use marks::storage_size;
pub use parameters::{
    capacity_max,
    ParameterError,
    Parameters,
    CAPACITY_MAX,
    CAPACITY_MIN,
    CAPACITY_UNIT,
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
pub use prp::TRANSFER_MAX;
