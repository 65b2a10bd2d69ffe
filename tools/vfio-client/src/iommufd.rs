// SPDX-License-Identifier: GPL-2.0

//! iommufd and a device's own character device: how a device comes to be opened without a group, as
//! newer VMMs do it.
//!
//! Mirrors `include/uapi/linux/iommufd.h` as far as a device with an emulated IOMMU has use for it, and
//! the ioctls of `include/uapi/linux/vfio.h` that only a character device has.

use core::mem::offset_of;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::open;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use vfio_bindings::bindings::vfio;

use crate::address_space::Access;
use crate::address_space::AddressSpace;
use crate::address_space::Mapped;
use crate::error::Context as _;
use crate::region::u32_at;
use crate::region::u64_at;
use crate::sys;
use crate::sys::Mapping;
use crate::sys::Request;
use crate::Device;
use crate::Error;
use crate::Mdev;
use crate::Result;
use crate::Session;

pub(crate) const IOMMUFD: &str = "/dev/iommu";
const CDEVS: &str = "/dev/vfio/devices";

// `enum iommufd_ioas_map_flags`.
const MAP_FIXED_IOVA: u32 = 1 << 0;
const MAP_WRITEABLE: u32 = 1 << 1;
const MAP_READABLE: u32 = 1 << 2;

/// Makes the argument of an ioctl of iommufd, which begins with its size.
fn argument<const SIZE: usize>(words: &[(usize, u32)]) -> [u8; SIZE] {
    let mut argument = [0; SIZE];
    argument[..4].copy_from_slice(&(SIZE as u32).to_ne_bytes());
    for (offset, word) in words {
        argument[*offset..*offset + 4].copy_from_slice(&word.to_ne_bytes());
    }
    argument
}

/// An open iommufd. Clones share the file descriptor.
#[derive(Clone, Debug)]
pub struct Iommufd(Arc<OwnedFd>);

impl Iommufd {
    /// Says whether the kernel has iommufd.
    pub fn exists() -> bool {
        Path::new(IOMMUFD).exists()
    }

    /// Opens a new one.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn open() -> Result<Self> {
        open(IOMMUFD, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .what(|| format!("open {IOMMUFD}"))
            .map(|fd| Iommufd(Arc::new(fd)))
    }

    /// Makes an IOAS.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn ioas(&self) -> Result<Ioas> {
        let what = || "IOMMU_IOAS_ALLOC".to_string();
        // `struct iommu_ioas_alloc`: `out_ioas_id` is at 8.
        let mut alloc = argument::<12>(&[]);
        sys::ioctl(&self.0, Request::IOAS_ALLOC, &mut alloc).what(what)?;
        let id = u32_at(&alloc, 8).ok_or_else(|| Error::malformed(what(), "answer too short"))?;
        Ok(Ioas {
            iommufd: self.clone(),
            id,
            mapped: Mapped::default(),
        })
    }

    /// Takes an IOAS that somebody else made and will destroy.
    pub fn existing_ioas(&self, id: u32) -> Ioas {
        Ioas {
            iommufd: self.clone(),
            id,
            mapped: Mapped::default(),
        }
    }

    /// Destroys an object, for example an IOAS, by its id.
    ///
    /// # Errors
    ///
    /// What the kernel answers: `EBUSY` while something uses it.
    pub fn destroy(&self, id: u32) -> Result<()> {
        // `struct iommu_destroy`: `id` is at 4.
        sys::ioctl(
            &self.0,
            Request::IOMMU_DESTROY,
            &mut argument::<8>(&[(4, id)]),
        )
        .what(|| format!("IOMMU_DESTROY of {id}"))
        .map(drop)
    }
}

impl From<OwnedFd> for Iommufd {
    /// Takes one that somebody else has opened.
    fn from(fd: OwnedFd) -> Self {
        Iommufd(Arc::new(fd))
    }
}

