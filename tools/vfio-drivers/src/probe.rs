// SPDX-License-Identifier: GPL-2.0

//! Finds the driver of a device by its PCI ids.
//!
//! The ids are those of `Documentation/ferry_nvme.rst`, `Documentation/ferry_uart.rst`,
//! `Documentation/ferry_e1000e.rst` and `samples/vfio-mdev/mtty.c`. A class code alone does not choose a driver: a driver overwrites the content
//! of a disk.

use vfio_bindings::bindings::vfio;
use vfio_client::Device;

use crate::e1000e;
use crate::nvme;
use crate::uart;
use crate::Driver;
use crate::Result;

/// The ids of a PCI function, from its configuration space.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ids {
    /// Vendor ID, at 0x00.
    pub vendor: u16,
    /// Device ID, at 0x02.
    pub device: u16,
}

impl Ids {
    /// Reads the ids of a device.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn read(device: &Device) -> Result<Self> {
        let space = device.region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?;
        Ok(Ids {
            vendor: space.read_u16(0x00)?,
            device: space.read_u16(0x02)?,
        })
    }
}

/// Returns the driver of a device with some ids, without looking at the device. `None` if there is
/// none.
pub fn driver_of(ids: Ids, device: &Device) -> Option<Box<dyn Driver>> {
    if nvme::NvmeDriver::matches(ids) {
        return Some(Box::new(nvme::NvmeDriver::new(device)));
    }
    if e1000e::NetworkDriver::matches(ids) {
        return Some(Box::new(e1000e::NetworkDriver::new(device)));
    }
    let model = uart::Model::of(ids)?;
    Some(Box::new(uart::SerialDriver::new(device, model)))
}

/// Finds the driver of a device. `None` if there is none.
///
/// # Errors
///
/// What the kernel answers to a read of the ids.
pub fn probe(device: &Device) -> Result<Option<Box<dyn Driver>>> {
    Ok(driver_of(Ids::read(device)?, device))
}

#[cfg(test)]
mod tests {
    use vfio_client::Device;

    use super::driver_of;
    use super::Ids;

    #[test]
    fn a_driver_is_found_by_both_ids() {
        let null = std::fs::File::open("/dev/null").expect("/dev/null");
        let device = Device::new(null.into(), "test");
        for (vendor, number, name) in [
            (0x1af4, 0x10f0, Some("NVMe controller")),
            (0x1af4, 0x10f1, Some("serial card with 1 port")),
            (0x1af4, 0x10f2, Some("serial card with 2 ports")),
            (0x1af4, 0x10f3, Some("serial card with 4 ports")),
            (0x4348, 0x3253, Some("serial card with 1 port (mtty)")),
            (0x8086, 0x10d3, Some("82574L")),
            (0x1af4, 0x10f4, None),
            (0x8086, 0x10f0, None),
        ] {
            let ids = Ids {
                vendor,
                device: number,
            };
            let seen = driver_of(ids, &device).map(|driver| driver.name());
            assert_eq!(seen.as_deref(), name, "{vendor:04x}:{number:04x}");
        }
    }
}
