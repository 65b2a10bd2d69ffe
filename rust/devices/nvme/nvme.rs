// SPDX-License-Identifier: GPL-2.0

//! An NVMe controller with up to four namespaces, as a pure value.
//!
//! The controller has two halves. [`Controller`] is what software accesses: configuration space and registers. It is a
//! [`DeviceModel`]. Its [`Executor`] has queues, features and logs, and executes commands with access to the guest's
//! memory ([`GuestMemory`]) and to the contents of the namespaces ([`Stores`]), which it may have to wait for.
//! Nothing in here allocates, locks, sleeps or looks at a clock.
//!
//! It follows revision 1.4 of the NVM Express base specification; section numbers in this crate are
//! those of that document.
//!
//! # Accesses and the work
//!
//! A register access never touches the guest's memory or the namespace, and waits for neither.
//! [`Executor::serve`] enables the controller, completes a shutdown, and executes commands. So
//! CSTS.RDY and CSTS.SHST follow CC in its next call. A reset is done at once in the registers, also while a command is
//! executed: the command's accesses of memory fail from then on, see [`DeviceModel::take_dma_end`], its completion is
//! dropped, and the executor is reset when it next looks at the registers.
//!
//! Doorbells do not even reach the controller in the access that writes them: [`Doorbells`] takes
//! them without a lock until the worker, or [`Executor::drain`], takes them from there.
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
mod concurrent;
mod controller;
mod doorbells;
mod error_log;
mod events;
mod executor;
mod features;
mod function;
mod health;
mod held_back;
mod identifiers;
mod in_flight;
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
    Begun,
    BlockBackend,
    DeviceModel,
    Done,
    GuestMemory,
    Link,
    MemoryError,
    Place,
    PostedWrites,
    ReadStraight,
    Request,
    Stores,
    Tag,
    Untold,
    Work, //
    CONFIGURATION_MAX,
};
pub use doorbells::Doorbells;
pub use executor::Executor;
pub use load_error::LoadError;
pub use marks::storage_size;
pub use parameters::{
    capacity_max,
    NamespaceParameters,
    ParameterError,
    Parameters,
    CAPACITY_MAX,
    CAPACITY_MIN,
    CAPACITY_UNIT,
    NAMESPACES_MAX,
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
