// SPDX-License-Identifier: GPL-2.0

//! iommufd and its I/O address spaces (IOAS).
//!
//! Mirrors `include/uapi/linux/iommufd.h`, as far as a device with an emulated IOMMU uses it.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::open;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::address_space::Access;
use crate::address_space::AddressSpace;
use crate::address_space::Mapped;
use crate::capability::u32_at;
use crate::capability::u64_at;
use crate::error::Context as _;
use crate::sys;
use crate::sys::Mapping;
use crate::sys::Request;
use crate::Error;
use crate::Result;

pub(crate) const IOMMUFD: &str = "/dev/iommu";

// `enum iommufd_ioas_map_flags`.
const MAP_FIXED_IOVA: u32 = 1 << 0;
const MAP_WRITEABLE: u32 = 1 << 1;
const MAP_READABLE: u32 = 1 << 2;

/// Makes the argument of an ioctl of iommufd: its size, and `words` at their offsets.
pub(crate) fn argument<const SIZE: usize>(words: &[(usize, u32)]) -> [u8; SIZE] {
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

    /// Opens a new iommufd.
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

    /// Takes an IOAS of another owner, who destroys it.
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
    /// What the kernel answers; `EBUSY` while another object uses it.
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
    /// Takes an iommufd that is open.
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
    /// Returns the id of the IOAS in its iommufd.
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

    /// Destroys the IOAS with all its mappings.
    ///
    /// # Errors
    ///
    /// What the kernel answers; `EBUSY` while a device is attached, and the IOAS is then unchanged.
    pub fn destroy(&self) -> Result<()> {
        self.mapped
            .remove(0, u64::MAX, || self.iommufd.destroy(self.id).map(|()| 0))
            .map(drop)
    }

    /// Forgets the IOAS with all its mappings, as a process does that only closes the iommufd. The kernel
    /// keeps the mappings until the last attached device is closed, so the memory is leaked.
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
    /// Unmaps everything first: an attached device must not reach memory that is freed.
    fn drop(&mut self) {
        self.mapped.remove_all(|| {
            self.unmap_with(0, u64::MAX)
                .map(drop)
                .what(|| "IOMMU_IOAS_UNMAP of everything".into())
        });
        // The error of an IOAS that is attached or was destroyed does not matter: the last close of the
        // iommufd destroys the IOAS.
        let _ = self.iommufd.destroy(self.id);
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
