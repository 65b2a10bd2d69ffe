// SPDX-License-Identifier: GPL-2.0

//! The fields of a saved state: how they are written, read and checked.
//!
//! A saved state is a version byte and little-endian fields at fixed offsets. A model describes it
//! once in each direction, as a function that puts its fields into a [`StateWriter`] and as one that
//! takes them from a [`StateReader`]. The reader checks each field by itself; [`check_unused`] then
//! writes the loaded model again and finds every byte that the model would have written otherwise,
//! so that no reserved or unused byte goes unnoticed.

use core::fmt;

/// A saved state that no model has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    /// The state has a wrong length.
    Length {
        /// Bytes that a state has.
        expected: usize,
        /// Bytes that this one has.
        found: usize,
    },
    /// The state has a version that this code does not know.
    Version {
        /// The version that this code knows.
        known: u8,
        /// The version of the state.
        found: u8,
    },
    /// A field has bits that it cannot have.
    Bits {
        /// Name of the field.
        field: &'static str,
        /// Value of the field.
        found: u64,
        /// The bits that the field can have.
        allowed: u64,
    },
    /// A field has a value that is too large.
    Range {
        /// Name of the field.
        field: &'static str,
        /// Value of the field.
        found: u64,
        /// The largest value that the field can have.
        most: u64,
    },
    /// A reserved or unused byte is not what a model writes there.
    Unused {
        /// Offset of the byte.
        offset: usize,
        /// Value of the byte.
        found: u8,
    },
}

/// Takes the fields of a state, in ascending order of their offsets.
pub struct StateWriter<'a>(Sink<'a>);

/// Where the bytes go.
enum Sink<'a> {
    /// Into this memory.
    Store(&'a mut [u8]),
    /// Nowhere: they are compared with a state.
    Compare {
        /// The part of the state that was not compared yet.
        state: &'a [u8],
        /// Offset of that part.
        offset: usize,
        /// The first byte that differs.
        unused: Option<StateError>,
    },
}

impl StateWriter<'_> {
    /// Writes a field of bytes.
    pub fn bytes(&mut self, field: &[u8]) {
        match &mut self.0 {
            Sink::Store(rest) => {
                let whole = core::mem::take(rest);
                if let Some((into, behind)) = whole.split_at_mut_checked(field.len()) {
                    into.copy_from_slice(field);
                    *rest = behind;
                }
            }
            Sink::Compare {
                state,
                offset,
                unused,
            } => {
                let (theirs, behind) = state.split_at_checked(field.len()).unwrap_or_default();
                if unused.is_none() {
                    *unused = (*offset..)
                        .zip(theirs.iter().zip(field))
                        .find(|(_, (theirs, ours))| theirs != ours)
                        .map(|(offset, (&found, _))| StateError::Unused { offset, found });
                }
                *state = behind;
                *offset = offset.saturating_add(field.len());
            }
        }
    }

    /// Writes a field of 8 bits.
    pub fn u8(&mut self, field: u8) {
        self.bytes(&[field]);
    }

    /// Writes a field of 16 bits.
    pub fn u16(&mut self, field: u16) {
        self.bytes(&field.to_le_bytes());
    }

    /// Writes a field of 32 bits.
    pub fn u32(&mut self, field: u32) {
        self.bytes(&field.to_le_bytes());
    }

    /// Writes a field of 64 bits.
    pub fn u64(&mut self, field: u64) {
        self.bytes(&field.to_le_bytes());
    }

    /// Writes `N` reserved bytes.
    pub fn reserved<const N: usize>(&mut self) {
        self.bytes(&[0; N]);
    }
}

