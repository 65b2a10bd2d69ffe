// SPDX-License-Identifier: GPL-2.0

//! Status of a completed command, section 4.6.1.

/// Shift of the status code type (`sct`).
const TYPE_SHIFT: u32 = 8;
/// Status code type: commands of any kind.
const GENERIC: u16 = 0x0;
/// Status code type: depends on the command.
const COMMAND_SPECIFIC: u16 = 0x1;
/// Status code type: errors of the medium.
const MEDIA: u16 = 0x2;

/// More (`m`): the error log has an entry about the command.
const MORE: u16 = 1 << 13;
/// Do Not Retry (`dnr`): the same command would fail again.
const DO_NOT_RETRY: u16 = 1 << 14;

/// Status of a failed command: status code type, status code, whether a retry makes sense, and whether
/// the error log gets an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// All bits of the status field but [`MORE`].
    code: u16,
    /// The error log gets an entry.
    logged: bool,
}

impl Status {
    /// Invalid Command Opcode.
    pub(crate) const INVALID_OPCODE: Self = Self::permanent(GENERIC, 0x01);
    /// Invalid Field in Command.
    pub(crate) const INVALID_FIELD: Self = Self::permanent(GENERIC, 0x02);
    /// Data Transfer Error.
    pub(crate) const DATA_TRANSFER: Self = Self::permanent(GENERIC, 0x04);
    /// Internal Error.
    pub(crate) const INTERNAL: Self = Self::new(GENERIC, 0x06);
    /// Command Abort Requested.
    ///
    /// The host asked for the abort, so it is no error and not logged.
    pub(crate) const ABORT_REQUESTED: Self = Self::new(GENERIC, 0x07).unlogged();
    /// Invalid Namespace or Format.
    pub(crate) const INVALID_NAMESPACE: Self = Self::permanent(GENERIC, 0x0b);
    /// Command Sequence Error.
    pub(crate) const SEQUENCE: Self = Self::permanent(GENERIC, 0x0c);
    /// PRP Offset Invalid.
    pub(crate) const PRP_OFFSET: Self = Self::permanent(GENERIC, 0x13);
    /// LBA Out of Range.
    pub(crate) const LBA_OUT_OF_RANGE: Self = Self::permanent(GENERIC, 0x80);
    /// Capacity Exceeded.
    pub(crate) const CAPACITY_EXCEEDED: Self = Self::permanent(GENERIC, 0x81);

    /// Format in Progress.
    pub(crate) const FORMAT_IN_PROGRESS: Self = Self::new(GENERIC, 0x84);

    /// Completion Queue Invalid.
    pub(crate) const COMPLETION_QUEUE: Self = Self::permanent(COMMAND_SPECIFIC, 0x00);
    /// Invalid Queue Identifier.
    pub(crate) const QUEUE_IDENTIFIER: Self = Self::permanent(COMMAND_SPECIFIC, 0x01);
    /// Invalid Queue Size.
    pub(crate) const QUEUE_SIZE: Self = Self::permanent(COMMAND_SPECIFIC, 0x02);
    /// Asynchronous Event Request Limit Exceeded.
    pub(crate) const EVENT_LIMIT: Self = Self::permanent(COMMAND_SPECIFIC, 0x05);
    /// Invalid Interrupt Vector.
    pub(crate) const INTERRUPT_VECTOR: Self = Self::permanent(COMMAND_SPECIFIC, 0x08);
    /// Invalid Log Page.
    pub(crate) const LOG_PAGE: Self = Self::permanent(COMMAND_SPECIFIC, 0x09);
    /// Invalid Format.
    pub(crate) const INVALID_FORMAT: Self = Self::permanent(COMMAND_SPECIFIC, 0x0a);
    /// Invalid Queue Deletion.
    pub(crate) const QUEUE_DELETION: Self = Self::permanent(COMMAND_SPECIFIC, 0x0c);
    /// Feature Identifier Not Saveable.
    pub(crate) const NOT_SAVEABLE: Self = Self::permanent(COMMAND_SPECIFIC, 0x0d);
    /// Feature Not Namespace Specific.
    pub(crate) const NOT_NAMESPACE_SPECIFIC: Self = Self::permanent(COMMAND_SPECIFIC, 0x0f);

    /// Write Fault.
    pub(crate) const WRITE_FAULT: Self = Self::new(MEDIA, 0x80);
    /// Unrecovered Read Error.
    pub(crate) const READ_ERROR: Self = Self::new(MEDIA, 0x81);
    /// Unrecovered Read Error of a block that Write Uncorrectable marked: the medium is not at fault.
    pub(crate) const UNCORRECTABLE: Self = Self::permanent(MEDIA, 0x81);
    /// Compare Failure.
    pub(crate) const COMPARE_FAILURE: Self = Self::permanent(MEDIA, 0x85);

    /// Returns the Status Field of a completion queue entry, without the phase tag.
    pub(crate) fn field(self) -> u16 {
        let more = if self.logged { MORE } else { 0 };
        self.code | more
    }

    /// Returns whether the error log gets an entry about the command.
    pub(crate) fn is_logged(self) -> bool {
        self.logged
    }

    /// Returns the same status for a command that is not logged: the host probed for an optional feature
    /// that the controller lacks.
    pub(crate) const fn unlogged(self) -> Self {
        Self {
            logged: false,
            ..self
        }
    }

    /// Returns whether the medium is at fault.
    pub(crate) fn is_medium_error(self) -> bool {
        [Self::WRITE_FAULT, Self::READ_ERROR].contains(&self)
    }

    const fn new(kind: u16, code: u16) -> Self {
        Self {
            code: kind << TYPE_SHIFT | code,
            logged: true,
        }
    }

    const fn permanent(kind: u16, code: u16) -> Self {
        let Self { code, logged } = Self::new(kind, code);
        Self {
            code: code | DO_NOT_RETRY,
            logged,
        }
    }
}
