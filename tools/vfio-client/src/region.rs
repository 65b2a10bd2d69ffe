// SPDX-License-Identifier: GPL-2.0

//! A region of a device, accessed by read, write and mmap.

mod info;

use core::mem::offset_of;

use rustix::io::Errno;
use vfio_bindings::bindings::vfio;

use crate::capability::u32_at;
use crate::error::Context as _;
use crate::sys;
use crate::sys::Mapping;
use crate::sys::Request;
use crate::Device;
use crate::Error;
use crate::Result;

pub use info::Area;
pub use info::RegionInfo;

/// A region of an open device.
#[derive(Clone, Debug)]
pub struct Region {
    device: Device,
    info: RegionInfo,
}

impl Region {
    pub(crate) fn query(device: &Device, index: u32) -> Result<Self> {
        let what = || format!("{}: VFIO_DEVICE_GET_REGION_INFO of {index}", device.name());
        let malformed = |why: String| Error::malformed(what(), why);
        let mut argsz = size_of::<vfio::vfio_region_info>();
        // The second try has the size for which the kernel asked. A third would be the kernel's fault.
        for _ in 0..2 {
            let mut answer = vec![0; argsz];
            answer[..4].copy_from_slice(&(argsz as u32).to_ne_bytes());
            let field = offset_of!(vfio::vfio_region_info, index);
            answer[field..field + 4].copy_from_slice(&index.to_ne_bytes());
            device
                .ioctl(Request::DEVICE_GET_REGION_INFO, &mut answer)
                .what(what)?;
            let wanted = u32_at(&answer, 0).unwrap_or(0) as usize;
            if wanted <= argsz {
                let info = RegionInfo::parse(&answer).map_err(malformed)?;
                return Ok(Region {
                    device: device.clone(),
                    info,
                });
            }
            if wanted > 64 * 1024 {
                return Err(malformed(format!("it wants {wanted} bytes")));
            }
            argsz = wanted;
        }
        Err(malformed("the kernel keeps asking for more room".into()))
    }

    /// Returns the kernel's answer about the region.
    pub fn info(&self) -> &RegionInfo {
        &self.info
    }

    /// Returns the region's size in bytes.
    pub fn size(&self) -> u64 {
        self.info.size
    }

    /// Returns the device of the region.
    pub fn device(&self) -> &Device {
        &self.device
    }

    fn what(&self, verb: &str, offset: u64, len: usize) -> String {
        format!(
            "{}: {verb} of {len} bytes at {offset:#x} of region {}",
            self.device.name(),
            self.info.index
        )
    }

    /// Reads with a single system call.
    ///
    /// # Errors
    ///
    /// What the kernel answers; [`Error::Short`] when it read less.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        let what = || self.what("read", offset, into.len());
        let at = self
            .info
            .offset
            .checked_add(offset)
            .ok_or_else(|| Error::Kernel {
                what: what(),
                errno: Errno::OVERFLOW,
            })?;
        let result = rustix::io::pread(&self.device, &mut *into, at);
        let wanted = into.len();
        let what = || self.what("read", offset, wanted);
        let done = result.what(what)?;
        if done == wanted {
            return Ok(());
        }
        Err(Error::Short {
            what: what(),
            done,
            wanted,
        })
    }

    /// Writes with a single system call.
    ///
    /// # Errors
    ///
    /// What the kernel answers; [`Error::Short`] when it took less.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let what = || self.what("write", offset, bytes.len());
        let at = self
            .info
            .offset
            .checked_add(offset)
            .ok_or_else(|| Error::Kernel {
                what: what(),
                errno: Errno::OVERFLOW,
            })?;
        let done = rustix::io::pwrite(&self.device, bytes, at).what(what)?;
        if done == bytes.len() {
            return Ok(());
        }
        Err(Error::Short {
            what: what(),
            done,
            wanted: bytes.len(),
        })
    }

    /// Reads one byte.
    ///
    /// # Errors
    ///
    /// As [`Region::read`].
    pub fn read_u8(&self, offset: u64) -> Result<u8> {
        let mut bytes = [0; 1];
        self.read(offset, &mut bytes)?;
        Ok(bytes[0])
    }

    /// Reads two bytes, little endian.
    ///
    /// # Errors
    ///
    /// As [`Region::read`].
    pub fn read_u16(&self, offset: u64) -> Result<u16> {
        let mut bytes = [0; 2];
        self.read(offset, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    /// Reads four bytes, little endian.
    ///
    /// # Errors
    ///
    /// As [`Region::read`].
    pub fn read_u32(&self, offset: u64) -> Result<u32> {
        let mut bytes = [0; 4];
        self.read(offset, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads eight bytes, little endian.
    ///
    /// # Errors
    ///
    /// As [`Region::read`].
    pub fn read_u64(&self, offset: u64) -> Result<u64> {
        let mut bytes = [0; 8];
        self.read(offset, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads into a buffer at an address that is never mapped.
    ///
    /// # Errors
    ///
    /// What the kernel answers; `EFAULT` is right.
    pub fn read_nowhere(&self, offset: u64, len: usize) -> Result<u32> {
        sys::pread_nowhere(&self.device, len, self.info.offset.wrapping_add(offset))
            .what(|| self.what("read to nowhere", offset, len))
    }

    /// Writes from a buffer at an address that is never mapped.
    ///
    /// # Errors
    ///
    /// What the kernel answers; `EFAULT` is right.
    pub fn write_nowhere(&self, offset: u64, len: usize) -> Result<u32> {
        sys::pwrite_nowhere(&self.device, len, self.info.offset.wrapping_add(offset))
            .what(|| self.what("write from nowhere", offset, len))
    }

    /// Maps a part of the region, shared, readable and writable.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn map(&self, offset: u64, len: usize) -> Result<Mapping> {
        Mapping::new(&self.device, self.info.offset.wrapping_add(offset), len)
            .what(|| self.what("mmap", offset, len))
    }
}
