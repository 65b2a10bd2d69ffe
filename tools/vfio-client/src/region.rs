// SPDX-License-Identifier: GPL-2.0

//! Regions of a device: what they are, and access to them by read, write and mmap.

use core::mem::offset_of;

use rustix::io::Errno;
use vfio_bindings::bindings::vfio;

use crate::error::Context as _;
use crate::sys;
use crate::sys::Mapping;
use crate::sys::Request;
use crate::Device;
use crate::Error;
use crate::Result;

/// Reads a native-endian `u16`, `None` past the end.
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*bytes))
}

/// Reads a native-endian `u32`, `None` past the end.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// Reads a native-endian `u64`, `None` past the end.
pub fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*bytes))
}

/// A link of a capability chain, `struct vfio_info_cap_header`, with where it was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capability {
    /// Offset of the header in the answer.
    pub offset: usize,
    /// What the capability is.
    pub id: u16,
    /// Its version.
    pub version: u16,
}

/// Walks the capability chain in the answer to an info ioctl.
///
/// # Errors
///
/// What is wrong with the chain, when a link is outside the answer or was seen before.
pub fn capabilities(answer: &[u8], first: u32) -> core::result::Result<Vec<Capability>, String> {
    let mut chain: Vec<Capability> = Vec::new();
    let mut next = first;
    while next != 0 {
        let offset = next as usize;
        let header = (
            u16_at(
                answer,
                offset.saturating_add(offset_of!(vfio::vfio_info_cap_header, id)),
            ),
            u16_at(
                answer,
                offset.saturating_add(offset_of!(vfio::vfio_info_cap_header, version)),
            ),
            u32_at(
                answer,
                offset.saturating_add(offset_of!(vfio::vfio_info_cap_header, next)),
            ),
        );
        let (Some(id), Some(version), Some(following)) = header else {
            return Err(format!(
                "capability at {offset}, outside the {} bytes of the answer",
                answer.len()
            ));
        };
        if chain.iter().any(|cap| cap.offset == offset) {
            return Err(format!("the capability chain comes back to {offset}"));
        }
        chain.push(Capability {
            offset,
            id,
            version,
        });
        next = following;
    }
    Ok(chain)
}

/// A part of a region that may be mapped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Area {
    /// Offset from the start of the region, in bytes.
    pub offset: u64,
    /// Size in bytes.
    pub size: u64,
}

/// What `VFIO_DEVICE_GET_REGION_INFO` says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RegionInfo {
    /// The region's index.
    pub index: u32,
    /// `VFIO_REGION_INFO_FLAG_*`.
    pub flags: u32,
    /// Size in bytes; 0 for a region that is not there.
    pub size: u64,
    /// Where the region starts in the device's file.
    pub offset: u64,
    /// Type and subtype, of a region that is not one of the standard ones.
    pub kind: Option<(u32, u32)>,
    /// The areas that may be mapped, `None` when the region does not restrict them.
    pub sparse: Option<Vec<Area>>,
}

impl RegionInfo {
    /// Takes an answer apart.
    ///
    /// # Errors
    ///
    /// What is wrong with the answer.
    pub fn parse(answer: &[u8]) -> core::result::Result<Self, String> {
        let short = || format!("an answer of {} bytes", answer.len());
        let word = |offset| u32_at(answer, offset).ok_or_else(short);
        let long = |offset| u64_at(answer, offset).ok_or_else(short);
        let mut info = RegionInfo {
            index: word(offset_of!(vfio::vfio_region_info, index))?,
            flags: word(offset_of!(vfio::vfio_region_info, flags))?,
            size: long(offset_of!(vfio::vfio_region_info, size))?,
            offset: long(offset_of!(vfio::vfio_region_info, offset))?,
            kind: None,
            sparse: None,
        };
        if info.flags & vfio::VFIO_REGION_INFO_FLAG_CAPS == 0 {
            return Ok(info);
        }
        let first = word(offset_of!(vfio::vfio_region_info, cap_offset))?;
        for cap in capabilities(answer, first)? {
            match u32::from(cap.id) {
                vfio::VFIO_REGION_INFO_CAP_TYPE => {
                    let at = |field| word(cap.offset.saturating_add(field));
                    info.kind = Some((
                        at(offset_of!(vfio::vfio_region_info_cap_type, type_))?,
                        at(offset_of!(vfio::vfio_region_info_cap_type, subtype))?,
                    ));
                }
                vfio::VFIO_REGION_INFO_CAP_SPARSE_MMAP => {
                    info.sparse = Some(sparse_areas(answer, cap.offset)?);
                }
                _ => {}
            }
        }
        Ok(info)
    }
}

