// SPDX-License-Identifier: GPL-2.0

//! Why something was refused: an error number for the user and a reason for the log.
//!
//! Every refusal of the engine is a [`Refusal`]. Its [`Reason`] carries the numbers that a person
//! needs to understand it and decides the [`Errno`], so that one kind of fault has one error number
//! wherever it is found.

mod display;

use core::fmt;

use crate::{
    stream::format::{
        OPTIONAL,
        TYPE_SIZE, //
    },
    transition::Step, //
};
use vfio_uapi::{
    v1::{
        Field,
        State, //
    },
    Errno, //
};

/// Why something was refused, with the numbers that tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// An access of the region that is not one field at its width and alignment.
    Access {
        /// Offset in the region, in bytes.
        offset: u64,
        /// Width of the access, in bytes.
        len: usize,
    },
    /// A write to a field that is read-only.
    ReadOnly {
        /// The field.
        field: Field,
    },
    /// A device state was written that does not exist or may not be written.
    InvalidState {
        /// The word that was written.
        word: u32,
    },
    /// The device is in the ERROR state, which only a reset leaves.
    InErrorState,
    /// The device failed a step of a transition.
    StepFailed {
        /// The step.
        step: Step,
        /// What the device said.
        errno: Errno,
    },
    /// A step of a transition failed, and then so did the undoing of an earlier step.
    NotUnwound {
        /// The step that failed first.
        step: Step,
        /// The error of that step.
        errno: Errno,
        /// The step that could not be undone.
        undo: Step,
        /// The error of the undoing.
        undo_errno: Errno,
    },
    /// A step of a transition failed half way, where there is no way back.
    Irreversible {
        /// The step.
        step: Step,
        /// What the device said.
        errno: Errno,
    },
    /// The device did not enter or leave P2P.
    P2pFailed {
        /// Whether it was to enter P2P.
        p2p: bool,
        /// What the device said.
        errno: Errno,
    },
    /// The data window cannot hold the records that belong together.
    WindowTooSmall {
        /// Size of the window, in bytes.
        size: usize,
        /// The least that is needed, in bytes.
        least: usize,
    },
    /// The state buffer is smaller than the device's state can be.
    BufferTooSmall {
        /// Size of the buffer, in bytes.
        size: usize,
        /// The least that is needed, in bytes.
        least: usize,
    },
    /// The device saved more than it said that it would.
    StateTooLong {
        /// Length of the saved state, in bytes.
        len: usize,
        /// The most that it may be, in bytes.
        most: usize,
    },
    /// The device's configuration is longer than the stream can tell.
    ConfigurationTooLong {
        /// Length of the configuration, in bytes.
        len: usize,
        /// The most that it may be, in bytes.
        most: usize,
    },
    /// `data_size` was written, or the data file, while the device was not resuming.
    NotResuming {
        /// The state that the device is in.
        state: State,
    },
    /// Data was read, or asked about, while the device was not in the state for that.
    NotSaving {
        /// The state that the device is in.
        state: State,
    },
    /// `data_size` is more than the data section holds.
    ChunkTooLarge {
        /// The value written, in bytes.
        size: u64,
        /// Size of the data section, in bytes.
        most: usize,
    },
    /// A record does not begin with the magic number.
    Magic {
        /// What stands there.
        found: u32,
        /// The record's number in its generation, as counted by the reader.
        sequence: u32,
    },
    /// The checksum of a record's header is wrong.
    HeaderChecksum {
        /// What the record says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
        /// The record's number in its generation, as counted by the reader.
        sequence: u32,
    },
    /// The checksum of a record's payload is wrong.
    PayloadChecksum {
        /// What the record says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
        /// The record's number in its generation.
        sequence: u32,
    },
    /// A record has a flag that this reader does not know, or one that its type does not have.
    Flags {
        /// The type of the record.
        kind: u16,
        /// Its flags.
        flags: u16,
    },
    /// A mandatory record has a type that this reader does not know.
    UnknownRecord {
        /// The type of the record.
        kind: u16,
        /// The record's number in its generation.
        sequence: u32,
    },
    /// The payload of a record has a length that its type cannot have.
    PayloadLength {
        /// The type of the record.
        kind: u16,
        /// The length that it claims, in bytes.
        len: u32,
    },
    /// The argument of a record is not one that its type can have.
    Argument {
        /// The type of the record.
        kind: u16,
        /// The argument.
        argument: u64,
    },
    /// A record is not the next one: something was lost, doubled or reordered.
    Sequence {
        /// The number that should come next.
        expected: u32,
        /// The number that came.
        found: u32,
    },
    /// A record has a type that may not come at this place of the stream.
    Misplaced {
        /// The type of the record.
        kind: u16,
        /// The record's number in its generation.
        sequence: u32,
    },
    /// A save begins whose generation was there before.
    Generation {
        /// The generation that it claims.
        found: u64,
        /// The last generation seen in this session.
        last: u32,
    },
    /// A HEADER that is there again is not the one that was there before.
    HeaderChanged {
        /// The record's number in its generation.
        sequence: u32,
    },
    /// The stream has a major version that this reader does not know.
    Version {
        /// Major version of the stream.
        major: u16,
        /// Minor version of the stream.
        minor: u16,
    },
    /// The stream is of another type of device.
    DeviceType {
        /// The type that the stream names, padded with zeros.
        found: [u8; TYPE_SIZE],
    },
    /// The stream is of a device with a configuration of another length.
    ConfigurationLength {
        /// Length of this device's configuration, in bytes.
        expected: usize,
        /// Length of that in the stream, in bytes.
        found: u16,
    },
    /// The stream is of a device with another configuration.
    Configuration {
        /// Offset of the first byte that differs.
        offset: usize,
        /// That byte of this device's configuration.
        expected: u8,
        /// That byte of the stream's.
        found: u8,
    },
    /// A piece of the device state does not follow on the one before.
    StateOffset {
        /// Where the next piece should begin, in bytes.
        expected: usize,
        /// Where it says that it begins, in bytes.
        found: u64,
    },
    /// The stream has more device state than this device can have.
    StateOverflow {
        /// Where the piece would end, in bytes.
        end: u64,
        /// The most that this device can have, in bytes.
        most: usize,
    },
    /// The stream has blocks of storage, and the device has none.
    NoMigratedBlocks {
        /// The record's number in its generation.
        sequence: u32,
    },
    /// A part of the storage in the stream does not lie in that of the device.
    OutsideStorage {
        /// Where it begins, in bytes.
        offset: u64,
        /// Its length, in bytes.
        len: u64,
        /// Size of the device's storage, in bytes.
        size: u64,
    },
    /// The stream was refused at an earlier record, whose reason was told then.
    RefusedBefore {
        /// The error of that refusal.
        errno: Errno,
    },
    /// The storage of the device failed.
    StorageFailed {
        /// What the device said.
        errno: Errno,
    },
    /// The count of records in END is not what was received.
    TotalRecords {
        /// As counted by the reader.
        expected: u32,
        /// As END says.
        found: u32,
    },
    /// The count of bytes in END is not what was received.
    TotalBytes {
        /// As counted by the reader.
        expected: u64,
        /// As END says.
        found: u64,
    },
    /// The checksum of the device state in END is not that of what was received.
    TotalChecksum {
        /// What END says.
        stored: u32,
        /// What the received state gives.
        computed: u32,
    },
    /// The device does not accept the state in the stream.
    StateRefused {
        /// What the device said.
        errno: Errno,
    },
    /// RESUMING is left before the stream was complete.
    Incomplete {
        /// Bytes received in this session.
        bytes: u64,
        /// Records received of the stream's last generation.
        records: u32,
    },
}