/// Has `save` write a state of `size` bytes to the front of `out`.
///
/// Returns the number of bytes written, or [`None`] if `out` has fewer than `size`.
pub fn save(out: &mut [u8], size: usize, save: impl FnOnce(&mut StateWriter<'_>)) -> Option<usize> {
    let out = out.get_mut(..size)?;

    save(&mut StateWriter(Sink::Store(out)));
    Some(size)
}

/// Checks that `state` has the bytes that `save`, which writes the model loaded from `state`, writes.
///
/// # Errors
///
/// [`StateError::Unused`] with the first byte that differs: nothing of it is in the model.
pub fn check_unused(
    state: &[u8],
    save: impl FnOnce(&mut StateWriter<'_>),
) -> Result<(), StateError> {
    let mut writer = StateWriter(Sink::Compare {
        state,
        offset: 0,
        unused: None,
    });

    save(&mut writer);
    match writer.0 {
        Sink::Compare {
            unused: Some(unused),
            ..
        } => Err(unused),
        _ => Ok(()),
    }
}

/// Checks the version, the first byte of `state`, against the only `known` one.
///
/// Comes before [`StateReader::new`], as the length depends on the version. An empty state passes.
///
/// # Errors
///
/// [`StateError::Version`].
pub fn check_version(state: &[u8], known: u8) -> Result<(), StateError> {
    match state.first() {
        Some(&found) if found != known => Err(StateError::Version { known, found }),
        _ => Ok(()),
    }
}

/// Gives the fields of a state, in ascending order of their offsets.
///
/// Every method fails with [`StateError::Length`] past the end of the state.
pub struct StateReader<'a> {
    /// The part of the state that was not read yet.
    rest: &'a [u8],
    /// Bytes of the state.
    size: usize,
}

impl<'a> StateReader<'a> {
    /// Returns a reader of `state`, which has to have `size` bytes.
    ///
    /// # Errors
    ///
    /// [`StateError::Length`].
    pub fn new(state: &'a [u8], size: usize) -> Result<Self, StateError> {
        if state.len() != size {
            return Err(StateError::Length {
                expected: size,
                found: state.len(),
            });
        }
        Ok(Self { rest: state, size })
    }

    /// Reads a field of `N` bytes in place.
    ///
    /// # Errors
    ///
    /// See the type.
    pub fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], StateError> {
        let (field, rest) = self.rest.split_first_chunk().ok_or(StateError::Length {
            // The model reads more than it writes.
            expected: self.size.saturating_add(N),
            found: self.size,
        })?;
        self.rest = rest;
        Ok(field)
    }

    /// Reads a field of `N` bytes.
    ///
    /// # Errors
    ///
    /// See the type.
    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        self.array().copied()
    }

    /// Skips `N` reserved bytes, which [`check_unused`] checks.
    ///
    /// # Errors
    ///
    /// See the type.
    pub fn reserved<const N: usize>(&mut self) -> Result<(), StateError> {
        self.array::<N>().map(|_| ())
    }

    /// Reads a field of 8 bits.
    ///
    /// # Errors
    ///
    /// See the type.
    pub fn u8(&mut self) -> Result<u8, StateError> {
        self.bytes().map(u8::from_le_bytes)
    }

    /// Reads a field of 16 bits.
    ///
    /// # Errors
    ///
    /// See the type.
    pub fn u16(&mut self) -> Result<u16, StateError> {
        self.bytes().map(u16::from_le_bytes)
    }

    /// Reads a field of 32 bits.
    ///
    /// # Errors
    ///
    /// See the type.
    pub fn u32(&mut self) -> Result<u32, StateError> {
        self.bytes().map(u32::from_le_bytes)
    }

    /// Reads a field of 64 bits.
    ///
    /// # Errors
    ///
    /// See the type.
    pub fn u64(&mut self) -> Result<u64, StateError> {
        self.bytes().map(u64::from_le_bytes)
    }

    /// Reads a field of 8 bits that can have only the bits `allowed`.
    ///
    /// # Errors
    ///
    /// [`StateError::Bits`], and see the type.
    pub fn u8_of(&mut self, field: &'static str, allowed: u8) -> Result<u8, StateError> {
        let found = self.u8()?;
        check_bits(field, found.into(), allowed.into()).map(|()| found)
    }

    /// Reads a field of 16 bits that can have only the bits `allowed`.
    ///
    /// # Errors
    ///
    /// [`StateError::Bits`], and see the type.
    pub fn u16_of(&mut self, field: &'static str, allowed: u16) -> Result<u16, StateError> {
        let found = self.u16()?;
        check_bits(field, found.into(), allowed.into()).map(|()| found)
    }

    /// Reads a field of 32 bits that can have only the bits `allowed`.
    ///
    /// # Errors
    ///
    /// [`StateError::Bits`], and see the type.
    pub fn u32_of(&mut self, field: &'static str, allowed: u32) -> Result<u32, StateError> {
        let found = self.u32()?;
        check_bits(field, found.into(), allowed.into()).map(|()| found)
    }

    /// Reads a field of 64 bits that can have only the bits `allowed`.
    ///
    /// # Errors
    ///
    /// [`StateError::Bits`], and see the type.
    pub fn u64_of(&mut self, field: &'static str, allowed: u64) -> Result<u64, StateError> {
        let found = self.u64()?;
        check_bits(field, found, allowed).map(|()| found)
    }

    /// Reads a field of 8 bits that is at most `most`.
    ///
    /// # Errors
    ///
    /// [`StateError::Range`], and see the type.
    pub fn at_most(&mut self, field: &'static str, most: u8) -> Result<u8, StateError> {
        let found = self.u8()?;
        check_range(field, found.into(), most.into()).map(|()| found)
    }

    /// Reads a field of 8 bits that is 0 or 1.
    ///
    /// # Errors
    ///
    /// [`StateError::Range`], and see the type.
    pub fn flag(&mut self, field: &'static str) -> Result<bool, StateError> {
        self.at_most(field, 1).map(|found| found != 0)
    }
}

/// Checks that the value `found` of a field has only the bits `allowed`.
///
/// # Errors
///
/// [`StateError::Bits`].
pub fn check_bits(field: &'static str, found: u64, allowed: u64) -> Result<(), StateError> {
    if found & !allowed != 0 {
        return Err(StateError::Bits {
            field,
            found,
            allowed,
        });
    }
    Ok(())
}

/// Checks that the value `found` of a field is at most `most`.
///
/// # Errors
///
/// [`StateError::Range`].
pub fn check_range(field: &'static str, found: u64, most: u64) -> Result<(), StateError> {
    if found > most {
        return Err(StateError::Range { field, found, most });
    }
    Ok(())
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { expected, found } => {
                write!(f, "state has {found} bytes instead of {expected}")
            }
            Self::Version { known, found } => {
                write!(f, "state has version {found}, known is {known}")
            }
            Self::Bits {
                field,
                found,
                allowed,
            } => write!(
                f,
                "{field} is {found:#04x}, but has only the bits {allowed:#04x}"
            ),
            Self::Range { field, found, most } => {
                write!(
                    f,
                    "{field} is {found:#x}, but at most {most:#x} is possible"
                )
            }
            Self::Unused { offset, found } => {
                write!(f, "state byte {offset} is unused, but {found:#04x}")
            }
        }
    }
}
