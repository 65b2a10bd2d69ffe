// SPDX-License-Identifier: GPL-2.0

//! Regions of a device file: their place in the file, and their description.
//!
//! Mirrors `struct vfio_region_info` and its capabilities in
//! [`include/uapi/linux/vfio.h`](srctree/include/uapi/linux/vfio.h).

use core::mem::size_of;
use kernel::{
    error::to_result,
    prelude::*, //
};

/// A file offset has the region's index above this bit and the offset in the region below, as
/// for vfio-pci (`VFIO_PCI_OFFSET_SHIFT`).
const INDEX_SHIFT: u32 = 40;

/// Regions of a PCI device that have a fixed index, `VFIO_PCI_*_REGION_INDEX`.
pub mod pci {
    /// BAR 0; BARs 1 to 5 follow.
    pub const BAR0: u32 = vfio_bindings::VFIO_PCI_BAR0_REGION_INDEX;
    /// BAR 5.
    pub const BAR5: u32 = vfio_bindings::VFIO_PCI_BAR5_REGION_INDEX;
    /// Configuration space.
    pub const CONFIG: u32 = vfio_bindings::VFIO_PCI_CONFIG_REGION_INDEX;
    /// Number of regions with a fixed index. A device's own regions follow.
    pub const COUNT: u32 = vfio_bindings::VFIO_PCI_NUM_REGIONS;
}

/// Type of the region with a `struct vfio_device_migration_info` at its start.
///
/// The header calls the type deprecated since protocol v2; the number stays reserved for it.
pub const TYPE_MIGRATION: u32 = vfio_bindings::VFIO_REGION_TYPE_MIGRATION_DEPRECATED;
/// The only subtype of [`TYPE_MIGRATION`].
pub const SUBTYPE_MIGRATION: u32 = vfio_bindings::VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED;

/// A file offset, as the index of a region and an offset in the region.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Position {
    /// Index of the region.
    pub index: u32,
    /// Byte offset in the region.
    pub offset: u64,
}

impl Position {
    /// Splits a file offset.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the offset is negative.
    pub fn from_file_offset(offset: i64) -> Result<Self> {
        let offset = u64::try_from(offset).map_err(|_| EINVAL)?;

        Ok(Self {
            // A non-negative i64 shifted by 40 has 23 bits.
            index: (offset >> INDEX_SHIFT) as u32,
            offset: offset & ((1 << INDEX_SHIFT) - 1),
        })
    }

    /// The file offset at which region `index` begins.
    pub const fn region_start(index: u32) -> u64 {
        (index as u64) << INDEX_SHIFT
    }
}

/// The accesses that a region allows, `VFIO_REGION_INFO_FLAG_*`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// The region does not exist; its size is 0.
    None,
    /// `read()` and `write()`.
    ReadWrite,
    /// `read()`, `write()`, and `mmap()` of exactly `[offset, offset + size)` of the region.
    ///
    /// A sparse mmap capability describes the area. Without the capability a user would map the whole
    /// region.
    ReadWriteMmap {
        /// Offset of the area in the region in bytes, a multiple of the page size.
        offset: u64,
        /// Size of the area in bytes, a multiple of the page size.
        size: u64,
    },
}

/// Type and subtype of a region without a fixed index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Type {
    /// `VFIO_REGION_TYPE_*`
    pub type_: u32,
    /// `VFIO_REGION_SUBTYPE_*`
    pub subtype: u32,
}

/// The description of a region, the answer to `VFIO_DEVICE_GET_REGION_INFO`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Info {
    /// Size in bytes.
    pub size: u64,
    /// The accesses that the region allows.
    pub access: Access,
    /// The type, for a region without a fixed index.
    pub type_: Option<Type>,
}

impl Info {
    /// A region that the device does not have.
    pub const ABSENT: Self = Self {
        size: 0,
        access: Access::None,
        type_: None,
    };
}

/// `struct vfio_region_info_cap_sparse_mmap` with its one area.
#[repr(C)]
struct SparseMmap {
    cap: vfio_bindings::vfio_region_info_cap_sparse_mmap,
    area: vfio_bindings::vfio_region_sparse_mmap_area,
}

/// The capability chain that the VFIO core puts behind the answer.
///
/// # Invariants
///
/// The pointer is valid for the lifetime and used by nobody else.
pub struct Capabilities<'a>(&'a mut vfio_bindings::vfio_info_cap);

impl<'a> Capabilities<'a> {
    /// The capabilities of an answer that the VFIO core is making.
    pub fn new(caps: &'a mut vfio_bindings::vfio_info_cap) -> Self {
        Self(caps)
    }

