// SPDX-License-Identifier: GPL-2.0

//! The settings of a controller as attributes in sysfs, in the directory `nvme` of an mdev.
//!
//! Described in `Documentation/ABI/testing/sysfs-bus-mdev-ferry`.

use super::{
    NvmeSettings,
    SerialNumber, //
};
use ferry_core::settings::Setting;
use kernel::prelude::*;
use nvme::{
    QUEUE_PAIRS_MAX,
    QUEUE_PAIRS_MIN, //
};

/// `queues`: the number of pairs of I/O queues.
pub(crate) struct Queues;

impl Setting for Queues {
    type Settings = NvmeSettings;
    type Shown = u16;
    type Parsed = u16;

    const NAME: &'static CStr = c"queues";
    const ALLOWED: &'static str = "2 to 16, as UEFI firmware makes two pairs";

    fn show(settings: &NvmeSettings) -> Result<u16> {
        Ok(settings.queues)
    }

    fn parse(text: &str) -> Result<u16> {
        let queues = text.parse().map_err(|_| EINVAL)?;
        if !(QUEUE_PAIRS_MIN..=QUEUE_PAIRS_MAX).contains(&queues) {
            return Err(EINVAL);
        }

        Ok(queues)
    }

    fn store(settings: &mut NvmeSettings, queues: u16) -> Result {
        settings.queues = queues;
        Ok(())
    }
}

/// `serial`: the serial number, at most 20 printable characters of ASCII.
pub(crate) struct Serial;

impl Setting for Serial {
    type Settings = NvmeSettings;
    type Shown = SerialNumber;
    type Parsed = SerialNumber;

    const NAME: &'static CStr = c"serial";
    const ALLOWED: &'static str = "1 to 20 printable characters of ASCII";

    fn show(settings: &NvmeSettings) -> Result<SerialNumber> {
        Ok(settings.serial)
    }

    fn parse(text: &str) -> Result<SerialNumber> {
        SerialNumber::parse(text)
    }

    fn store(settings: &mut NvmeSettings, serial: SerialNumber) -> Result {
        settings.serial = serial;
        Ok(())
    }
}
