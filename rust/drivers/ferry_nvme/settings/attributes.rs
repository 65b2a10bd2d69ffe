// SPDX-License-Identifier: GPL-2.0

//! The settings of an mdev as attributes in sysfs: the directory `nvme` of an mdev.
//!
//! Described in `Documentation/ABI/testing/sysfs-bus-mdev-ferry`.

use super::{
    NvmeSettings,
    SerialNumber,
    StoreKind, //
};
use crate::backend::file::measure;
use core::fmt::{
    self,
    Display, //
};
use ferry_core::settings::Setting;
use kernel::{
    prelude::*,
    str::CString,
    sync::Arc, //
};
use kernel_ext::file::FileName;
use nvme::{
    CAPACITY_MAX,
    CAPACITY_MIN,
    CAPACITY_UNIT,
    QUEUE_PAIRS_MAX,
    QUEUE_PAIRS_MIN, //
};

/// `store`: the kind of backend, `ram` or `file`.
pub(crate) struct StoreAttribute;

impl Setting for StoreAttribute {
    type Settings = NvmeSettings;
    type Shown = StoreKind;
    type Parsed = StoreKind;

    const NAME: &'static CStr = c"store";
    const ALLOWED: &'static str = "ram or file";

    fn show(settings: &NvmeSettings) -> Result<StoreKind> {
        Ok(settings.store)
    }

    fn parse(text: &str) -> Result<StoreKind> {
        match text {
            "ram" => Ok(StoreKind::Ram),
            "file" => Ok(StoreKind::File),
            _ => Err(EINVAL),
        }
    }

    fn store(settings: &mut NvmeSettings, store: StoreKind) -> Result {
        settings.store = store;
        Ok(())
    }
}

/// `capacity`: size of the namespace in bytes. A namespace in a file has the size of the file.
pub(crate) struct Capacity;

impl Setting for Capacity {
    type Settings = NvmeSettings;
    type Shown = u64;
    type Parsed = u64;

    const NAME: &'static CStr = c"capacity";
    const ALLOWED: &'static str =
        "a multiple of 4096 from 1048576 to 68719476736; only a file can be larger";

    fn show(settings: &NvmeSettings) -> Result<u64> {
        match settings.store {
            StoreKind::Ram => Ok(settings.capacity),
            StoreKind::File => measure(settings.file.as_ref().ok_or(ENOENT)?),
        }
    }

    fn parse(text: &str) -> Result<u64> {
        let capacity = text.parse().map_err(|_| EINVAL)?;
        if !(CAPACITY_MIN..=CAPACITY_MAX).contains(&capacity) || capacity % CAPACITY_UNIT != 0 {
            return Err(EINVAL);
        }

        Ok(capacity)
    }

    fn store(settings: &mut NvmeSettings, capacity: u64) -> Result {
        if settings.store == StoreKind::File {
            return Err(EPERM);
        }

        settings.capacity = capacity;
        Ok(())
    }
}

/// `file`: absolute path of the file or block device; empty for none.
pub(crate) struct FilePath;

/// The path of a file; empty for none.
pub(crate) struct Path(Option<CString>);

impl Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            // A path is made of a `str`.
            Some(path) => f.write_str(path.to_str().unwrap_or_default()),
            None => Ok(()),
        }
    }
}

impl Setting for FilePath {
    type Settings = NvmeSettings;
    type Shown = Path;
    type Parsed = Option<Arc<FileName>>;

    const NAME: &'static CStr = c"file";
    const ALLOWED: &'static str = "an absolute path of a regular file or block device";

    fn show(settings: &NvmeSettings) -> Result<Path> {
        let path = settings
            .file
            .as_ref()
            .map(|file| CString::try_from_fmt(fmt!("{}", file.name())))
            .transpose()?;
        Ok(Path(path))
    }

    fn parse(text: &str) -> Result<Option<Arc<FileName>>> {
        match text {
            "" => Ok(None),
            path => Ok(Some(Arc::new(FileName::new(path)?, GFP_KERNEL_ACCOUNT)?)),
        }
    }

    fn store(settings: &mut NvmeSettings, file: Option<Arc<FileName>>) -> Result {
        settings.file = file;
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
