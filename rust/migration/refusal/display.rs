// SPDX-License-Identifier: GPL-2.0

//! The texts of refusals in the log.

use super::Reason;
use core::fmt;

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Access { offset, len } => write!(
                f,
                "an access of {len} bytes at offset {offset:#x} is not one header field at its \
                 width"
            ),
            Self::ReadOnly { field } => write!(f, "{field} is read-only"),
            Self::InvalidState { word } => {
                write!(f, "{word:#x} is not a device state that can be entered")
            }
            Self::InErrorState => f.write_str("the device is in the ERROR state and needs a reset"),
            Self::StepFailed { step, errno } => write!(f, "the device failed to {step}: {errno}"),
            Self::NotUnwound {
                step,
                errno,
                undo,
                undo_errno,
            } => write!(
                f,
                "the device failed to {step} ({errno}) and then to undo '{undo}' ({undo_errno})"
            ),
            Self::Irreversible { step, errno } => {
                write!(f, "the device failed to {step} and cannot go back: {errno}")
            }
            Self::P2pFailed { p2p, errno } => {
                let change = if *p2p { "enter" } else { "leave" };
                write!(f, "the device failed to {change} P2P: {errno}")
            }
            Self::WindowTooSmall { size, least } => write!(
                f,
                "the data window of {size} bytes is smaller than the {least} bytes that are needed"
            ),
            Self::BufferTooSmall { size, least } => write!(
                f,
                "the state buffer of {size} bytes is smaller than the {least} bytes that are needed"
            ),
            Self::StateTooLong { len, most } => {
                write!(f, "the device saved {len} bytes, where {most} is the most")
            }
            Self::ConfigurationTooLong { len, most } => write!(
                f,
                "the device's configuration has {len} bytes, where {most} is the most"
            ),
            Self::NotResuming { state } => {
                write!(
                    f,
                    "data_size was written in the {state} state, not RESUMING"
                )
            }
            Self::NotSaving { state } => {
                write!(f, "data was asked for in the {state} state")
            }
            Self::ChunkTooLarge { size, most } => write!(
                f,
                "data_size is {size}, but the data section has {most} bytes"
            ),
            Self::Magic { found, sequence } => {
                write!(
                    f,
                    "record {sequence} begins with {found:#010x}, not the magic number"
                )
            }
            Self::HeaderChecksum {
                stored,
                computed,
                sequence,
            } => write!(
                f,
                "the header of record {sequence} says checksum {stored:#010x}, its bytes give \
                 {computed:#010x}"
            ),
            Self::PayloadChecksum {
                stored,
                computed,
                sequence,
            } => write!(
                f,
                "the payload of record {sequence} has checksum {computed:#010x}, its header says \
                 {stored:#010x}"
            ),
            Self::Flags { kind, flags } => {
                write!(f, "a record of type {kind} has the flags {flags:#06x}")
            }
            Self::UnknownRecord { kind, sequence } => write!(
                f,
                "record {sequence} has the unknown type {kind} and is not optional"
            ),
            Self::PayloadLength { kind, len } => {
                write!(f, "a record of type {kind} claims a payload of {len} bytes")
            }
            Self::Argument { kind, argument } => {
                write!(f, "a record of type {kind} has the argument {argument:#x}")
            }
            Self::Sequence { expected, found } => write!(
                f,
                "record {found} came where record {expected} was expected"
            ),
            Self::Misplaced { kind, sequence } => write!(
                f,
                "record {sequence} of type {kind} may not come at this place"
            ),
            Self::Generation { found, last } => write!(
                f,
                "a save of generation {found} begins after one of generation {last}"
            ),
            Self::HeaderChanged { sequence } => write!(
                f,
                "the header sent again as record {sequence} differs from the first"
            ),
            Self::Version { major, minor } => {
                write!(
                    f,
                    "the stream has version {major}.{minor}, which is not known here"
                )
            }
            Self::DeviceType { found } => {
                f.write_str("the stream is of device type '")?;
                for byte in found.iter().take_while(|byte| **byte != 0) {
                    write!(f, "{}", byte.escape_ascii())?;
                }
                f.write_str("'")
            }
            Self::ConfigurationLength { expected, found } => write!(
                f,
                "the stream's device has a configuration of {found} bytes, this one of {expected}"
            ),
            Self::Configuration {
                offset,
                expected,
                found,
            } => write!(
                f,
                "byte {offset} of the configuration is {found:#04x} in the stream, {expected:#04x} \
                 here"
            ),
            Self::StateOffset { expected, found } => write!(
                f,
                "a piece of device state for offset {found} came where {expected} was next"
            ),
            Self::StateOverflow { end, most } => write!(
                f,
                "the stream has at least {end} bytes of device state, where {most} is the most"
            ),
            Self::NoMigratedBlocks { sequence } => write!(
                f,
                "record {sequence} has blocks of storage, and this device has no storage"
            ),
            Self::ZeroesLength { len, most } => write!(
                f,
                "a record tells of {len} bytes of zeros, and may tell of {most} at most"
            ),
            Self::OutsideStorage { offset, len, size } => write!(
                f,
                "{len} bytes of storage at offset {offset} do not lie within its {size} bytes"
            ),
            Self::RefusedBefore { errno } => {
                write!(f, "the stream was refused before, with {errno}")
            }
            Self::StorageFailed { errno } => write!(f, "the device's storage failed: {errno}"),
            Self::TotalRecords { expected, found } => write!(
                f,
                "the end record counts {found} records, {expected} were received"
            ),
            Self::TotalBytes { expected, found } => write!(
                f,
                "the end record counts {found} bytes, {expected} were received"
            ),
            Self::TotalChecksum { stored, computed } => write!(
                f,
                "the device state has checksum {computed:#010x}, the end record says {stored:#010x}"
            ),
            Self::StateRefused { errno } => {
                write!(
                    f,
                    "the device does not accept the state in the stream: {errno}"
                )
            }
            Self::Incomplete { bytes, records } => write!(
                f,
                "the stream is not complete: {bytes} bytes came, the last save has {records} \
                 records"
            ),
        }
    }
}
