// SPDX-License-Identifier: GPL-2.0

//! Mediated devices: created, configured and removed through sysfs.
//!
//! Mirrors `Documentation/driver-api/vfio-mediated-device.rst`.

use core::ops::Deref;
use std::path::Path;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::rand::getrandom;
use rustix::rand::GetRandomFlags;

use crate::error::Context as _;
use crate::sysfs::read_file;
use crate::sysfs::write_file;
use crate::sysfs::SysfsDevice;
use crate::Error;
use crate::Result;

/// The directory of all mediated devices.
pub(crate) const DEVICES: &str = "/sys/bus/mdev/devices";

/// Makes a random UUID, version 4.
///
/// # Errors
///
/// What the kernel answers.
pub fn random_uuid() -> Result<String> {
    let mut bytes = [0u8; 16];
    getrandom(&mut bytes, GetRandomFlags::empty()).what(|| "getrandom".into())?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    Ok(text)
}

/// A type of mediated device that a parent offers.
#[derive(Clone, Debug)]
pub struct MdevType {
    path: PathBuf,
    name: String,
}

impl MdevType {
    /// Names a type, for example `ferry_uart-2`, of the parent at a path in sysfs.
    pub fn new(parent: &Path, name: &str) -> Self {
        MdevType {
            path: parent.join("mdev_supported_types").join(name),
            name: name.to_string(),
        }
    }

    /// Returns the type's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Says whether the kernel offers the type.
    pub fn exists(&self) -> bool {
        self.path.join("create").exists()
    }

    /// Reads an attribute of the type, for example `device_api`.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn attribute(&self, name: &str) -> Result<String> {
        read_file(&self.path.join(name))
    }

    /// Writes any bytes to the file `create`.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn create_raw(&self, uuid: &[u8]) -> Result<()> {
        write_file(&self.path.join("create"), uuid)
    }

    /// Creates a device of this type with a random UUID.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn create(&self) -> Result<Mdev> {
        self.create_called(random_uuid()?)
    }

    /// Creates a mediated device with this UUID, which is removed when it is dropped.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn create_called(&self, uuid: String) -> Result<Mdev> {
        self.create_raw(uuid.as_bytes())?;
        Ok(Mdev {
            device: SysfsDevice::at(Path::new(DEVICES).join(uuid)),
            keep: false,
        })
    }
}

/// A mediated device, which is removed when it is dropped. The removal waits for the last user of the
/// device, so drop the session first.
#[derive(Debug)]
pub struct Mdev {
    device: SysfsDevice,
    keep: bool,
}

impl Mdev {
    /// Takes a device of another owner, who removes it.
    pub fn existing(uuid: &str) -> Self {
        Mdev {
            device: SysfsDevice::at(Path::new(DEVICES).join(uuid)),
            keep: true,
        }
    }

    /// Leaves the device in place when this object is dropped.
    pub fn keep(mut self) -> Self {
        self.keep = true;
        self
    }

    /// Returns the device's UUID.
    pub fn uuid(&self) -> &str {
        self.device.name()
    }

    /// Removes the device now.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn remove(mut self) -> Result<()> {
        self.keep = true;
        write_file(&self.path().join("remove"), b"1")
    }
}

impl Deref for Mdev {
    type Target = SysfsDevice;

    fn deref(&self) -> &SysfsDevice {
        &self.device
    }
}

impl Drop for Mdev {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        match write_file(&self.path().join("remove"), b"1") {
            // The device was removed already, with its driver for example.
            Ok(())
            | Err(Error::Kernel {
                errno: Errno::NOENT,
                ..
            }) => {}
            Err(error) => eprintln!("# {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::random_uuid;

    #[test]
    fn a_random_uuid_has_the_form_of_version_4() {
        let uuid = random_uuid().expect("random bytes");
        let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{uuid}");
        assert_eq!(&uuid[14..15], "4", "version of {uuid}");
        assert!("89ab".contains(&uuid[19..20]), "variant of {uuid}");
        assert_ne!(uuid, random_uuid().expect("random bytes"));
    }
}
