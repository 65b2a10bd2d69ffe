// SPDX-License-Identifier: GPL-2.0

//! What a function is, and must be at both ends of a migration.

use super::{
    array,
    dword,
    place,
    StateError, //
};

/// What a function is, and must be at both ends of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PCI device.
    pub device: u16,
    /// PCI subsystem vendor.
    pub subsystem_vendor: u16,
    /// PCI subsystem.
    pub subsystem: u16,
    /// PCI revision: the stepping.
    pub revision: u8,
    /// Sizes of the BARs, 0 for one that the function does not have.
    pub bars: [u32; 6],
    /// A hash of the parts of configuration space that a VMM compares.
    pub config_space: u32,
}

impl Identity {
    /// Number of bytes.
    pub const SIZE: usize = 36;

    /// The identity as bytes.
    pub fn bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];

        put(&mut bytes, 0, &self.device.to_le_bytes());
        put(&mut bytes, 2, &self.subsystem_vendor.to_le_bytes());
        put(&mut bytes, 4, &self.subsystem.to_le_bytes());
        put(&mut bytes, 6, &[self.revision, 0]);
        for (index, size) in self.bars.iter().enumerate() {
            put(&mut bytes, place(8, 4, index), &size.to_le_bytes());
        }
        put(&mut bytes, 32, &self.config_space.to_le_bytes());
        bytes
    }

    /// Reads the identity that is at the front of `state`.
    pub(super) fn read(state: &[u8]) -> Self {
        let bytes = |at: usize| u16::from_le_bytes(array(state, at));

        Self {
            device: bytes(0),
            subsystem_vendor: bytes(2),
            subsystem: bytes(4),
            revision: array::<1>(state, 6)[0],
            bars: core::array::from_fn(|index| dword(state, place(8, 4, index))),
            config_space: dword(state, 32),
        }
    }
}

/// Checks that the function that a state is of, `theirs`, is like this one, `ours`.
pub(super) fn check(ours: &Identity, theirs: &Identity) -> Result<(), StateError> {
    let device = |identity: &Identity| {
        (
            identity.device,
            identity.subsystem_vendor,
            identity.subsystem,
        )
    };

    if device(ours) != device(theirs) {
        return Err(StateError::Device {
            expected: device(ours),
            found: device(theirs),
        });
    }
    if ours.revision != theirs.revision {
        return Err(StateError::Revision {
            expected: ours.revision,
            found: theirs.revision,
        });
    }
    for (index, (&expected, &found)) in (0..6).zip(ours.bars.iter().zip(&theirs.bars)) {
        if expected != found {
            return Err(StateError::Bar {
                index,
                expected,
                found,
            });
        }
    }
    if ours.config_space != theirs.config_space {
        return Err(StateError::ConfigSpace);
    }
    Ok(())
}

/// Writes `bytes` at `at`, where there is room for them.
fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    let end = at.saturating_add(bytes.len());
    if let Some(place) = out.get_mut(at..end) {
        place.copy_from_slice(bytes);
    }
}
