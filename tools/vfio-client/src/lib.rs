// SPDX-License-Identifier: GPL-2.0

//! A small user of VFIO, for tests and tools.
//!
//! It does what a VMM does with a mediated device: create it through sysfs ([`mdev`]), put its
//! group into a type1 container ([`container`]) or bind its own character device to an iommufd
//! ([`iommufd`]), map memory for it there ([`address_space`]), open it and ask what it has ([`device`],
//! [`region`]), take its interrupts ([`irq`], [`eventfd`]) and move its state with the v1 migration
//! region ([`migration`]) or by protocol v2 ([`v2`]). Unlike a VMM it also does every one of these
//! wrongly on request, because that is what a driver has to survive, and looks into what it moves
//! ([`stream`]). What QEMU 7.2 has moved into a file, [`savevm`] takes out of it.
//!
//! Mirrors `include/uapi/linux/vfio.h` and `iommufd.h`. All `unsafe` of the crate is in [`sys`].

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod address_space;
pub mod container;
pub mod device;
pub mod error;
pub mod eventfd;
pub mod iommufd;
pub mod irq;
pub mod mdev;
pub mod memory;
pub mod migration;
pub mod nvme;
pub mod region;
pub mod savevm;
pub mod stream;
pub mod sys;
pub mod uart;
pub mod v2;

pub use address_space::AddressSpace;
pub use container::Container;
pub use container::Group;
pub use container::Session;
pub use device::Device;
pub use error::Error;
pub use error::Result;
pub use eventfd::EventFd;
pub use iommufd::Cdev;
pub use iommufd::CdevSession;
pub use iommufd::Ioas;
pub use iommufd::Iommufd;
pub use iommufd::Opened;
pub use mdev::Mdev;
pub use memory::GuestMemory;
pub use migration::Migration;
pub use region::Region;
pub use rustix::io::Errno;
pub use sys::Mapping;
