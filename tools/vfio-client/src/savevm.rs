// SPDX-License-Identifier: GPL-2.0

//! Takes the states of VFIO devices out of a migration stream of QEMU 7.2, as it is in the file of
//! `migrate "exec:cat > FILE"`.
//!
//! Mirrors `migration/savevm.c`, `migration/ram.c` and `hw/vfio/migration.c` of QEMU 7.2, which read
//! and write the stream. Numbers are big endian, `u8` to `u64`; a *name* is its length as a `u8` and
//! its bytes.
//!
//! ```text
//! stream         "QEVM", u32: 3, configuration, (command | section)...
//! configuration  u8: 7, u32: length, the machine type's name, subsection...
//! subsection     u8: 5, name, u32: version, fields
//!                  "configuration/uuid": 16 bytes
//! command        u8: 8, u16: command, u16: length, the bytes
//!                  1: opens a return path, 0 bytes
//!                  2: ping, 4 bytes
//! section        u8: type, u32: section, [name, u32: instance, u32: version,] content, footer
//!                  types 1: start, 2: part, 3: end, 4: full; 1 and 4 have name, instance, version
//! footer         u8: 0x7e, u32: section
//!
//! content of "ram", version 4: words, each a u64 of a multiple of 4096 and flags
//!   start        0x04: what all blocks have in bytes, (name, u64: bytes)... until it is that; 0x10
//!   part, end    0x02: an address, where a page of zeros is, [name of the block,] u8: 0
//!                0x08: an address, [name of the block,] 4096 bytes: a page
//!                      (with 0x20 it is in the same block as the last one, which has no name then)
//!                0x10: the end
//!
//! content of "DEVICE/vfio", version 1: words of u64
//!   start        0xffffffffef100003, 0xffffffffef100001
//!   part, end    (0xffffffffef100004, u64: length, the bytes)..., 0xffffffffef100001
//! ```
//!
//! The state of a device is the data in its parts and in its end, one after the other: what QEMU
//! reads from the device's migration region, or would have read from a data file.
//!
//! Devices whose state is not given piece by piece have *full* sections, whose length is nowhere and
//! follows from descriptions in QEMU's source alone. They come last (also the configuration space of
//! a VFIO device is in there, which is not the device's but QEMU's): QEMU writes ends of all
//! sections that it has started, then full ones (`qemu_savevm_state_complete_precopy()`). And it
//! writes the end of a device only when the device has nothing more
//! (`vfio_save_complete_precopy()`). So at the first full section the states are complete, if each
//! section that was started has had its end; that is what is checked, and there the reader stops.
//!
//! Elements that QEMU 7.2 writes only with an option are refused by name: compressed pages, RDMA, postcopy,
//! COLO, block migration.

mod device;
mod input;
mod ram;
mod walk;

#[cfg(test)]
mod tests;

use std::io;
use std::io::Read;

use input::Input;
use walk::Walk;

/// Why a stream is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading failed.
    #[error("offset {offset:#x}: {source}")]
    Read {
        /// The offset in the stream, in bytes.
        offset: u64,
        /// The error of the read.
        source: io::Error,
    },
    /// The stream ends inside a section or a field.
    #[error("offset {offset:#x}: the stream ends in {what}")]
    Truncated {
        /// The offset of its begin.
        offset: u64,
        /// The section or the field.
        what: &'static str,
    },
    /// It is no stream of QEMU 7.2, or has an element that this reader does not know.
    #[error("offset {offset:#x}: {why}")]
    Refused {
        /// The offset of the element.
        offset: u64,
        /// What was expected, or what was seen.
        why: String,
    },
}

/// The result of reading.
pub type Result<T> = core::result::Result<T, Error>;

fn refuse<T>(offset: u64, why: impl Into<String>) -> Result<T> {
    Err(Error::Refused {
        offset,
        why: why.into(),
    })
}

/// What QEMU has saved of a VFIO device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeviceState {
    /// The name of the device's section: its path in the machine and `/vfio`.
    pub name: String,
    /// The instance among sections of that name.
    pub instance: u32,
    /// The bytes that the device gave, in order.
    pub bytes: Vec<u8>,
}

/// Reads a stream until the states of its VFIO devices are complete, and returns the states in the order
/// in which their sections begin. Together they have at most `limit` bytes.
///
/// The stream is read in small pieces: wrap a file into a [`std::io::BufReader`].
///
/// # Errors
///
/// Where the stream cannot be read, ends too early, is not what QEMU 7.2 writes, or has more than
/// `limit` bytes of state.
pub fn device_states(stream: impl Read, limit: usize) -> Result<Vec<DeviceState>> {
    let mut walk = Walk::new(Input::new(stream), limit);
    walk.header()?;
    walk.elements()?;
    Ok(walk.into_states())
}
