// SPDX-License-Identifier: GPL-2.0

//! Numbers of the NVM Express Base Specification, revision 1.4, and of MSI-X.
//!
//! Written from the specification, not from the model, so that the two can disagree.

use core::fmt;

/// Offsets of the controller's registers in BAR0 (section 3.1).
pub mod register {
    /// Capabilities, 8 bytes.
    pub const CAP: u64 = 0x00;
    /// Version, 4 bytes.
    pub const VS: u64 = 0x08;
    /// Interrupt mask set, 4 bytes.
    pub const INTMS: u64 = 0x0c;
    /// Interrupt mask clear, 4 bytes.
    pub const INTMC: u64 = 0x10;
    /// Configuration, 4 bytes.
    pub const CC: u64 = 0x14;
    /// Status, 4 bytes.
    pub const CSTS: u64 = 0x1c;
    /// Subsystem reset, 4 bytes.
    pub const NSSR: u64 = 0x20;
    /// Admin queue attributes, 4 bytes.
    pub const AQA: u64 = 0x24;
    /// Admin submission queue base address, 8 bytes.
    pub const ASQ: u64 = 0x28;
    /// Admin completion queue base address, 8 bytes.
    pub const ACQ: u64 = 0x30;
    /// The first doorbell.
    pub const DOORBELLS: u64 = 0x1000;
}

/// CC: enable.
pub const CC_ENABLE: u32 = 1;
/// CC: a normal shutdown.
pub const CC_SHUTDOWN: u32 = 1 << 14;
/// CC: entries of 64 and 16 bytes, pages of 4 KiB, the NVM command set.
pub const CC_SIZES: u32 = 6 << 16 | 4 << 20;
/// CSTS: ready.
pub const CSTS_READY: u32 = 1;
/// CSTS: controller fatal status.
pub const CSTS_FATAL: u32 = 1 << 1;
/// CSTS: the shutdown status.
pub const CSTS_SHUTDOWN: u32 = 3 << 2;
/// CSTS: the shutdown is complete.
pub const CSTS_SHUTDOWN_COMPLETE: u32 = 2 << 2;

/// Opcodes of admin commands (section 5).
pub mod admin {
    /// Delete I/O submission queue.
    pub const DELETE_SQ: u8 = 0x00;
    /// Create I/O submission queue.
    pub const CREATE_SQ: u8 = 0x01;
    /// Get log page.
    pub const GET_LOG_PAGE: u8 = 0x02;
    /// Delete I/O completion queue.
    pub const DELETE_CQ: u8 = 0x04;
    /// Create I/O completion queue.
    pub const CREATE_CQ: u8 = 0x05;
    /// Identify.
    pub const IDENTIFY: u8 = 0x06;
    /// Set features.
    pub const SET_FEATURES: u8 = 0x09;
    /// Get features.
    pub const GET_FEATURES: u8 = 0x0a;
    /// Asynchronous event request.
    pub const ASYNC_EVENT: u8 = 0x0c;
    /// Keep alive.
    pub const KEEP_ALIVE: u8 = 0x18;
    /// Doorbell buffer config.
    pub const DOORBELL_BUFFER: u8 = 0x7c;
    /// Format NVM.
    pub const FORMAT: u8 = 0x80;
}

/// Opcodes of NVM commands (section 6).
pub mod nvm {
    /// Flush.
    pub const FLUSH: u8 = 0x00;
    /// Write.
    pub const WRITE: u8 = 0x01;
    /// Read.
    pub const READ: u8 = 0x02;
    /// Write uncorrectable.
    pub const WRITE_UNCORRECTABLE: u8 = 0x04;
    /// Compare.
    pub const COMPARE: u8 = 0x05;
    /// Write zeroes.
    pub const WRITE_ZEROES: u8 = 0x08;
    /// Dataset management.
    pub const DATASET: u8 = 0x09;
    /// Verify.
    pub const VERIFY: u8 = 0x0c;
}

/// Features (section 5.21).
pub mod feature {
    /// Arbitration.
    pub const ARBITRATION: u8 = 0x01;
    /// Temperature threshold.
    pub const TEMPERATURE: u8 = 0x04;
    /// Number of queues.
    pub const QUEUES: u8 = 0x07;
    /// Interrupt coalescing.
    pub const COALESCING: u8 = 0x08;
    /// Asynchronous event configuration.
    pub const ASYNC_EVENTS: u8 = 0x0b;
}

/// The status of a completion: type and code, without the hints (section 4.6.1).
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Status(pub u16);

impl Status {
    /// Successful completion.
    pub const SUCCESS: Status = Status(0x000);
    /// Invalid command opcode.
    pub const INVALID_OPCODE: Status = Status(0x001);
    /// Invalid field in command.
    pub const INVALID_FIELD: Status = Status(0x002);
    /// Data transfer error.
    pub const TRANSFER_ERROR: Status = Status(0x004);
    /// Internal error.
    pub const INTERNAL: Status = Status(0x006);
    /// Invalid namespace or format.
    pub const INVALID_NAMESPACE: Status = Status(0x00b);
    /// PRP offset invalid.
    pub const INVALID_PRP: Status = Status(0x013);
    /// LBA out of range.
    pub const LBA_RANGE: Status = Status(0x080);
    /// Capacity exceeded.
    pub const CAPACITY: Status = Status(0x081);
    /// Completion queue invalid.
    pub const INVALID_CQ: Status = Status(0x100);
    /// Invalid queue identifier.
    pub const INVALID_QUEUE: Status = Status(0x101);
    /// Invalid queue size.
    pub const INVALID_QUEUE_SIZE: Status = Status(0x102);
    /// Asynchronous event request limit exceeded.
    pub const EVENT_LIMIT: Status = Status(0x105);
    /// Invalid interrupt vector.
    pub const INVALID_VECTOR: Status = Status(0x108);
    /// Invalid format.
    pub const INVALID_FORMAT: Status = Status(0x10a);
    /// Invalid queue deletion.
    pub const INVALID_DELETION: Status = Status(0x10c);
    /// Compare failure.
    pub const COMPARE_FAILURE: Status = Status(0x285);
    /// Unrecovered read error.
    pub const READ_ERROR: Status = Status(0x281);
    /// Data could not be committed to the medium.
    pub const WRITE_FAULT: Status = Status(0x280);
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {:#05x}", self.0)
    }
}

/// MSI-X: the control word's enable bit.
pub const MSIX_ENABLE: u16 = 1 << 15;
/// MSI-X: the control word's bit that masks all vectors.
pub const MSIX_MASKED: u16 = 1 << 14;
