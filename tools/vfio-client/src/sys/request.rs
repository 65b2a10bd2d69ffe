// SPDX-License-Identifier: GPL-2.0

//! The ioctls of VFIO and iommufd, `include/uapi/linux/vfio.h` and `iommufd.h`.

use vfio_bindings::bindings::vfio;

/// An ioctl of VFIO or of iommufd, as the distance from `VFIO_BASE`. All of them are
/// `_IO(VFIO_TYPE, VFIO_BASE + n)`: iommufd has the same type, and numbers from 0x80 on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Request(u8);

impl Request {
    /// Returns the version of the container's interface.
    pub const GET_API_VERSION: Request = Request(0);
    /// Sets the container's IOMMU type.
    pub const SET_IOMMU: Request = Request(2);
    /// Puts a group into a container.
    pub const GROUP_SET_CONTAINER: Request = Request(4);
    /// Opens a device of a group.
    pub const GROUP_GET_DEVICE_FD: Request = Request(6);
    /// Describes a device.
    pub const DEVICE_GET_INFO: Request = Request(7);
    /// Describes a region of a device.
    pub const DEVICE_GET_REGION_INFO: Request = Request(8);
    /// Describes an interrupt index of a device.
    pub const DEVICE_GET_IRQ_INFO: Request = Request(9);
    /// Sets up, masks, unmasks and triggers interrupts.
    pub const DEVICE_SET_IRQS: Request = Request(10);
    /// Resets a device.
    pub const DEVICE_RESET: Request = Request(11);
    /// Describes a type1 IOMMU. The number is also that of a device ioctl, which mdevs do not have.
    pub const IOMMU_GET_INFO: Request = Request(12);
    /// Maps memory for DMA; [`AddressSpace::map_for`](crate::AddressSpace::map_for) does it,
    /// [`ioctl`](super::ioctl()) refuses it.
    pub const IOMMU_MAP_DMA: Request = Request(13);
    /// Unmaps memory for DMA.
    pub const IOMMU_UNMAP_DMA: Request = Request(14);
    /// Gets, sets or probes a feature of a device.
    pub const DEVICE_FEATURE: Request = Request(17);
    /// Starts, stops and reads the log of dirty pages. The number is also `DEVICE_FEATURE`'s.
    pub const IOMMU_DIRTY_PAGES: Request = Request(17);
    /// Binds the device of a character device to an iommufd, which opens it.
    pub const DEVICE_BIND_IOMMUFD: Request = Request(18);
    /// Attaches a bound device to an IOAS.
    pub const DEVICE_ATTACH_IOMMUFD_PT: Request = Request(19);
    /// Detaches a bound device from its IOAS.
    pub const DEVICE_DETACH_IOMMUFD_PT: Request = Request(20);
    /// Asks the data file of a save for the bytes that can be read.
    pub const GET_PRECOPY_INFO: Request = Request(21);
    /// Destroys an object of an iommufd.
    pub const IOMMU_DESTROY: Request = Request::of_iommufd(0x80);
    /// Makes an IOAS in an iommufd.
    pub const IOAS_ALLOC: Request = Request::of_iommufd(0x81);
    /// Maps memory in an IOAS; [`AddressSpace::map_for`](crate::AddressSpace::map_for) does it,
    /// [`ioctl`](super::ioctl()) refuses it.
    pub const IOAS_MAP: Request = Request::of_iommufd(0x85);
    /// Unmaps memory in an IOAS.
    pub const IOAS_UNMAP: Request = Request::of_iommufd(0x86);

    /// Makes any request, also one that does not exist.
    pub const fn new(distance: u8) -> Self {
        Request(distance)
    }

    const fn of_iommufd(number: u8) -> Self {
        const { assert!(vfio::VFIO_TYPE == b';') };
        Request(number - vfio::VFIO_BASE as u8)
    }

    pub(super) fn number(self) -> u64 {
        u64::from(vfio::VFIO_TYPE) << 8 | (u64::from(vfio::VFIO_BASE) + u64::from(self.0))
    }
}
#[cfg(test)]
mod tests {
    use super::Request;

    #[test]
    fn a_request_of_iommufd_has_the_number_of_its_header() {
        // `_IO(';', 0x86)`.
        assert_eq!(Request::IOAS_UNMAP.number(), 0x3b86);
        assert_eq!(Request::DEVICE_BIND_IOMMUFD.number(), 0x3b76);
    }
}
