// SPDX-License-Identifier: GPL-2.0

//! The identity of a device, which is the payload of HEADER: both ends of a migration must have the same.

use super::format::{
    Kind,
    IDENTITY_MAX,
    MAJOR,
    MINOR,
    TYPE_SIZE, //
};
use crate::{
    port::Port,
    refusal::{
        Reason,
        Refusal, //
    },
};
use device_model::CONFIGURATION_MAX;

/// The payload of HEADER: version of the stream, type and configuration of the device.
///
/// ```text
/// 0   u16       major version
/// 2   u16       minor version
/// 4   16 bytes  type of the device, padded with zeros
/// 20  u16       length of the configuration in bytes
/// 22            configuration
/// ```
pub struct Identity {
    payload: [u8; IDENTITY_MAX],
    len: usize,
}

impl Identity {
    /// Returns the identity of the device of `port`, for a stream of the minor version `minor`.
    ///
    /// # Errors
    ///
    /// [`Reason::ConfigurationTooLong`].
    pub fn of<P: Port>(port: &P, minor: u16) -> Result<Self, Refusal> {
        const {
            assert!(P::TYPE.is_ascii() && !P::TYPE.is_empty() && P::TYPE.len() <= TYPE_SIZE);
        }

        let mut configuration = [0; CONFIGURATION_MAX];
        let configuration_len = port.configuration(&mut configuration);
        let too_long = Reason::ConfigurationTooLong {
            len: configuration_len,
            most: CONFIGURATION_MAX,
        };
        let configuration = configuration.get(..configuration_len).ok_or(too_long)?;
        let length = u16::try_from(configuration_len).map_err(|_| too_long)?;

        let mut name = [0; TYPE_SIZE];
        for (place, byte) in name.iter_mut().zip(P::TYPE.bytes()) {
            *place = byte;
        }

        let mut identity = Self {
            payload: [0; IDENTITY_MAX],
            len: 0,
        };
        identity.append(&MAJOR.to_le_bytes());
        identity.append(&minor.to_le_bytes());
        identity.append(&name);
        identity.append(&length.to_le_bytes());
        identity.append(configuration);
        Ok(identity)
    }

    fn append(&mut self, bytes: &[u8]) {
        let until = self.len.saturating_add(bytes.len());
        if let Some(place) = self.payload.get_mut(self.len..until) {
            place.copy_from_slice(bytes);
            self.len = until;
        }
    }

    /// Returns the payload of HEADER.
    pub fn payload(&self) -> &[u8] {
        self.payload.get(..self.len).unwrap_or(&self.payload)
    }

    /// Checks the payload of a HEADER against this identity and returns the stream's minor version.
    ///
    /// `payload` is the received payload, cut to the longest of this version, and `len` the whole length. Later
    /// minor versions may have more fields after the configuration.
    ///
    /// # Errors
    ///
    /// [`Reason::Version`], [`Reason::DeviceType`], [`Reason::ConfigurationLength`],
    /// [`Reason::Configuration`], or [`Reason::PayloadLength`] where the payload contradicts
    /// itself.
    pub fn check(&self, payload: &[u8], len: u32) -> Result<u16, Refusal> {
        let malformed = Reason::PayloadLength {
            kind: Kind::Header.number(),
            len,
        };

        let mut fields = Fields(payload);
        let major = fields.u16().ok_or(malformed)?;
        let minor = fields.u16().ok_or(malformed)?;
        if major != MAJOR {
            return Err(Reason::Version { major, minor }.into());
        }

        let mut own = Fields(self.payload());
        own.skip_versions();

        let found = fields.name().ok_or(malformed)?;
        if Some(found) != own.name() {
            return Err(Reason::DeviceType { found }.into());
        }

        let found = fields.u16().ok_or(malformed)?;
        if Some(found) != own.u16() {
            return Err(Reason::ConfigurationLength {
                expected: own.0.len(),
                found,
            }
            .into());
        }

        let (configuration, _) = fields.0.split_at_checked(own.0.len()).ok_or(malformed)?;
        let differs = |(_, (expected, found)): &(usize, (&u8, &u8))| expected != found;
        if let Some((offset, (expected, found))) =
            own.0.iter().zip(configuration).enumerate().find(differs)
        {
            return Err(Reason::Configuration {
                offset,
                expected: *expected,
                found: *found,
            }
            .into());
        }

        if minor <= MINOR && usize::try_from(len) != Ok(self.len) {
            return Err(malformed.into());
        }

        Ok(minor)
    }
}

/// The fields of a payload that have not been read.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u16(&mut self) -> Option<u16> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_le_bytes(*field))
    }

    fn name(&mut self) -> Option<[u8; TYPE_SIZE]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn skip_versions(&mut self) {
        self.u16();
        self.u16();
    }
}