    /// # Safety
    ///
    /// `cap` must begin with a `struct vfio_info_cap_header` and be `size` bytes of plain data.
    unsafe fn add(&mut self, cap: *mut vfio_bindings::vfio_info_cap_header, size: usize) -> Result {
        // SAFETY: `self.0` is exclusively ours; `cap` is as the function wants it.
        to_result(unsafe { vfio_bindings::vfio_info_add_capability(self.0, cap, size) })
    }

    fn add_type(&mut self, type_: Type) -> Result {
        let mut cap = vfio_bindings::vfio_region_info_cap_type {
            header: vfio_bindings::vfio_info_cap_header {
                id: vfio_bindings::VFIO_REGION_INFO_CAP_TYPE as u16,
                version: 1,
                next: 0,
            },
            type_: type_.type_,
            subtype: type_.subtype,
        };

        // SAFETY: `cap` begins with its header and is plain data.
        unsafe {
            self.add(
                (&raw mut cap).cast(),
                size_of::<vfio_bindings::vfio_region_info_cap_type>(),
            )
        }
    }

    fn add_sparse_mmap(&mut self, offset: u64, size: u64) -> Result {
        let mut cap = SparseMmap {
            cap: vfio_bindings::vfio_region_info_cap_sparse_mmap {
                header: vfio_bindings::vfio_info_cap_header {
                    id: vfio_bindings::VFIO_REGION_INFO_CAP_SPARSE_MMAP as u16,
                    version: 1,
                    next: 0,
                },
                nr_areas: 1,
                ..Default::default()
            },
            area: vfio_bindings::vfio_region_sparse_mmap_area { offset, size },
        };

        // SAFETY: `cap` begins with its header and is plain data without padding.
        unsafe { self.add((&raw mut cap).cast(), size_of::<SparseMmap>()) }
    }

    /// Adds the sparse mmap capability of a region of which `areas`, with offset and size in bytes, can be
    /// mapped.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn add_sparse_areas(&mut self, areas: impl Iterator<Item = (u64, u64)> + Clone) -> Result {
        const WORDS: usize =
            size_of::<vfio_bindings::vfio_region_info_cap_sparse_mmap>() / size_of::<u64>();

        let count = areas.clone().count();
        let mut words = KVec::with_capacity(WORDS + 2 * count, GFP_KERNEL_ACCOUNT)?;
        let header = vfio_bindings::VFIO_REGION_INFO_CAP_SPARSE_MMAP;
        words.push(u64::from(header) | 1 << 16, GFP_KERNEL_ACCOUNT)?;
        words.push(count as u64, GFP_KERNEL_ACCOUNT)?;
        for (offset, size) in areas {
            words.push(offset, GFP_KERNEL_ACCOUNT)?;
            words.push(size, GFP_KERNEL_ACCOUNT)?;
        }

        // SAFETY: The words are the header with id, version and no next capability, the number of areas, and
        // the areas.
        unsafe { self.add(words.as_mut_ptr().cast(), size_of_val(words.as_slice())) }
    }
}

/// A `VFIO_DEVICE_GET_REGION_INFO` that is being served.
pub struct RegionInfo<'a> {
    info: &'a mut vfio_bindings::vfio_region_info,
    caps: Capabilities<'a>,
}

impl<'a> RegionInfo<'a> {
    /// A query that the VFIO core passes on.
    pub fn new(info: &'a mut vfio_bindings::vfio_region_info, caps: Capabilities<'a>) -> Self {
        Self { info, caps }
    }

    /// Index of the region that the user asks for.
    pub fn index(&self) -> u32 {
        self.info.index
    }

    /// Fills in the answer.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn answer(self, info: Info) -> Result {
        const READ_WRITE: u32 =
            vfio_bindings::VFIO_REGION_INFO_FLAG_READ | vfio_bindings::VFIO_REGION_INFO_FLAG_WRITE;

        let Self {
            info: raw,
            mut caps,
        } = self;
        raw.size = info.size;
        raw.offset = Position::region_start(raw.index);
        raw.flags = match info.access {
            Access::None => 0,
            Access::ReadWrite => READ_WRITE,
            Access::ReadWriteMmap { offset, size } => {
                caps.add_sparse_mmap(offset, size)?;
                READ_WRITE | vfio_bindings::VFIO_REGION_INFO_FLAG_MMAP
            }
        };
        if let Some(type_) = info.type_ {
            caps.add_type(type_)?;
        }

        Ok(())
    }
}
