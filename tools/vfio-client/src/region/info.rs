// SPDX-License-Identifier: GPL-2.0

//! The answer to `VFIO_DEVICE_GET_REGION_INFO`, `struct vfio_region_info` and its capabilities.

use core::mem::offset_of;

use vfio_bindings::bindings::vfio;

use crate::capability::capabilities;
use crate::capability::u32_at;
use crate::capability::u64_at;

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

#[cfg(test)]
mod tests {
    use super::Area;
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
}
