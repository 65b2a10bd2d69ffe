// SPDX-License-Identifier: GPL-2.0

//! Mediated devices: created, configured and removed through sysfs.
//!
//! Mirrors `Documentation/driver-api/vfio-mediated-device.rst`.

use std::path::Path;
use std::path::PathBuf;

use rustix::fs::open;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::rand::getrandom;
use rustix::rand::GetRandomFlags;

use crate::error::Context as _;
use crate::Error;
use crate::Result;

/// Where the parent of Ferry's serial cards is.
pub const UART_PARENT: &str = "/sys/class/ferry_uart/ferry_uart";

/// Where the parent of Ferry's NVMe controllers is.
pub const NVME_PARENT: &str = "/sys/class/ferry_nvme/ferry_nvme";

const DEVICES: &str = "/sys/bus/mdev/devices";

/// Sysfs never gives more than a page.
const ATTRIBUTE_MAX: usize = 4096;

/// Writes a file in sysfs with one write.
///
/// # Errors
///
/// What the kernel answers.
pub fn write_file(path: &Path, value: &[u8]) -> Result<()> {
    let file = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .what(|| format!("open {} for writing", path.display()))?;
    let done = rustix::io::write(&file, value).what(|| {
        let text = String::from_utf8_lossy(&value[..value.len().min(40)]);
        format!("write {text:?} to {}", path.display())
    })?;
    if done == value.len() {
        Ok(())
    } else {
        Err(Error::Short {
            what: format!("write to {}", path.display()),
            done,
            wanted: value.len(),
        })
    }
}

/// Reads a file in sysfs, without the new line at its end.
///
/// # Errors
///
/// What the kernel answers, and [`Error::Malformed`] when it is not text.
pub fn read_file(path: &Path) -> Result<String> {
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .what(|| format!("open {}", path.display()))?;
    let mut value = vec![0; ATTRIBUTE_MAX];
    let len = rustix::io::read(&file, &mut value).what(|| format!("read {}", path.display()))?;
    value.truncate(len);
    let text = String::from_utf8(value)
        .map_err(|_| Error::malformed(format!("read {}", path.display()), "not text"))?;
    Ok(text.trim_end_matches('\n').to_string())
}

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

    /// Writes any bytes where a UUID belongs.
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
            path: Path::new(DEVICES).join(&uuid),
            uuid,
            keep: false,
        })
    }
}

/// A mediated device; removed when dropped. Removal waits for its last user, so drop that first.
#[derive(Debug)]
pub struct Mdev {
    uuid: String,
    path: PathBuf,
    keep: bool,
}

impl Mdev {
    /// Takes a device that somebody else created and will remove.
    pub fn existing(uuid: &str) -> Self {
        Mdev {
            path: Path::new(DEVICES).join(uuid),
            uuid: uuid.to_string(),
            keep: true,
        }
    }

    /// Leaves the device in place when this object goes.
    pub fn keep(mut self) -> Self {
        self.keep = true;
        self
    }

    /// Returns the device's UUID, which is its name.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// Returns the device's directory in sysfs, as QEMU's `sysfsdev` wants it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the name of the device's type, for example `ferry_uart-2`.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn type_name(&self) -> Result<String> {
        let link = self.path.join("mdev_type");
        let target = rustix::fs::readlink(&link, Vec::new())
            .what(|| format!("readlink {}", link.display()))?;
        let target = target.to_string_lossy();
        Ok(target.rsplit('/').next().unwrap_or_default().to_string())
    }

    /// Reads an attribute, for example `migration/window_size`.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn attribute(&self, name: &str) -> Result<String> {
        read_file(&self.path.join(name))
    }

    /// Writes an attribute.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn set_attribute(&self, name: &str, value: &[u8]) -> Result<()> {
        write_file(&self.path.join(name), value)
    }

    /// Returns the number of the device's IOMMU group, which names its file in `/dev/vfio`.
    ///
    /// # Errors
    ///
    /// What the kernel answers, and [`Error::Malformed`] when the link is not a number.
    pub fn group(&self) -> Result<u32> {
        let link = self.path.join("iommu_group");
        let target = rustix::fs::readlink(&link, Vec::new())
            .what(|| format!("readlink {}", link.display()))?;
        let target = target.to_string_lossy();
        target
            .rsplit('/')
            .next()
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| {
                Error::malformed(
                    format!("readlink {}", link.display()),
                    format!("no group number in {target:?}"),
                )
            })
    }

    /// Returns the name that the device's character device has in `/dev/vfio/devices`. `None` on a kernel
    /// without such devices.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn cdev(&self) -> Result<Option<String>> {
        let directory = self.path.join("vfio-dev");
        let entries = std::fs::read_dir(&directory)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .what(|| format!("read {}", directory.display()))?;
        // The directory is there in any case, the device's number only with the device.
        Ok(entries
            .flatten()
            .find(|entry| entry.path().join("dev").exists())
            .and_then(|entry| entry.file_name().into_string().ok()))
    }

    /// Removes the device now, and says so when that fails.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn remove(mut self) -> Result<()> {
        self.keep = true;
        write_file(&self.path.join("remove"), b"1")
    }
}

impl Drop for Mdev {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        match write_file(&self.path.join("remove"), b"1") {
            // Gone already, with its driver for example.
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
