// SPDX-License-Identifier: GPL-2.0

//! The system calls that no crate wraps safely: VFIO's ioctls, shared mappings, and accesses with
//! an address that the kernel must refuse.
//!
//! All `unsafe` of user space is in this module.

#![expect(
    unsafe_code,
    reason = "ioctl, mmap and shared memory have no safe form"
)]

mod descriptor;
mod dirty_bitmap;
mod dma_map;
mod ioctl;
mod mapping;
mod nowhere;
mod page_faults;
mod request;

pub use descriptor::device_fd;
pub use descriptor::set_migration_state;
pub use dirty_bitmap::dirty_bitmap;
pub use dirty_bitmap::dma_logging_report;
pub use dirty_bitmap::dma_logging_report_into;
pub use dirty_bitmap::start_dma_logging;
pub(crate) use dma_map::map_dma;
pub(crate) use dma_map::map_ioas;
pub use ioctl::ioctl;
pub use ioctl::ioctl_read_only;
pub use ioctl::ioctl_value;
pub use ioctl::NOWHERE;
pub use mapping::Mapping;
pub use nowhere::pread_nowhere;
pub use nowhere::pwrite_nowhere;
pub use nowhere::read_nowhere;
pub use nowhere::write_nowhere;
pub use page_faults::PageFaults;
pub use request::Request;