fn sparse_areas(answer: &[u8], cap: usize) -> core::result::Result<Vec<Area>, String> {
    const AREAS: usize = size_of::<vfio::vfio_region_info_cap_sparse_mmap>();
    const AREA: usize = size_of::<vfio::vfio_region_sparse_mmap_area>();

    let count = cap
        .checked_add(offset_of!(vfio::vfio_region_info_cap_sparse_mmap, nr_areas))
        .and_then(|offset| u32_at(answer, offset))
        .ok_or("a sparse mmap capability without a count")?;
    let mut areas = Vec::new();
    for i in 0..count as usize {
        let area = i
            .checked_mul(AREA)
            .and_then(|offset| offset.checked_add(AREAS))
            .and_then(|offset| offset.checked_add(cap))
            .and_then(|offset| {
                Some(Area {
                    offset: u64_at(answer, offset)?,
                    size: u64_at(answer, offset.checked_add(size_of::<u64>())?)?,
                })
            })
            .ok_or_else(|| format!("a sparse mmap capability cut off in area {i} of {count}"))?;
        areas.push(area);
    }
    Ok(areas)
}

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
        // The second try has the size the kernel asked for; a third would be the kernel's fault.
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

    /// Returns what the kernel said about the region.
    pub fn info(&self) -> &RegionInfo {
        &self.info
    }

    /// Returns the region's size in bytes.
    pub fn size(&self) -> u64 {
        self.info.size
    }

    /// Returns the device the region is of.
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

    /// Reads two bytes, little endian as PCI has it.
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

    /// Reads into an address where nothing is.
    ///
    /// # Errors
    ///
    /// What the kernel answers; `EFAULT` is right.
    pub fn read_nowhere(&self, offset: u64, len: usize) -> Result<u32> {
        sys::pread_nowhere(&self.device, len, self.info.offset.wrapping_add(offset))
            .what(|| self.what("read to nowhere", offset, len))
    }

    /// Writes from an address where nothing is.
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

#[cfg(test)]
mod tests {
    use super::capabilities;
    use super::Area;
    use super::Capability;
    use super::RegionInfo;

    /// An answer with a type capability at 32 and a sparse mmap one, with one area, at 48.
    fn answer() -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [80u32, 0xf, 9, 32] {
            bytes.extend(word.to_ne_bytes());
        }
        for long in [0x101000u64, 9 << 40] {
            bytes.extend(long.to_ne_bytes());
        }
        let link = |bytes: &mut Vec<u8>, id: u16, next: u32| {
            bytes.extend(id.to_ne_bytes());
            bytes.extend(1u16.to_ne_bytes());
            bytes.extend(next.to_ne_bytes());
        };
        link(&mut bytes, 2, 48);
        bytes.extend(3u32.to_ne_bytes());
        bytes.extend(1u32.to_ne_bytes());
        link(&mut bytes, 1, 0);
        bytes.extend(1u32.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(0x1000u64.to_ne_bytes());
        bytes.extend(0x100000u64.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_migration_region_is_understood() {
        let info = RegionInfo::parse(&answer()).expect("a good answer");
        assert_eq!(info.kind, Some((3, 1)));
        let area = Area {
            offset: 0x1000,
            size: 0x100000,
        };
        assert_eq!(info.sparse, Some(vec![area]));
        assert_eq!((info.index, info.size, info.offset), (9, 0x101000, 9 << 40));
    }

    #[test]
    fn without_the_caps_flag_no_capability_is_looked_for() {
        let mut bytes = answer();
        bytes[4] = 0x7;
        bytes[12..16].copy_from_slice(&0xffff_fff0u32.to_ne_bytes());
        let info = RegionInfo::parse(&bytes).expect("a good answer");
        assert_eq!((info.kind, info.sparse), (None, None));
    }

    #[test]
    fn every_truncation_is_an_error_and_never_a_panic() {
        let bytes = answer();
        for len in 0..bytes.len() {
            assert!(RegionInfo::parse(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn no_value_in_any_word_makes_the_walk_panic_or_hang() {
        let good = answer();
        for offset in (0..good.len()).step_by(4) {
            for value in [
                0,
                1,
                31,
                32,
                48,
                72,
                79,
                80,
                81,
                0x7fff_ffff,
                0xffff_fff8,
                u32::MAX,
            ] {
                let mut bytes = good.clone();
                bytes[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
                // Either is fine; coming back is what counts.
                let _ = RegionInfo::parse(&bytes);
            }
        }
    }

    #[test]
    fn a_chain_that_comes_back_to_itself_is_refused() {
        let mut bytes = answer();
        bytes[52..56].copy_from_slice(&32u32.to_ne_bytes());
        let why = RegionInfo::parse(&bytes).expect_err("a loop");
        assert!(why.contains("comes back to 32"), "{why}");
    }

    #[test]
    fn an_empty_chain_is_empty() {
        assert_eq!(capabilities(&answer(), 0), Ok(Vec::<Capability>::new()));
    }
}
