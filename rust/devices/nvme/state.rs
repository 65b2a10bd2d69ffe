// SPDX-License-Identifier: GPL-2.0

//! The controller's state as bytes, to be moved to another host.
//!
//! # Version 1
//!
//! Numbers are little endian.
//!
//! | offset | bytes | content                                                      |
//! |-------:|------:|--------------------------------------------------------------|
//! |      0 |     1 | version, 1                                                   |
//! |      1 |     3 | 0                                                            |
//! |      4 |   256 | configuration space; interrupt status is 0                   |
//! |    260 |   272 | MSI-X table                                                  |
//! |    532 |     4 | CC                                                           |
//! |    536 |     4 | CSTS                                                         |
//! |    540 |     4 | interrupt mask                                               |
//! |    544 |     4 | AQA                                                          |
//! |    548 |     8 | ASQ                                                          |
//! |    556 |     8 | ACQ                                                          |
//! |    564 |    20 | serial number                                                |

use core::fmt;

use pci_config::{
    ImageError,
    CONFIG_SPACE_SIZE, //
};

use crate::controller::{
    Controller,
    MSIX_TABLE_SIZE, //
};
use crate::parameters::{
    ParameterError,
    Parameters,
    SERIAL_SIZE, //
};
use crate::registers as regs;

/// The version that this code writes, and the only one that it reads.
const VERSION: u8 = 1;
const HEADER_SIZE: usize = 4;

/// A state that no controller of the configuration can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The state is not as long as one is.
    Length {
        /// How many bytes it should have.
        expected: usize,
        /// How many bytes it has.
        found: usize,
    },
    /// The state has a version that this code does not know.
    Version {
        /// Its version.
        found: u8,
    },
    /// Bits are set that a field does not have.
    Bits {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        found: u64,
    },
    /// The configuration space is not one of the controller.
    Config(ImageError),
    /// The parameters are not ones that a controller can have.
    Parameters(ParameterError),
}

impl Controller {
    /// Number of bytes of the controller's state.
    pub const STATE_SIZE: usize =
        HEADER_SIZE + CONFIG_SPACE_SIZE + MSIX_TABLE_SIZE + 4 * 4 + 2 * 8 + SERIAL_SIZE;

    /// Writes the complete state of the controller to the front of `out`.
    ///
    /// Returns the number of bytes written, or [`None`] if `out` is too small.
    /// [`Controller::STATE_SIZE`] bytes are always enough.
    pub fn save(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer {
            out: out.get_mut(..Self::STATE_SIZE)?,
        };
        writer.put(&[VERSION, 0, 0, 0]);
        writer.put(&self.config.image());
        writer.put(&self.msix_table);
        writer.put(&self.registers.cc.to_le_bytes());
        writer.put(&self.registers.csts.to_le_bytes());
        writer.put(&self.registers.interrupt_mask.to_le_bytes());
        writer.put(&self.registers.aqa.to_le_bytes());
        writer.put(&self.registers.asq.to_le_bytes());
        writer.put(&self.registers.acq.to_le_bytes());
        writer.put(&self.parameters.serial);
        Some(Self::STATE_SIZE)
    }

    /// Returns the controller with `parameters` of which [`Controller::save`] wrote `state`.
    ///
    /// # Errors
    ///
    /// A controller of this configuration cannot have that state, or a version of this code wrote it
    /// that is not known here. Nothing in `state` is taken for granted.
    pub fn load(parameters: &Parameters, state: &[u8]) -> Result<Self, LoadError> {
        // The version comes first: it tells how long the rest is.
        if let Some(&found) = state.first() {
            if found != VERSION {
                return Err(LoadError::Version { found });
            }
        }
        let wrong_length = LoadError::Length {
            expected: Self::STATE_SIZE,
            found: state.len(),
        };
        if state.len() != Self::STATE_SIZE {
            return Err(wrong_length);
        }

        let mut reader = Reader { state };
        let header: [u8; HEADER_SIZE] = reader.take(wrong_length)?;
        check(
            "header",
            u32::from_le_bytes(header).into(),
            u32::from(VERSION).into(),
        )?;
        let image = reader.take(wrong_length)?;
        let msix_table = reader.take(wrong_length)?;
        let cc = u32::from_le_bytes(reader.take(wrong_length)?);
        let csts = u32::from_le_bytes(reader.take(wrong_length)?);
        let interrupt_mask = u32::from_le_bytes(reader.take(wrong_length)?);
        let aqa = u32::from_le_bytes(reader.take(wrong_length)?);
        let asq = u64::from_le_bytes(reader.take(wrong_length)?);
        let acq = u64::from_le_bytes(reader.take(wrong_length)?);
        let serial = reader.take(wrong_length)?;

        let mut controller = Self::new(Parameters {
            serial,
            ..*parameters
        })
        .map_err(LoadError::Parameters)?;
        controller
            .config
            .restore(&image)
            .map_err(LoadError::Config)?;
        controller.msix_table = msix_table;
        let registers = &mut controller.registers;
        registers.cc = check("CC", cc.into(), regs::CC_ALL.into())? as u32;
        registers.csts = check("CSTS", csts.into(), regs::CSTS_ALL.into())? as u32;
        registers.interrupt_mask = interrupt_mask;
        registers.aqa = check("AQA", aqa.into(), regs::AQA_ALL.into())? as u32;
        registers.asq = check("ASQ", asq, regs::ADMIN_BASE_ALL)?;
        registers.acq = check("ACQ", acq, regs::ADMIN_BASE_ALL)?;
        Ok(controller)
    }
}

/// Writes one field after the other.
struct Writer<'a> {
    out: &'a mut [u8],
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let out = core::mem::take(&mut self.out);
        if let Some((field, rest)) = out.split_at_mut_checked(bytes.len()) {
            field.copy_from_slice(bytes);
            self.out = rest;
        }
    }
}

/// Reads one field after the other.
struct Reader<'a> {
    state: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self, short: LoadError) -> Result<[u8; N], LoadError> {
        let (field, rest) = self.state.split_first_chunk::<N>().ok_or(short)?;
        self.state = rest;
        Ok(*field)
    }
}

fn check(field: &'static str, found: u64, allowed: u64) -> Result<u64, LoadError> {
    if found & !allowed != 0 {
        return Err(LoadError::Bits { field, found });
    }
    Ok(found)
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { expected, found } => {
                write!(f, "state has {found} bytes instead of {expected}")
            }
            Self::Version { found } => {
                write!(f, "state has version {found}, known is {VERSION}")
            }
            Self::Bits { field, found } => {
                write!(f, "{field} is {found:#x}, which has bits that do not exist")
            }
            Self::Config(error) => error.fmt(f),
            Self::Parameters(error) => error.fmt(f),
        }
    }
}
