// SPDX-License-Identifier: GPL-2.0

//! The settings of a controller, which an administrator chooses while it is closed.

pub(crate) mod attributes;
mod serial;

use core::fmt::{
    self,
    Display, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use kernel_ext::file::FileName;
use nvme::QUEUE_PAIRS_MAX;
use serial::SerialNumber;

/// Default capacity in bytes.
const CAPACITY_DEFAULT: u64 = 64 << 20;

/// The kind of backend that keeps the content of the namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum StoreKind {
    /// Memory of the host.
    Ram = nvme::STORE_ZEROING,
    /// A regular file or block device of the host.
    File = 1,
}

impl Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ram => "ram",
            Self::File => "file",
        })
    }
}

/// The settings of one mdev.
#[derive(Clone)]
pub(crate) struct NvmeSettings {
    /// Binary logarithm of the bytes of a logical block, which its type fixes.
    pub(crate) lba_shift: u8,
    pub(crate) store: StoreKind,
    /// Bytes of a namespace in memory.
    pub(crate) capacity: u64,
    pub(crate) file: Option<Arc<FileName>>,
    pub(crate) queues: u16,
    pub(crate) serial: SerialNumber,
}

impl NvmeSettings {
    /// Returns the settings of a new mdev called `name`.
    pub(crate) fn new(lba_shift: u8, name: &CStr) -> Self {
        Self {
            lba_shift,
            store: StoreKind::Ram,
            capacity: CAPACITY_DEFAULT,
            file: None,
            queues: QUEUE_PAIRS_MAX,
            serial: SerialNumber::of(name),
        }
    }
}
