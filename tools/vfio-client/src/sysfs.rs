// SPDX-License-Identifier: GPL-2.0

//! A device's directory in sysfs, and the files in it.

use std::path::Path;
use std::path::PathBuf;

use rustix::fs::open;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::Context as _;
use crate::Error;
use crate::Result;

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

/// Returns the last component of the path that a symbolic link contains.
fn link_name(link: &Path) -> Result<String> {
    let target =
        rustix::fs::readlink(link, Vec::new()).what(|| format!("readlink {}", link.display()))?;
    let target = target.to_string_lossy();
    Ok(target.rsplit('/').next().unwrap_or_default().to_string())
}

/// A device in sysfs, bound to a VFIO driver or not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SysfsDevice {
    path: PathBuf,
    name: String,
}

impl SysfsDevice {
    /// Takes the device whose directory is at `path`. Its name is the last component.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let name = path.file_name().unwrap_or_default();
        SysfsDevice {
            name: name.to_string_lossy().into_owned(),
            path,
        }
    }

    /// Returns the device's name: an mdev's UUID, a PCI function's address.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the device's directory, as QEMU's `sysfsdev` wants it.
    pub fn path(&self) -> &Path {
        &self.path
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

    /// Returns the name of the driver that the device is bound to.
    ///
    /// # Errors
    ///
    /// What the kernel answers: `ENOENT` without a driver.
    pub fn driver(&self) -> Result<String> {
        link_name(&self.path.join("driver"))
    }

    /// Returns the name of an mdev's type, for example `ferry_uart-2`.
    ///
    /// # Errors
    ///
    /// What the kernel answers: `ENOENT` for a device that is no mdev.
    pub fn type_name(&self) -> Result<String> {
        link_name(&self.path.join("mdev_type"))
    }

    /// Returns the number of the device's IOMMU group, which names its file in `/dev/vfio`.
    ///
    /// # Errors
    ///
    /// What the kernel answers, and [`Error::Malformed`] when the link is not a number.
    pub fn group(&self) -> Result<u32> {
        let link = self.path.join("iommu_group");
        let name = link_name(&link)?;
        name.parse().map_err(|_| {
            Error::malformed(
                format!("readlink {}", link.display()),
                format!("no group number in {name:?}"),
            )
        })
    }

    /// Returns the name of the device's character device in `/dev/vfio/devices`. `None` on a kernel
    /// without `CONFIG_VFIO_DEVICE_CDEV`.
    ///
    /// # Errors
    ///
    /// What the kernel answers: `ENOENT` for a device without a VFIO driver.
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
}

#[cfg(test)]
mod tests {
    use super::SysfsDevice;
    use crate::Errno;

    #[test]
    fn a_device_is_called_as_its_directory() {
        let device = SysfsDevice::at("/sys/bus/pci/devices/0000:3b:00.0");
        assert_eq!(device.name(), "0000:3b:00.0");
    }

    #[test]
    fn links_are_read_by_their_last_component() {
        let root = std::env::temp_dir().join(format!("sysfs-{}", std::process::id()));
        std::fs::create_dir_all(&root).expect("a directory");
        for (link, target) in [
            ("driver", "../../bus/mdev/drivers/ferry_uart"),
            ("iommu_group", "../../kernel/iommu_groups/7"),
        ] {
            std::os::unix::fs::symlink(target, root.join(link)).expect("a link");
        }
        let device = SysfsDevice::at(&root);
        let seen = (device.driver(), device.group(), device.type_name());
        std::fs::remove_dir_all(&root).expect("nothing is left");
        assert_eq!(seen.0, Ok("ferry_uart".to_string()));
        assert_eq!(seen.1, Ok(7));
        let errno = seen.2.err().and_then(|error| error.errno());
        assert_eq!(
            errno,
            Some(Errno::NOENT),
            "type of a device that is no mdev"
        );
    }
}
