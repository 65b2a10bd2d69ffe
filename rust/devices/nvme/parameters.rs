// SPDX-License-Identifier: GPL-2.0

//! The parameters of a controller, which are chosen before power-on.

use core::fmt;

use device_model::CONFIGURATION_MAX;

use crate::registers::is_aligned;
use crate::spec::identify::controller::SN_SIZE;

/// The fewest bytes of a namespace.
pub const CAPACITY_MIN: u64 = 1 << 20;
/// The most bytes of a namespace in memory, that is, in a store of kind [`STORE_ZEROING`].
pub const CAPACITY_MAX: u64 = 1 << 36;
/// The most bytes of any other namespace. Every byte offset in it, and every end of a command's blocks,
/// is far from the end of 64 bits.
const CAPACITY_MAX_ELSEWHERE: u64 = 1 << 53;
/// A namespace has a multiple of this many bytes, whatever its block size is.
pub const CAPACITY_UNIT: u64 = 4096;
/// The fewest pairs of I/O queues: UEFI firmware (EDK II) makes two, and without gives up the disk.
pub const QUEUE_PAIRS_MIN: u16 = 2;
/// The most pairs of I/O queues.
pub const QUEUE_PAIRS_MAX: u16 = 16;
/// Pairs of queues that a controller can have: the admin queue's, and one for each pair of I/O queues.
pub(crate) const PAIRS: usize = QUEUE_PAIRS_MAX as usize + 1;
/// The most namespaces of a controller. Namespaces have the identifiers from 1 on.
pub const NAMESPACES_MAX: usize = 4;
/// The kind of store whose deallocated blocks always read as zeros.
pub const STORE_ZEROING: u8 = 0;
/// Bytes of a serial number.
pub const SERIAL_SIZE: usize = SN_SIZE;

/// Logical blocks of 512 bytes.
const LBA_SHIFT_512: u8 = 9;
/// Logical blocks of 4096 bytes.
const LBA_SHIFT_4096: u8 = 12;

/// The most LBA formats of a namespace.
pub(crate) const LBA_FORMATS_MAX: u8 = 2;

/// The version of [`Parameters::configuration`] of a controller with one namespace.
const VERSION_1: u8 = 1;
/// Bytes of version 1.
const CONFIGURATION_1_SIZE: usize = 16;
/// The version of the configuration of a controller with more.
const VERSION_2: u8 = 2;
/// Bytes of version 2 before its namespaces.
const CONFIGURATION_2_HEADER: usize = 8;
/// Bytes of a namespace of version 2.
const CONFIGURATION_2_NAMESPACE: usize = 12;
const _: () = assert!(
    CONFIGURATION_2_HEADER + NAMESPACES_MAX * CONFIGURATION_2_NAMESPACE <= CONFIGURATION_MAX,
    "the configuration has room for all namespaces"
);

/// What distinguishes one controller from another before any guest uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Bytes of the namespace: a multiple of 4096 from [`CAPACITY_MIN`] to [`capacity_max`] of the
    /// store.
    pub capacity: u64,
    /// Binary logarithm of the bytes of a logical block: 9 or 12. A guest may choose the other one by Format
    /// NVM.
    pub lba_shift: u8,
    /// Number of pairs of I/O queues: [`QUEUE_PAIRS_MIN`] to [`QUEUE_PAIRS_MAX`].
    pub queue_pairs: u16,
    /// Serial number: printable ASCII, to be padded with spaces.
    ///
    /// The identifiers of the subsystem and of the namespace follow from it, so controllers that one
    /// guest sees together need different ones.
    pub serial: [u8; SERIAL_SIZE],
    /// Kind of store that keeps the namespace. The guest is told that deallocated blocks read as zeros
    /// if it is [`STORE_ZEROING`], and nothing if it is any other.
    pub store: u8,
    /// The namespaces from 2 on, without a gap; capacity, block size and store above are those of namespace 1.
    pub others: [Option<NamespaceParameters>; NAMESPACES_MAX - 1],
}

/// What distinguishes a namespace from others, see [`Parameters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceParameters {
    /// Bytes.
    pub capacity: u64,
    /// Binary logarithm of the bytes of a logical block.
    pub lba_shift: u8,
    /// Kind of store.
    pub store: u8,
}

