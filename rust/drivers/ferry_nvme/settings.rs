// SPDX-License-Identifier: GPL-2.0

//! What an administrator chooses for a controller while it is closed: the directory `nvme` of an
//! mdev.
//!
//! Described in `Documentation/ABI/testing/sysfs-bus-mdev-ferry`.

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
    QUEUE_PAIRS_MIN,
    SERIAL_SIZE, //
};

/// Default capacity in bytes.
const CAPACITY_DEFAULT: u64 = 64 << 20;

/// What keeps the content of the namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum StoreKind {
    /// Memory of the host.
    Ram = nvme::STORE_ZEROING,
    /// A regular file or block device of the host.
    File = 1,
}

impl Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ram => "ram",
            Self::File => "file",
        })
    }
}

/// Hexadecimal digits of a UUID.
const UUID_DIGITS: usize = 32;

/// The serial number of a new mdev, whose name is a UUID: its last digits, exclusive or those for which
/// there is no room.
///
/// Controllers of one guest need different ones. The last digits alone are the same for all UUIDs of
/// version 1 that a host makes within months.
fn serial_of(name: &CStr) -> [u8; SERIAL_SIZE] {
    let mut uuid = [0; UUID_DIGITS];
    let digits = name
        .to_bytes()
        .iter()
        .filter_map(|byte| char::from(*byte).to_digit(16));
    for (slot, digit) in uuid.iter_mut().zip(digits) {
        *slot = digit;
    }

    let (first, last) = uuid.split_at_mut(UUID_DIGITS - SERIAL_SIZE);
    for (digit, folded) in last.iter_mut().rev().zip(first.iter().rev()) {
        *digit ^= *folded;
    }

    let mut serial = [b'0'; SERIAL_SIZE];
    for (byte, digit) in serial.iter_mut().zip(last) {
        if let Some(digit) = char::from_digit(*digit, 16) {
            *byte = digit as u8;
        }
    }
    serial
}

/// The settings of one mdev.
#[derive(Clone)]
pub(crate) struct NvmeSettings {
    /// Binary logarithm of the bytes of a logical block, which its type fixes.
    pub(crate) lba_shift: u8,
    pub(crate) store: StoreKind,
    /// Bytes of a namespace in memory.
    pub(crate) capacity: u64,
    pub(crate) file: Option<Arc<FileName>>,
    pub(crate) queues: u16,
    pub(crate) serial: [u8; SERIAL_SIZE],
}

impl NvmeSettings {
    /// Those of a new mdev called `name`.
    pub(crate) fn new(lba_shift: u8, name: &CStr) -> Self {
        Self {
            lba_shift,
            store: StoreKind::Ram,
            capacity: CAPACITY_DEFAULT,
            file: None,
            queues: QUEUE_PAIRS_MAX,
            serial: serial_of(name),
        }
    }
}

/// `store`: what keeps the content, `ram` or `file`.
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

/// `capacity`: size of the namespace in bytes. That of a file is the file's own.
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

/// The path of a file, if there is one.
pub(crate) struct Path(Option<CString>);

impl Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            // It was made from one.
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

/// `queues`: how many pairs of I/O queues the guest can have.
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

/// A serial number without the blanks at its end.
pub(crate) struct SerialNumber([u8; SERIAL_SIZE]);

impl Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = core::str::from_utf8(&self.0).unwrap_or_default();
        f.write_str(text.trim_end_matches(' '))
    }
}

impl Setting for Serial {
    type Settings = NvmeSettings;
    type Shown = SerialNumber;
    type Parsed = [u8; SERIAL_SIZE];

    const NAME: &'static CStr = c"serial";
    const ALLOWED: &'static str = "1 to 20 printable characters of ASCII";

    fn show(settings: &NvmeSettings) -> Result<SerialNumber> {
        Ok(SerialNumber(settings.serial))
    }

    fn parse(text: &str) -> Result<[u8; SERIAL_SIZE]> {
        let printable = text
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if text.is_empty() || text.len() > SERIAL_SIZE || !printable {
            return Err(EINVAL);
        }

        let mut serial = [b' '; SERIAL_SIZE];
        for (byte, char) in serial.iter_mut().zip(text.bytes()) {
            *byte = char;
        }
        Ok(serial)
    }

    fn store(settings: &mut NvmeSettings, serial: [u8; SERIAL_SIZE]) -> Result {
        settings.serial = serial;
        Ok(())
    }
}
