// SPDX-License-Identifier: GPL-2.0

//! The address of a VFIO device, as people write it.
//!
//! | Form | Example | Device |
//! |---|---|---|
//! | UUID | `83b8f4f2-509f-382f-3c1e-e6bfe0fa1001` | a mediated device |
//! | PCI address | `0000:3b:00.0`, `3b:00.0` | a PCI function |
//! | character device | `/dev/vfio/devices/vfio0` | the device that has it |
//! | other path | `/sys/bus/pci/devices/0000:3b:00.0` | a directory in sysfs |

use core::fmt;
use core::str::FromStr;
use std::path::Path;
use std::path::PathBuf;

use crate::cdev::CDEVS;
use crate::mdev;
use crate::session::Backend;
use crate::session::Session;
use crate::sysfs::SysfsDevice;
use crate::Error;
use crate::Result;

/// The directory of all PCI functions.
const PCI_DEVICES: &str = "/sys/bus/pci/devices";
/// The class of VFIO devices: a link to each, by the name of its character device.
const VFIO_CLASS: &str = "/sys/class/vfio-dev";

/// The address of a VFIO device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Address {
    /// The UUID of a mediated device, in lower case.
    Mdev(String),
    /// The address of a PCI function, `DDDD:BB:DD.F` in lower case.
    Pci(String),
    /// The name of a character device, for example `vfio0`.
    Cdev(String),
    /// The path of a device's directory in sysfs.
    Sysfs(PathBuf),
}

/// Why a text is no [`Address`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{text:?} is no device address: {why}; expected a UUID (83b8f4f2-509f-382f-3c1e-e6bfe0fa1001), a PCI \
     address (0000:3b:00.0), a path in sysfs or a file in /dev/vfio/devices"
)]
pub struct ParseError {
    /// The text.
    pub text: String,
    /// What is wrong with it, and where.
    pub why: String,
}

/// Says whether a text consists of `digits` hexadecimal digits.
fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Parses a UUID, in the only form that `create` of an mdev type takes.
fn uuid(text: &str) -> core::result::Result<Address, String> {
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    let groups: Vec<&str> = text.split('-').collect();
    if groups.len() != GROUPS.len() {
        return Err(format!(
            "a UUID has {} groups, this has {}",
            GROUPS.len(),
            groups.len()
        ));
    }
    let bad = |(group, digits): &(&&str, usize)| !is_hex(group, *digits);
    match groups.iter().zip(GROUPS).find(bad) {
        None => Ok(Address::Mdev(text.to_ascii_lowercase())),
        Some((group, digits)) => Err(format!(
            "{group:?} should be {digits} hexadecimal digits of a UUID"
        )),
    }
}

/// Parses a PCI address, with or without its domain.
fn pci(text: &str) -> core::result::Result<Address, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (domain, bus, rest) = match parts[..] {
        [domain, bus, rest] => (domain, bus, rest),
        [bus, rest] => ("0000", bus, rest),
        _ => return Err("a PCI address has one or two colons".to_string()),
    };
    let (device, function) = rest
        .split_once('.')
        .ok_or_else(|| format!("{rest:?} has no dot before the function"))?;
    // A domain may have more than four digits, as those of VMD and Hyper-V do.
    if !is_hex(domain, domain.len().clamp(4, 8)) {
        return Err(format!(
            "{domain:?} should be a domain of 4 to 8 hexadecimal digits"
        ));
    }
    if !is_hex(bus, 2) {
        return Err(format!("{bus:?} should be a bus of 2 hexadecimal digits"));
    }
    let slot = u8::from_str_radix(device, 16).ok();
    if !is_hex(device, 2) || slot.is_none_or(|slot| slot > 0x1f) {
        return Err(format!("{device:?} should be a device from 00 to 1f"));
    }
    if !matches!(function.as_bytes(), [b'0'..=b'7']) {
        return Err(format!("{function:?} should be a function from 0 to 7"));
    }
    let address = format!("{domain}:{bus}:{device}.{function}");
    Ok(Address::Pci(address.to_ascii_lowercase()))
}

/// Parses an absolute path.
fn path(text: &str) -> core::result::Result<Address, String> {
    let path = Path::new(text);
    if let Ok(name) = path.strip_prefix(CDEVS) {
        return match name.to_str() {
            Some(name) if name.starts_with("vfio") && !name.contains('/') => {
                Ok(Address::Cdev(name.to_string()))
            }
            _ => Err(format!(
                "{name:?} is no character device's name, such as vfio0"
            )),
        };
    }
    if path.starts_with("/dev") {
        return Err("a group's file does not say which device of the group".to_string());
    }
    Ok(Address::Sysfs(path.to_path_buf()))
}

impl FromStr for Address {
    type Err = ParseError;

