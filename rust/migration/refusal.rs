// SPDX-License-Identifier: GPL-2.0

//! Refusals of the engine: an error number for the user and a reason for the log.
//!
//! A [`Reason`] carries the numbers that a person needs to understand the refusal, and decides the
//! [`Errno`], so that a kind of fault has one error number wherever it is found. The module knows the
//! vocabulary of the engine (states, fields, steps, record types), and no module of the vocabulary knows it.

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

/// Why a request was refused, with its numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// An access of the header that is not one field at its width and alignment.
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
    /// The device is in the ERROR state, which a reset leaves and no other request does.
    InErrorState,
    /// The device failed a step of a transition.
    StepFailed {
        /// The step.
        step: Step,
        /// The error of the device.
        errno: Errno,
    },
    /// A step of a transition failed, and then an earlier step could not be undone.
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
        /// The error of the device.
        errno: Errno,
    },
    /// The device did not enter or leave P2P.
    P2pFailed {
        /// Whether it was to enter P2P.
        p2p: bool,
        /// The error of the device.
        errno: Errno,
    },
    /// The room for a chunk cannot hold the records that must not be parted.
    WindowTooSmall {
        /// Size of the room, in bytes.
        size: usize,
        /// The size that is needed, in bytes.
        least: usize,
    },
    /// The state buffer is smaller than the device's state can be.
    BufferTooSmall {
        /// Size of the buffer, in bytes.
        size: usize,
        /// The size that is needed, in bytes.
        least: usize,
    },
    /// The device saved more than the bound of its state.
    StateTooLong {
        /// Length of the saved state, in bytes.
        len: usize,
        /// The longest that is allowed, in bytes.
        most: usize,
    },
    /// The device's configuration is longer than a stream can have.
    ConfigurationTooLong {
        /// Length of the configuration, in bytes.
        len: usize,
        /// The longest that is allowed, in bytes.
        most: usize,
    },
    /// `data_size` was written, or the data file, while the device was not resuming.
    NotResuming {
        /// The state that the device is in.
        state: State,
    },
    /// Data was read, or its size asked for, in a state that has no data to read.
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
        /// The number in its place.
        found: u32,
        /// The record's number in its generation, as counted by the reader.
        sequence: u32,
    },
    /// The checksum of a record's header is wrong.
    HeaderChecksum {
        /// The checksum in the record.
        stored: u32,
        /// The checksum of the bytes that came.
        computed: u32,
        /// The record's number in its generation, as counted by the reader.
        sequence: u32,
    },
    /// The checksum of a record's payload is wrong.
    PayloadChecksum {
        /// The checksum in the record.
        stored: u32,
        /// The checksum of the bytes that came.
        computed: u32,
        /// The record's number in its generation.
        sequence: u32,
    },
    /// A record has a flag that does not exist, or that its type does not have.
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
        /// The length in the record, in bytes.
        len: u32,
    },
    /// A record has an argument that its type cannot have.
    Argument {
        /// The type of the record.
        kind: u16,
        /// The argument.
        argument: u64,
    },
    /// A record is not the next one: records were lost, doubled or reordered.
    Sequence {
        /// The number of the next record.
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
    /// A save begins whose generation is not greater than all before it.
    Generation {
        /// The generation in the record.
        found: u64,
        /// The last generation seen in this session.
        last: u32,
    },
    /// A HEADER that was sent again differs from the first.
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
        /// The type in the stream, padded with zeros.
        found: [u8; TYPE_SIZE],
    },
    /// The stream is of a device with a configuration of another length.
    ConfigurationLength {
        /// Length of this device's configuration, in bytes.
        expected: usize,
        /// Length of the configuration in the stream, in bytes.
        found: u16,
    },
    /// The stream is of a device with another configuration.
    Configuration {
        /// Offset of the first byte that differs.
        offset: usize,
        /// The byte of this device's configuration.
        expected: u8,
        /// The byte of the configuration in the stream.
        found: u8,
    },
    /// A piece of the device state does not begin where the one before it ends.
    StateOffset {
        /// Offset at which the next piece begins, in bytes.
        expected: usize,
        /// Offset in the record, in bytes.
        found: u64,
    },
    /// The stream has more device state than this device can have.
    StateOverflow {
        /// Offset at which the piece ends, in bytes.
        end: u64,
        /// The bound of this device's state, in bytes.
        most: usize,
    },
    /// The stream has blocks of storage, and the device has none.
    NoMigratedBlocks {
        /// The record's number in its generation.
        sequence: u32,
    },
    /// The stream has a piece of storage that does not lie in the storage of this device.
    OutsideStorage {
        /// Offset of the piece, in bytes.
        offset: u64,
        /// Length of the piece, in bytes.
        len: u64,
        /// Size of the device's storage, in bytes.
        size: u64,
    },
    /// The stream has a record of more zeros than any source writes.
    ZeroesLength {
        /// Length of the part, in bytes.
        len: u64,
        /// The most bytes that a record has.
        most: u64,
    },
    /// The stream was refused at an earlier chunk, and the reason logged then.
    RefusedBefore {
        /// The error of that refusal.
        errno: Errno,
    },
    /// The storage of the device failed.
    StorageFailed {
        /// The error of the device.
        errno: Errno,
    },
    /// END counts another number of records than came.
    TotalRecords {
        /// The count of the reader.
        expected: u32,
        /// The count in END.
        found: u32,
    },
    /// END counts another number of bytes than came.
    TotalBytes {
        /// The count of the reader.
        expected: u64,
        /// The count in END.
        found: u64,
    },
    /// END has another checksum of the device state than the received state.
    TotalChecksum {
        /// The checksum in END.
        stored: u32,
        /// The checksum of the received state.
        computed: u32,
    },
    /// The device does not accept the state in the stream.
    StateRefused {
        /// The error of the device.
        errno: Errno,
    },
    /// RESUMING was left before the stream was complete.
    Incomplete {
        /// Bytes received in this session.
        bytes: u64,
        /// Records received of the stream's last generation.
        records: u32,
    },
}

/// The subject of a refusal: the log limits the rate of each subject on its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// An access of the region or of the data file.
    Access,
    /// A change of the device state.
    Transition,
    /// The stream, and the blocks of the device.
    Stream,
}

impl Reason {
    /// Returns the subject of the refusal.
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
            | Self::ZeroesLength { .. }
            | Self::TotalRecords { .. }
            | Self::TotalBytes { .. }
            | Self::TotalChecksum { .. } => Errno::EBADMSG,
        }
    }
}

/// A refusal: the error for the user, and the reason for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The error that the system call returns.
    pub errno: Errno,
    /// The reason in the log.
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
