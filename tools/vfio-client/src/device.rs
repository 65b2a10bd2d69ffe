// SPDX-License-Identifier: GPL-2.0

//! An open VFIO device.

use core::mem::offset_of;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use vfio_bindings::bindings::vfio;

use crate::capability::u32_at;
use crate::error::Context as _;
use crate::sys;
use crate::sys::Request;
use crate::Error;
use crate::Region;
use crate::Result;

/// The answer to `VFIO_DEVICE_GET_INFO`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeviceInfo {
    /// `VFIO_DEVICE_FLAGS_*`.
    pub flags: u32,
    /// The highest region index plus one.
    pub regions: u32,
    /// The highest interrupt index plus one.
    pub irqs: u32,
}

/// An open device. Clones share the file descriptor, which the last clone closes.
#[derive(Clone, Debug)]
pub struct Device {
    fd: Arc<OwnedFd>,
    name: Arc<str>,
}

impl Device {
    /// Takes the file descriptor of an open device.
    pub fn new(fd: OwnedFd, name: &str) -> Self {
        Device {
            fd: Arc::new(fd),
            name: name.into(),
        }
    }

    /// Returns the device's name in sysfs: an mdev's UUID, a PCI function's address.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes a second, independent file descriptor of the same open device.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn duplicate(&self) -> Result<Device> {
        rustix::io::dup(&self.fd)
            .what(|| format!("{}: dup", self.name))
            .map(|fd| Device::new(fd, &self.name))
    }

    /// Does `VFIO_DEVICE_GET_INFO`.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn info(&self) -> Result<DeviceInfo> {
        let what = || format!("{}: VFIO_DEVICE_GET_INFO", self.name);
        let mut info = [0; size_of::<vfio::vfio_device_info>()];
        let argsz = info.len() as u32;
        info[..4].copy_from_slice(&argsz.to_ne_bytes());
        sys::ioctl(&self.fd, Request::DEVICE_GET_INFO, &mut info).what(what)?;
        let field = |offset| {
            u32_at(&info, offset).ok_or_else(|| Error::malformed(what(), "answer too short"))
        };
        Ok(DeviceInfo {
            flags: field(offset_of!(vfio::vfio_device_info, flags))?,
            regions: field(offset_of!(vfio::vfio_device_info, num_regions))?,
            irqs: field(offset_of!(vfio::vfio_device_info, num_irqs))?,
        })
    }

    /// Opens a region by its index. Where the capabilities need a larger `argsz`, the kernel is asked a
    /// second time.
    ///
    /// # Errors
    ///
    /// What the kernel answers, and [`Error::Malformed`] for a broken capability chain.
    pub fn region(&self, index: u32) -> Result<Region> {
        Region::query(self, index)
    }

    /// Opens all regions in the order of their indexes.
    ///
    /// "Unimplemented regions return a size of zero" and are among them. Only the VGA region is left out where
    /// it is not there: of a function that is no VGA controller vfio-pci refuses it with `EINVAL`.
    ///
    /// # Errors
    ///
    /// As [`Device::region`].
    pub fn regions(&self) -> Result<Vec<Region>> {
        let mut regions = Vec::new();
        for index in 0..self.info()?.regions {
            match self.region(index) {
                Ok(region) => regions.push(region),
                Err(error) if is_absence(index, &error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(regions)
    }

    /// Resets the device.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn reset(&self) -> Result<()> {
        sys::ioctl_value(&self.fd, Request::DEVICE_RESET, 0)
            .what(|| format!("{}: VFIO_DEVICE_RESET", self.name))
            .map(drop)
    }

    /// Does an ioctl with any bytes as its argument.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn ioctl(&self, request: Request, argument: &mut [u8]) -> core::result::Result<u32, Errno> {
        sys::ioctl(&self.fd, request, argument)
    }
}

/// Says whether the error of a query says that the device does not have the region.
fn is_absence(index: u32, error: &Error) -> bool {
    index == vfio::VFIO_PCI_VGA_REGION_INDEX && error.errno() == Some(Errno::INVAL)
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use vfio_bindings::bindings::vfio;

    use super::is_absence;
    use crate::Errno;
    use crate::Error;

    #[test]
    fn only_the_vga_region_is_absent_by_an_error() {
        let error = |errno| Error::Kernel {
            what: "test".into(),
            errno,
        };
        for index in 0..16 {
            assert_eq!(
                is_absence(index, &error(Errno::INVAL)),
                index == vfio::VFIO_PCI_VGA_REGION_INDEX,
                "EINVAL of region {index}"
            );
            assert!(
                !is_absence(index, &error(Errno::IO)),
                "EIO of region {index}"
            );
        }
    }
}