/// Parameters that a controller cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterError {
    /// The capacity is out of range or not a multiple of 4096.
    Capacity {
        /// The capacity in bytes.
        found: u64,
        /// The largest capacity in bytes.
        most: u64,
    },
    /// The block size is neither 512 nor 4096.
    LbaShift {
        /// Binary logarithm of the block size.
        found: u8,
    },
    /// A namespace exists, and the one before does not.
    Gap {
        /// Identifier of the one that exists.
        nsid: u32,
    },
    /// The number of queue pairs is out of range.
    QueuePairs {
        /// The number.
        found: u16,
    },
    /// The serial number has a byte that is not printable ASCII.
    Serial {
        /// Offset of the byte in the serial number.
        offset: usize,
        /// Value of the byte.
        found: u8,
    },
}

impl NamespaceParameters {
    fn check(&self) -> Result<(), ParameterError> {
        let most = capacity_max(self.store);
        let capacities = CAPACITY_MIN..=most;
        let whole = is_aligned(self.capacity, CAPACITY_UNIT.trailing_zeros());
        if !capacities.contains(&self.capacity) || !whole {
            return Err(ParameterError::Capacity {
                found: self.capacity,
                most,
            });
        }
        if ![LBA_SHIFT_512, LBA_SHIFT_4096].contains(&self.lba_shift) {
            return Err(ParameterError::LbaShift {
                found: self.lba_shift,
            });
        }
        Ok(())
    }

    /// Returns whether the store keeps marks of Write Uncorrectable, for as long as the content: memory does. A file has no
    /// place for them, and without them its old content would be read after the next open.
    pub(crate) fn keeps_marks(&self) -> bool {
        self.store == STORE_ZEROING
    }

    /// Number of LBA formats. A file has no place to keep which one was chosen: the next open would cut the same content
    /// into other blocks. Memory lasts as long as the choice.
    pub(crate) fn lba_formats(&self) -> u8 {
        match self.store {
            STORE_ZEROING => LBA_FORMATS_MAX,
            _ => 1,
        }
    }

    /// Binary logarithm of the bytes of a logical block of an LBA format: format 0 is the one that was asked for, format 1
    /// the other one.
    pub(crate) fn lba_shift_of(&self, format: u8) -> u8 {
        match (format, self.lba_shift) {
            (0, shift) => shift,
            (_, LBA_SHIFT_512) => LBA_SHIFT_4096,
            _ => LBA_SHIFT_512,
        }
    }
}

impl Parameters {
    /// Checks that a controller can have these parameters.
    ///
    /// # Errors
    ///
    /// The first parameter that is out of range.
    pub fn check(&self) -> Result<(), ParameterError> {
        for namespace in self.namespaces() {
            namespace.check()?;
        }
        let behind = self.others.iter().skip(self.count() - 1);
        if let Some(at) = behind.clone().position(Option::is_some) {
            return Err(ParameterError::Gap {
                // There are few.
                nsid: (self.count() + at + 1) as u32,
            });
        }
        if !(QUEUE_PAIRS_MIN..=QUEUE_PAIRS_MAX).contains(&self.queue_pairs) {
            return Err(ParameterError::QueuePairs {
                found: self.queue_pairs,
            });
        }
        match self.serial.iter().position(|byte| !is_printable(*byte)) {
            Some(offset) => Err(ParameterError::Serial {
                offset,
                found: self.serial[offset],
            }),
            None => Ok(()),
        }
    }