impl AsFd for Iommufd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An I/O address space of an iommufd.
#[derive(Debug)]
pub struct Ioas {
    iommufd: Iommufd,
    id: u32,
    mapped: Mapped,
}

impl Ioas {
    /// Returns its id in its iommufd.
    pub fn id(&self) -> u32 {
        self.id
    }

    fn unmap_with(&self, iova: u64, size: u64) -> core::result::Result<u64, Errno> {
        // `struct iommu_ioas_unmap`: `ioas_id` is at 4, `iova` at 8, `length` at 16.
        let mut unmap = argument::<24>(&[(4, self.id)]);
        unmap[8..16].copy_from_slice(&iova.to_ne_bytes());
        unmap[16..24].copy_from_slice(&size.to_ne_bytes());
        sys::ioctl(&self.iommufd, Request::IOAS_UNMAP, &mut unmap)?;
        u64_at(&unmap, 16).ok_or(Errno::PROTO)
    }

    /// Destroys it, with all that is mapped.
    ///
    /// # Errors
    ///
    /// What the kernel answers: `EBUSY` while a device is attached. It is then as it was.
    pub fn destroy(&self) -> Result<()> {
        self.mapped
            .remove(0, u64::MAX, || self.iommufd.destroy(self.id).map(|()| 0))
            .map(drop)
    }

    /// Lets go of it with all that is mapped, as somebody does who just closes the iommufd. If a device
    /// is attached, the kernel keeps all that until the device is closed; the memory stays for good.
    pub fn leave(self) {
        self.mapped.leave();
    }
}

impl AddressSpace for Ioas {
    fn map_for(&self, iova: u64, memory: &Arc<Mapping>, access: Access) -> Result<()> {
        let flags = MAP_FIXED_IOVA
            | match access {
                Access::Both => MAP_READABLE | MAP_WRITEABLE,
                Access::ReadOnly => MAP_READABLE,
                Access::WriteOnly => MAP_WRITEABLE,
            };
        self.mapped.add(iova, memory, || {
            sys::map_ioas(&self.iommufd, self.id, iova, memory, flags)
                .what(|| format!("IOMMU_IOAS_MAP of {} bytes at {iova:#x}", memory.len()))
        })
    }

    fn unmap(&self, iova: u64, size: u64) -> Result<u64> {
        self.mapped.remove(iova, size, || {
            self.unmap_with(iova, size)
                .what(|| format!("IOMMU_IOAS_UNMAP of {size} bytes at {iova:#x}"))
        })
    }
}

impl Drop for Ioas {
    /// Unmaps everything first: a device that is still attached must not reach memory that goes.
    fn drop(&mut self) {
        self.mapped.remove_all(|| {
            self.unmap_with(0, u64::MAX)
                .map(drop)
                .what(|| "IOMMU_IOAS_UNMAP of everything".into())
        });
        // A device may be attached to it still, or somebody have destroyed it. What is left goes with
        // the iommufd.
        let _ = self.iommufd.destroy(self.id);
    }
}

/// The character device of a device, open. The device itself is not before it is [bound](Cdev::bind).
#[derive(Clone, Debug)]
pub struct Cdev(Device);

