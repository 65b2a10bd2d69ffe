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

/// The longest time that the worker looks at shadow doorbells, in microseconds.
const POLL_MAX: u32 = 100_000;

/// `poll`: for how many microseconds the worker looks at shadow doorbells when no command is left.
pub(crate) struct Poll;

impl Setting for Poll {
    type Settings = NvmeSettings;
    type Shown = u32;
    type Parsed = u32;

    const NAME: &'static CStr = c"poll";
    const ALLOWED: &'static str = "0 to 100000 microseconds";

    fn show(settings: &NvmeSettings) -> Result<u32> {
        Ok(settings.poll)
    }

    fn parse(text: &str) -> Result<u32> {
        text.parse()
            .ok()
            .filter(|poll| *poll <= POLL_MAX)
            .ok_or(EINVAL)
    }

    fn store(settings: &mut NvmeSettings, poll: u32) -> Result {
        settings.poll = poll;
        Ok(())
    }
}

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