    /// Returns the namespaces, in the order of their identifiers.
    pub fn namespaces(&self) -> impl Iterator<Item = NamespaceParameters> + '_ {
        let first = NamespaceParameters {
            capacity: self.capacity,
            lba_shift: self.lba_shift,
            store: self.store,
        };
        let others = self.others.iter().map_while(|other| *other);
        core::iter::once(first).chain(others)
    }

    /// Returns the namespace with number `index`, from 0, if there is one.
    pub(crate) fn namespace(&self, index: usize) -> Option<NamespaceParameters> {
        self.namespaces().nth(index)
    }

    /// Number of namespaces.
    pub(crate) fn count(&self) -> usize {
        self.namespaces().count()
    }

    /// Returns whether the stores of all namespaces keep marks, as commands are those of the controller.
    pub(crate) fn keeps_marks(&self) -> bool {
        self.namespaces().all(|namespace| namespace.keeps_marks())
    }

    /// Writes the configuration, which source and destination of a migration must have in common, to the
    /// front of `out`.
    ///
    /// Returns the number of bytes written. Numbers are little endian. With one namespace:
    ///
    /// | offset | bytes | content                                            |
    /// |-------:|------:|----------------------------------------------------|
    /// |      0 |     1 | version, 1                                         |
    /// |      1 |     1 | binary logarithm of the bytes of a logical block   |
    /// |      2 |     1 | kind of the store                                  |
    /// |      3 |     1 | 0                                                  |
    /// |      4 |     2 | number of I/O queue pairs                          |
    /// |      6 |     2 | 0                                                  |
    /// |      8 |     8 | capacity in bytes                                  |
    ///
    /// With more:
    ///
    /// | offset | bytes | content                                            |
    /// |-------:|------:|----------------------------------------------------|
    /// |      0 |     1 | version, 2                                         |
    /// |      1 |     1 | number of namespaces                               |
    /// |      2 |     2 | 0                                                  |
    /// |      4 |     2 | number of I/O queue pairs                          |
    /// |      6 |     2 | 0                                                  |
    /// |      8 |    12 | of each namespace, in the order of their           |
    /// |        |       | identifiers: binary logarithm of the bytes of a    |
    /// |        |       | logical block (1 byte), kind of the store (1), 0   |
    /// |        |       | (2), capacity in bytes (8)                         |
    pub fn configuration(&self, out: &mut [u8; CONFIGURATION_MAX]) -> usize {
        let count = self.count();
        out.fill(0);
        out[4..6].copy_from_slice(&self.queue_pairs.to_le_bytes());
        if count == 1 {
            out[0] = VERSION_1;
            out[1] = self.lba_shift;
            out[2] = self.store;
            out[8..16].copy_from_slice(&self.capacity.to_le_bytes());
            return CONFIGURATION_1_SIZE;
        }
        out[0] = VERSION_2;
        // There are few.
        out[1] = count as u8;
        let records = out[CONFIGURATION_2_HEADER..].chunks_exact_mut(CONFIGURATION_2_NAMESPACE);
        for (record, namespace) in records.zip(self.namespaces()) {
            record[0] = namespace.lba_shift;
            record[1] = namespace.store;
            record[4..12].copy_from_slice(&namespace.capacity.to_le_bytes());
        }
        CONFIGURATION_2_HEADER + count * CONFIGURATION_2_NAMESPACE
    }
}

/// The most bytes of a namespace in a store of kind `store`. Memory is limited, as the host runs out
/// of it.
pub const fn capacity_max(store: u8) -> u64 {
    match store {
        STORE_ZEROING => CAPACITY_MAX,
        _ => CAPACITY_MAX_ELSEWHERE,
    }
}

/// Whether a byte can be part of an ASCII string in a data structure, section 1.5.
pub(crate) fn is_printable(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte)
}

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capacity { found, most } => write!(
                f,
                "capacity is {found} bytes instead of a multiple of {CAPACITY_UNIT} from {CAPACITY_MIN} to {most}"
            ),
            Self::LbaShift { found } => write!(
                f,
                "logical blocks have 2^{found} bytes instead of 2^{LBA_SHIFT_512} or 2^{LBA_SHIFT_4096}"
            ),
            Self::Gap { nsid } => write!(f, "there is a namespace {nsid}, but none before it"),
            Self::QueuePairs { found } => write!(
                f,
                "there are {found} queue pairs instead of {QUEUE_PAIRS_MIN} to {QUEUE_PAIRS_MAX}: UEFI firmware makes two"
            ),
            Self::Serial { offset, found } => write!(
                f,
                "byte {offset} of the serial number is {found:#04x}, which is not printable ASCII"
            ),
        }
    }
}