    fn from_str(text: &str) -> core::result::Result<Self, ParseError> {
        let parsed = if text.starts_with('/') {
            path(text)
        } else if text.contains(':') {
            pci(text)
        } else if text.contains('-') {
            uuid(text)
        } else {
            Err("it has neither colons, dashes nor slashes".to_string())
        };
        parsed.map_err(|why| ParseError {
            text: text.to_string(),
            why,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Mdev(name) | Address::Pci(name) => f.write_str(name),
            Address::Cdev(name) => write!(f, "{CDEVS}/{name}"),
            Address::Sysfs(path) => path.display().fmt(f),
        }
    }
}

impl Address {
    /// Finds the device in sysfs.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] if there is no such device.
    pub fn find(&self) -> Result<SysfsDevice> {
        let (path, mend) = match self {
            Address::Mdev(uuid) => (
                Path::new(mdev::DEVICES).join(uuid),
                "create it: write the UUID to the file create of an mdev type",
            ),
            Address::Pci(address) => (
                Path::new(PCI_DEVICES).join(address),
                "lspci -D shows the addresses of all functions",
            ),
            Address::Cdev(name) => (
                Path::new(VFIO_CLASS).join(name).join("device"),
                "/sys/class/vfio-dev has the names of all VFIO devices",
            ),
            Address::Sysfs(path) => (
                path.clone(),
                "the path of a device begins with /sys/bus or /sys/devices",
            ),
        };
        // By its own name, not by that of a link.
        let found = path
            .canonicalize()
            .ok()
            .filter(|path| path.join("uevent").exists());
        found.map(SysfsDevice::at).ok_or_else(|| {
            let why = format!("no device at {}", path.display());
            Error::missing(self.to_string(), why, mend)
        })
    }

    /// Opens the device in an address space of its own.
    ///
    /// # Errors
    ///
    /// As [`Address::find`] and [`Backend::open`].
    pub fn open(&self, backend: Backend) -> Result<Box<dyn Session>> {
        backend.open(&self.find()?)
    }
}

#[cfg(test)]
mod tests {
    use super::Address;
    use crate::Error;

    fn parse(text: &str) -> Result<Address, String> {
        text.parse().map_err(|error: super::ParseError| error.why)
    }

    #[test]
    fn each_form_is_told_by_its_punctuation() {
        let uuid = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
        for (text, expected) in [
            (uuid, Address::Mdev(uuid.into())),
            ("0000:3b:00.0", Address::Pci("0000:3b:00.0".into())),
            ("3B:1f.7", Address::Pci("0000:3b:1f.7".into())),
            ("10000:e1:00.0", Address::Pci("10000:e1:00.0".into())),
            ("/dev/vfio/devices/vfio12", Address::Cdev("vfio12".into())),
            (
                "/sys/bus/pci/devices/0000:3b:00.0",
                Address::Sysfs("/sys/bus/pci/devices/0000:3b:00.0".into()),
            ),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        assert_eq!(parse(&uuid.to_uppercase()), Ok(Address::Mdev(uuid.into())));
    }

    #[test]
    fn an_address_is_written_as_it_is_read() {
        for text in [
            "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001",
            "0000:3b:00.0",
            "/dev/vfio/devices/vfio0",
            "/sys/devices/virtual/x",
        ] {
            let address = parse(text).expect("a good address");
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn a_bad_address_is_told_where_it_is_bad() {
        for (text, why) in [
            ("", "neither colons"),
            ("mdev0", "neither colons"),
            ("83b8f4f2-509f-382f-3c1e", "5 groups, this has 4"),
            (
                "83b8f4f2-509f-382f-3c1e-e6bfe0fa10",
                "\"e6bfe0fa10\" should be 12",
            ),
            (
                "83b8f4fg-509f-382f-3c1e-e6bfe0fa1001",
                "\"83b8f4fg\" should be 8",
            ),
            ("0000:3b:00", "no dot"),
            ("0000:3g:00.0", "\"3g\" should be a bus"),
            ("000:3b:00.0", "\"000\" should be a domain"),
            ("0000:3b:20.0", "\"20\" should be a device"),
            ("0000:3b:00.8", "\"8\" should be a function"),
            ("0000:3b:00.00", "\"00\" should be a function"),
            ("0:0:3b:00.0", "one or two colons"),
            ("/dev/vfio/devices/", "no character device's name"),
            ("/dev/vfio/12", "does not say which device"),
        ] {
            let error = text.parse::<Address>().expect_err(text);
            assert!(error.why.contains(why), "{text}: {}", error.why);
            assert!(error.to_string().contains("expected a UUID"), "{error}");
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_told_with_its_mend() {
        let address = parse("/sys/nowhere").expect("a path");
        match address.find() {
            Err(Error::Missing { what, .. }) => assert_eq!(what, "/sys/nowhere"),
            other => panic!("expected that it is missing, seen {other:?}"),
        }
    }
}
