// SPDX-License-Identifier: GPL-2.0

//! Migration state of a device: the settings for its next open, and the engine and session of this one.

use crate::{
    driver::{
        Driver,
        WindowSize, //
    },
    migration::window::Region,
    protocol::{
        Protocol,
        ProtocolRefusal,
        Protocols, //
    },
};
use ::migration::v2::Unread;
use kernel::prelude::*;

/// The session whose data flows through a file.
pub(crate) struct FileSession {
    pub(crate) id: u64,
    /// What the file has and the user has not read.
    pub(crate) unread: Unread,
}

impl FileSession {
    pub(crate) fn new(id: u64) -> Self {
        Self {
            id,
            unread: Unread::default(),
        }
    }
}

/// Migration state, and the settings for the next open.
pub(crate) struct Migration<D: Driver> {
    pub(crate) settings: D::Settings,
    /// Size of the data window at the next open.
    pub(crate) window_size: WindowSize,
    /// The protocols that the device offers from the next open on.
    pub(crate) protocols: Protocols,
    /// The device is open, is being opened, or gets another VFIO device: its settings cannot be changed.
    pub(crate) in_use: bool,
    /// Present while the device is open.
    pub(crate) region: Option<Region>,
    /// The protocol that has been used since the open or the last reset.
    pub(crate) protocol: Option<Protocol>,
    /// The session of protocol v2.
    pub(crate) file: Option<FileSession>,
    /// How many such sessions this open has had.
    pub(crate) sessions: u64,
}

impl<D: Driver> Migration<D> {
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
