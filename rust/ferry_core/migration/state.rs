// SPDX-License-Identifier: GPL-2.0

//! Migration state of a device: the settings for its next open, and the engine and session of this one.

use crate::{
    driver::WindowSize,
    migration::region::Region,
    protocol::{
        Protocol,
        ProtocolRefusal,
        Protocols, //
    },
};
use ::migration::{
    v2::file::File,
    Engine as MigrationEngine, //
};
use kernel::prelude::*;

/// The engine of an open device.
pub(crate) type Engine = MigrationEngine<StateBuffer>;

/// The state of the device on its way between the device and a chunk.
pub(crate) struct StateBuffer(pub(crate) KVVec<u8>);

impl AsRef<[u8]> for StateBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for StateBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// The session of protocol v2, whose data flows through a file.
pub(crate) struct FileSession {
    pub(crate) id: u64,
    pub(crate) file: File,
}

impl FileSession {
    pub(crate) fn new(id: u64) -> Self {
        Self {
            id,
            file: File::new(),
        }
    }
}

/// Migration state, and the settings for the next open.
pub(crate) struct Migration<S> {
    pub(crate) settings: S,
    /// Size of the data window at the next open.
    pub(crate) window_size: WindowSize,
    /// The protocols that the device offers from the next open on.
    pub(crate) protocols: Protocols,
    /// The device is open, is being opened, or gets another VFIO device: its settings cannot be changed.
    pub(crate) in_use: bool,
    /// Present while the device is open.
    pub(crate) engine: Option<Engine>,
    /// Present while the device is open and offers protocol v1.
    pub(crate) region: Option<Region>,
    /// The protocol that has been used since the open or the last reset.
    pub(crate) protocol: Option<Protocol>,
    /// The data transfer session of protocol v2.
    pub(crate) session: Option<FileSession>,
    /// How many sessions of protocol v2 this open has had.
    pub(crate) sessions: u64,
}

impl<S> Migration<S> {
    /// The migration state of a closed device that offers both protocols.
    pub(crate) fn new(settings: S, window_size: WindowSize) -> Self {
        Self {
            settings,
            window_size,
            protocols: Protocols::Any,
            in_use: false,
            engine: None,
            region: None,
            protocol: None,
            session: None,
            sessions: 0,
        }
    }

    /// Checks that nobody uses the device, so that its settings can be changed.
    pub(crate) fn check_unused(&self) -> Result {
        if self.in_use {
            return Err(EBUSY);
        }
        Ok(())
    }

    /// Marks the device as in use.
    pub(crate) fn take(&mut self) -> Result {
        self.check_unused()?;
        self.in_use = true;
        Ok(())
    }

    /// Checks that the device offers `wanted` and has not used the other protocol since the last reset.
    pub(crate) fn may_use(&self, wanted: Protocol) -> Result<(), ProtocolRefusal> {
        if !self.protocols.offer(wanted) {
            return Err(ProtocolRefusal::NotOffered { wanted });
        }
        match self.protocol {
            Some(used) if used != wanted => Err(ProtocolRefusal::OtherInUse { wanted, used }),
            _ => Ok(()),
        }
    }
}
