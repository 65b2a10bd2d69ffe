// SPDX-License-Identifier: GPL-2.0

//! Host tests of the NVMe controller, as a driver sees it.
//!
//! [`driver`] is written from the specification and knows nothing of the controller's insides. What
//! it needs around it is in [`bench`], [`memory`] and [`disk`]; [`reference`] says what a namespace
//! should contain and which status a command should get.

mod bench;
mod coalescing;
mod concurrent;
mod dbbuf;
mod delivery;
mod disk;
mod disturbed;
mod driver;
mod events;
mod features;
mod format;
mod hostile;
mod identify;
mod interrupts;
mod io;
mod logs;
mod memory;
mod namespaces;
mod parameters;
mod power;
mod properties;
mod prp;
mod queues;
mod reference;
mod registers;
mod rig;
mod spec;
mod state;
mod uncorrectable;
mod verify;
mod whole;
