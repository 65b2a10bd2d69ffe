// SPDX-License-Identifier: GPL-2.0

//! A small user of VFIO, for tests and tools.
//!
//! It does what a VMM does with a device: find it by its [`address`], or create it as a mediated device
//! through sysfs ([`mdev`]); open it by [`group`] in a type1 [`container`], or as a character device
//! ([`cdev`]) with an [`iommufd`], both behind one trait ([`session`]); map memory for its DMA
//! ([`address_space`]); ask for its regions ([`device`], [`region`]); take its interrupts ([`irq`],
//! [`eventfd`]); and move its state with the v1 migration region ([`v1`]) or by protocol v2 ([`v2`]).
//! Unlike a VMM it also does each of these wrongly on request, because a driver has to survive that, and
//! parses Ferry's stream ([`stream`]) and the migration files of QEMU 7.2 ([`savevm`]).
//!
//! Mirrors `include/uapi/linux/vfio.h` and `iommufd.h`. All `unsafe` of the crate is in [`sys`].

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod address;
pub mod address_space;
pub mod capability;
pub mod cdev;
pub mod container;
pub mod device;
pub mod dirty;
pub mod error;
pub mod eventfd;
pub mod group;
pub mod iommufd;
pub mod irq;
pub mod mdev;
pub mod memory;
pub mod region;
pub mod savevm;
pub mod session;
pub mod stream;
pub mod sys;
pub mod sysfs;
pub mod v1;
pub mod v2;

pub use address::Address;
pub use address_space::AddressSpace;
pub use cdev::Cdev;
pub use container::Container;
pub use device::Device;
pub use error::Error;
pub use error::Result;
pub use eventfd::EventFd;
pub use group::Group;
pub use iommufd::Ioas;
pub use iommufd::Iommufd;
pub use mdev::Mdev;
pub use memory::GuestMemory;
pub use region::Region;
pub use rustix::io::Errno;
pub use session::Backend;
pub use session::CdevSession;
pub use session::GroupSession;
pub use session::Session;
pub use sys::Mapping;
pub use sysfs::SysfsDevice;
