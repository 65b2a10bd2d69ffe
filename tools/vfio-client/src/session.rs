// SPDX-License-Identifier: GPL-2.0

//! An open device with the address space of its DMA: through its group and a type1 container, as
//! QEMU 7.2 does it, or through its character device and an iommufd.

use core::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use crate::address_space::AddressSpace;
use crate::cdev::CDEVS;
use crate::container::CONTAINER;
use crate::group::GROUPS;
use crate::iommufd::IOMMUFD;
use crate::sysfs::SysfsDevice;
use crate::Cdev;
use crate::Container;
use crate::Device;
use crate::Error;
use crate::Group;
use crate::Ioas;
use crate::Iommufd;
use crate::Result;

/// An open device with the address space of its DMA.
pub trait Session: Debug + Send + Sync {
    /// Returns the device. Clones of it keep the device open when the session is gone.
    fn device(&self) -> &Device;

    /// Returns the address space.
    fn space(&self) -> &dyn AddressSpace;

    /// Returns the session as that of a character device. `None` if the device was opened by group.
    fn as_cdev(&self) -> Option<&CdevSession> {
        None
    }
}

impl<S: Session + ?Sized> Session for Box<S> {
    fn device(&self) -> &Device {
        (**self).device()
    }

    fn space(&self) -> &dyn AddressSpace {
        (**self).space()
    }

    fn as_cdev(&self) -> Option<&CdevSession> {
        (**self).as_cdev()
    }
}

/// How a device is opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Backend {
    /// Through its group, with a type1 container.
    Type1,
    /// Through its character device, with an IOAS of an iommufd.
    Iommufd,
}

impl Backend {
    /// Opens a device in an address space of its own.
    ///
    /// # Errors
    ///
    /// What the kernel answers; [`Error::Missing`] when the kernel lacks the backend or the device
    /// has no VFIO driver.
    pub fn open(self, device: &SysfsDevice) -> Result<Box<dyn Session>> {
        self.check(device)?;
        Ok(match self {
            Backend::Type1 => Box::new(GroupSession::open(device)?),
            Backend::Iommufd => Box::new(CdevSession::open(device)?),
        })
    }

    /// Checks that the files are there that [`Backend::open`] opens.
    fn check(self, device: &SysfsDevice) -> Result<()> {
        let (file, mend) = match self {
            Backend::Type1 => (CONTAINER, "load the module vfio_iommu_type1"),
            Backend::Iommufd => (
                IOMMUFD,
                "load the module iommufd, or take a kernel with CONFIG_IOMMUFD",
            ),
        };
        if !Path::new(file).exists() {
            return Err(Error::missing(file, "no such file", mend));
        }
        let group = device.group().map_err(|_| {
            Error::missing(
                device.path().display().to_string(),
                "the device is in no IOMMU group",
                "boot with the IOMMU on (intel_iommu=on), and bind the device to a VFIO driver",
            )
        })?;
        let has_vfio_driver = match self {
            Backend::Type1 => Path::new(GROUPS).join(group.to_string()).exists(),
            Backend::Iommufd => device.cdev().is_ok(),
        };
        if !has_vfio_driver {
            let why = match device.driver() {
                Ok(driver) => format!("its driver {driver} is no VFIO driver"),
                Err(_) => "it is bound to no driver".to_string(),
            };
            return Err(Error::missing(
                device.path().display().to_string(),
                why,
                "write vfio-pci, or the name of a variant driver, to driver_override there, unbind \
                 the present driver, and write the device's address to /sys/bus/pci/drivers_probe",
            ));
        }
        if self == Backend::Iommufd && device.cdev()?.is_none() {
            return Err(Error::missing(
                CDEVS,
                format!("{} has no character device", device.name()),
                "take a kernel with CONFIG_VFIO_DEVICE_CDEV",
            ));
        }
        Ok(())
    }
}

/// A device open in a container of its own, as a VMM with one device has it.
#[derive(Debug)]
pub struct GroupSession {
    /// The device. Clones of it keep the device open when the session is gone.
    pub device: Device,
    /// The group.
    pub group: Group,
    /// The container.
    pub container: Container,
}

impl GroupSession {
    /// Opens a device.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn open(device: &SysfsDevice) -> Result<Self> {
        GroupSession::open_in(device, Container::open()?)
    }

    /// Opens a device in a container that no group is in yet.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn open_in(device: &SysfsDevice, container: Container) -> Result<Self> {
        let group = Group::open(device.group()?)?;
        group.set_container(&container)?;
        container.set_type1()?;
        let device = group.device(device.name())?;
        Ok(GroupSession {
            device,
            group,
            container,
        })
    }
}

impl Session for GroupSession {
    fn device(&self) -> &Device {
        &self.device
    }

    fn space(&self) -> &dyn AddressSpace {
        &self.container
    }
}

/// A device open through its character device, attached to an IOAS that other devices may share.
#[derive(Debug)]
pub struct CdevSession {
    /// The character device. Clones of its device keep it open when the session is gone.
    pub cdev: Cdev,
    /// The address space.
    pub ioas: Arc<Ioas>,
    /// The iommufd. Its objects exist until the last device that is bound to it is closed.
    pub iommufd: Iommufd,
}

impl CdevSession {
    /// Opens a device with an iommufd and an IOAS of its own.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn open(device: &SysfsDevice) -> Result<Self> {
        let iommufd = Iommufd::open()?;
        let ioas = Arc::new(iommufd.ioas()?);
        CdevSession::bind(Cdev::open(device)?, iommufd, ioas)
    }

    /// Binds a device to an iommufd and attaches it to an IOAS of that iommufd.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn bind(cdev: Cdev, iommufd: Iommufd, ioas: Arc<Ioas>) -> Result<Self> {
        cdev.bind(&iommufd)?;
        cdev.attach(&ioas)?;
        Ok(CdevSession {
            cdev,
            ioas,
            iommufd,
        })
    }
}

impl Session for CdevSession {
    fn device(&self) -> &Device {
        self.cdev.device()
    }

    fn space(&self) -> &dyn AddressSpace {
        &*self.ioas
    }

    fn as_cdev(&self) -> Option<&CdevSession> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::Backend;
    use crate::sysfs::SysfsDevice;
    use crate::Error;

    #[test]
    fn a_device_that_cannot_be_opened_is_told_with_its_mend() {
        for backend in [Backend::Type1, Backend::Iommufd] {
            let error = backend.open(&SysfsDevice::at("/nowhere/0000:3b:00.0"));
            match error {
                Err(Error::Missing { mend, .. }) => assert!(!mend.is_empty()),
                other => panic!("expected what is missing, seen {other:?}"),
            }
        }
    }
}