impl Cdev {
    /// Says whether a device has one.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn exists(mdev: &Mdev) -> Result<bool> {
        mdev.cdev().map(|name| name.is_some())
    }

    /// Opens that of a device. It can be opened many times.
    ///
    /// # Errors
    ///
    /// What the kernel answers: `ENOENT` if there is none.
    pub fn open(mdev: &Mdev) -> Result<Self> {
        let name = mdev
            .cdev()?
            .ok_or(Errno::NOENT)
            .what(|| format!("character device of {}", mdev.uuid()))?;
        let path = Path::new(CDEVS).join(name);
        open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .what(|| format!("open {}", path.display()))
            .map(|fd| Cdev(Device::new(fd, mdev.uuid())))
    }

    /// Returns the device.
    pub fn device(&self) -> &Device {
        &self.0
    }

    /// Binds the device to an iommufd, which opens it. Returns its id there.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn bind(&self, iommufd: &Iommufd) -> Result<u32> {
        let what = || format!("{}: VFIO_DEVICE_BIND_IOMMUFD", self.0.name());
        let mut bind = argument::<{ size_of::<vfio::vfio_device_bind_iommufd>() }>(&[(
            offset_of!(vfio::vfio_device_bind_iommufd, iommufd),
            iommufd.as_fd().as_raw_fd() as u32,
        )]);
        self.0
            .ioctl(Request::DEVICE_BIND_IOMMUFD, &mut bind)
            .what(what)?;
        u32_at(&bind, offset_of!(vfio::vfio_device_bind_iommufd, out_devid))
            .ok_or_else(|| Error::malformed(what(), "answer too short"))
    }

    /// Attaches the device to an IOAS of the iommufd that it is bound to, instead of another one if it is
    /// attached already.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn attach(&self, ioas: &Ioas) -> Result<()> {
        self.attach_id(ioas.id())
    }

    /// Attaches the device to whatever has an id in the iommufd.
    ///
    /// # Errors
    ///
    /// What the kernel answers: `ENOENT` if that is no IOAS.
    pub fn attach_id(&self, id: u32) -> Result<()> {
        let mut attach =
            argument::<{ offset_of!(vfio::vfio_device_attach_iommufd_pt, pasid) }>(&[(
                offset_of!(vfio::vfio_device_attach_iommufd_pt, pt_id),
                id,
            )]);
        self.0
            .ioctl(Request::DEVICE_ATTACH_IOMMUFD_PT, &mut attach)
            .what(|| format!("{}: VFIO_DEVICE_ATTACH_IOMMUFD_PT", self.0.name()))
            .map(drop)
    }

    /// Detaches the device, if it is attached.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn detach(&self) -> Result<()> {
        let mut detach =
            argument::<{ offset_of!(vfio::vfio_device_detach_iommufd_pt, pasid) }>(&[]);
        self.0
            .ioctl(Request::DEVICE_DETACH_IOMMUFD_PT, &mut detach)
            .what(|| format!("{}: VFIO_DEVICE_DETACH_IOMMUFD_PT", self.0.name()))
            .map(drop)
    }
}

/// A device open through its character device, attached to an IOAS that other devices may share.
#[derive(Debug)]
pub struct CdevSession {
    /// The character device. Clones of its device keep it open when the session is gone.
    pub cdev: Cdev,
    /// The address space.
    pub ioas: Arc<Ioas>,
    /// The iommufd, which keeps what it has until the last device that is bound to it is closed.
    pub iommufd: Iommufd,
}

impl CdevSession {
    /// Binds a device to an iommufd and attaches it to an IOAS of that.
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

/// A device that is open with an address space, in one way or the other.
#[derive(Debug)]
pub enum Opened {
    /// Through its group, with a type1 container.
    Group(Session),
    /// Through its character device, with an IOAS.
    Cdev(CdevSession),
}

impl Opened {
    /// Returns the device.
    pub fn device(&self) -> &Device {
        match self {
            Opened::Group(session) => &session.device,
            Opened::Cdev(session) => session.cdev.device(),
        }
    }

    /// Returns the address space.
    pub fn space(&self) -> &dyn AddressSpace {
        match self {
            Opened::Group(session) => &session.container,
            Opened::Cdev(session) => &*session.ioas,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::argument;

    #[test]
    fn an_argument_begins_with_its_size_and_has_the_words_at_their_places() {
        let seen = argument::<12>(&[(4, 7), (8, 0x0102_0304)]);
        let mut expected = Vec::new();
        for word in [12u32, 7, 0x0102_0304] {
            expected.extend(word.to_ne_bytes());
        }
        assert_eq!(seen[..], expected);
    }
}
