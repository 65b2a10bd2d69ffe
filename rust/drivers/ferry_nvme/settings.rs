// SPDX-License-Identifier: GPL-2.0

//! The settings of a controller, which an administrator chooses while it is closed.

pub(crate) mod attributes;
pub(crate) mod namespace;
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
use nvme::{
    NAMESPACES_MAX,
    QUEUE_PAIRS_MAX, //
};
use serial::SerialNumber;

/// Default capacity of a namespace in bytes.
const CAPACITY_DEFAULT: u64 = 64 << 20;

/// The kind of backend that keeps the content of a namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum StoreKind {
    /// Memory of the host.
    Ram = nvme::STORE_ZEROING,
    /// A regular file or block device of the host.
    File = 1,
    /// There is no namespace.
    None = u8::MAX,
}

impl Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ram => "ram",
            Self::File => "file",
            Self::None => "none",
        })
    }
}

/// The part that the host's page cache has in a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cache {
    /// Data goes through the page cache, one command after the other.
    WriteBack,
    /// Data goes past the page cache, and commands are executed several at once.
    None,
}

impl Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WriteBack => "writeback",
            Self::None => "none",
        })
    }
}

/// The settings of a namespace.
#[derive(Clone)]
pub(crate) struct NamespaceSettings {
    /// Binary logarithm of the bytes of a logical block.
    pub(crate) lba_shift: u8,
    pub(crate) store: StoreKind,
    /// Bytes of a namespace in memory.
    pub(crate) capacity: u64,
    pub(crate) file: Option<Arc<FileName>>,
    pub(crate) cache: Cache,
}

/// The settings of one mdev.
#[derive(Clone)]
pub(crate) struct NvmeSettings {
    /// The namespaces, in the order of their identifiers, of which the first one has a store.
    pub(crate) namespaces: [NamespaceSettings; NAMESPACES_MAX],
    pub(crate) queues: u16,
    /// How long the worker looks at shadow doorbells when no command is left, in microseconds.
    pub(crate) poll: u32,
    pub(crate) serial: SerialNumber,
}

impl NvmeSettings {
    /// Returns the settings of a new mdev called `name`: one namespace in memory.
    pub(crate) fn new(lba_shift: u8, name: &CStr) -> Self {
        Self {
            namespaces: core::array::from_fn(|index| NamespaceSettings {
                lba_shift,
                store: match index {
                    0 => StoreKind::Ram,
                    _ => StoreKind::None,
                },
                capacity: CAPACITY_DEFAULT,
                file: None,
                cache: Cache::WriteBack,
            }),
            queues: QUEUE_PAIRS_MAX,
            poll: 0,
            serial: SerialNumber::of(name),
        }
    }
}