/// What a refusal is about, for those who report each kind for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// An access of the region or of the data file, whatever the data is.
    Access,
    /// A change of the device state.
    Transition,
    /// The stream, and the device's means to take it or to give it.
    Stream,
}

impl Reason {
    /// Returns what the refusal is about.
    pub const fn subject(&self) -> Subject {
        match self {
            Self::Access { .. }
            | Self::ReadOnly { .. }
            | Self::InErrorState
            | Self::NotResuming { .. }
            | Self::NotSaving { .. }
            | Self::ChunkTooLarge { .. }
            | Self::RefusedBefore { .. } => Subject::Access,
            Self::InvalidState { .. }
            | Self::StepFailed { .. }
            | Self::NotUnwound { .. }
            | Self::Irreversible { .. }
            | Self::P2pFailed { .. }
            | Self::WindowTooSmall { .. }
            | Self::BufferTooSmall { .. }
            | Self::StateTooLong { .. }
            | Self::ConfigurationTooLong { .. }
            | Self::Incomplete { .. } => Subject::Transition,
            _ => Subject::Stream,
        }
    }

    /// Returns the error number for this reason.
    pub const fn errno(&self) -> Errno {
        match self {
            Self::Access { .. }
            | Self::InvalidState { .. }
            | Self::NotResuming { .. }
            | Self::NotSaving { .. } => Errno::EINVAL,
            Self::ReadOnly { .. } => Errno::EPERM,
            Self::InErrorState
            | Self::NotUnwound { .. }
            | Self::Irreversible { .. }
            | Self::WindowTooSmall { .. }
            | Self::BufferTooSmall { .. }
            | Self::StateTooLong { .. }
            | Self::ConfigurationTooLong { .. } => Errno::EIO,
            Self::StepFailed { errno, .. }
            | Self::P2pFailed { errno, .. }
            | Self::StateRefused { errno }
            | Self::RefusedBefore { errno }
            | Self::StorageFailed { errno } => *errno,
            Self::ChunkTooLarge { .. } => Errno::EMSGSIZE,
            Self::Flags { flags, .. } if *flags & !OPTIONAL != 0 => Errno::EPROTONOSUPPORT,
            Self::UnknownRecord { .. } | Self::Version { .. } => Errno::EPROTONOSUPPORT,
            Self::DeviceType { .. } => Errno::ENODEV,
            Self::ConfigurationLength { .. }
            | Self::Configuration { .. }
            | Self::NoMigratedBlocks { .. } => Errno::EXDEV,
            Self::Incomplete { .. } => Errno::ENODATA,
            Self::Magic { .. }
            | Self::HeaderChecksum { .. }
            | Self::PayloadChecksum { .. }
            | Self::Flags { .. }
            | Self::PayloadLength { .. }
            | Self::Argument { .. }
            | Self::Sequence { .. }
            | Self::Misplaced { .. }
            | Self::Generation { .. }
            | Self::HeaderChanged { .. }
            | Self::StateOffset { .. }
            | Self::StateOverflow { .. }
            | Self::OutsideStorage { .. }
            | Self::TotalRecords { .. }
            | Self::TotalBytes { .. }
            | Self::TotalChecksum { .. } => Errno::EBADMSG,
        }
    }
}

/// A refusal: what the user gets and what the log says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// What the system call returns.
    pub errno: Errno,
    /// Why.
    pub reason: Reason,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self {
            errno: reason.errno(),
            reason,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.reason, f)
    }
}
