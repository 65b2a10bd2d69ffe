// SPDX-License-Identifier: GPL-2.0

//! The function itself: its registers, its command register, and the memory that it reaches.

use crate::{
    config_layout,
    operations::Operations, //
};
use core::cell::Cell;
use kernel::{
    error::to_result,
    ffi::c_int,
    page::PAGE_SIZE,
    prelude::*, //
};
use vfio::Device;

/// The function writes to the page, `IOMMU_WRITE`.
const WRITE: c_int = 1 << 1;

/// What a function is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity {
    /// Device id.
    pub device: u16,
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem id.
    pub subsystem: u16,
    /// Revision id.
    pub revision: u8,
    /// Sizes of the BARs in bytes, 0 for a BAR that the function lacks.
    pub bars: [u64; 6],
    /// The hash of the layout of configuration space, see [`config_layout`](crate::config_layout).
    pub config_layout: u32,
}

impl Identity {
    /// # Safety
    ///
    /// `pdev` must be valid.
    pub(crate) unsafe fn of(pdev: *mut kernel::bindings::pci_dev) -> Self {
        // SAFETY: By the function's requirement; what is read of the structure never changes.
        unsafe {
            Self {
                device: (*pdev).device,
                subsystem_vendor: (*pdev).subsystem_vendor,
                subsystem: (*pdev).subsystem_device,
                revision: (*pdev).revision,
                bars: core::array::from_fn(|bar| {
                    vfio_bindings::ferry_pci_bar_len(pdev, bar as u32)
                }),
                config_layout: config_layout::hash(|offset| {
                    vfio_bindings::ferry_pci_read_config(pdev, offset)
                }),
            }
        }
    }
}

/// A function that a user has open.
///
/// # Invariants
///
/// The function is enabled: `vfio_pci_core_enable()` has succeeded, and `vfio_pci_core_disable()` waits for the end of the use
/// that the value is, or is about to return from the callback that has the value.
pub struct Function<'a, T: Operations>(&'a Device<T>);

impl<'a, T: Operations> Function<'a, T> {
    /// # Safety
    ///
    /// The function must be enabled, in the sense of the type invariants, and a use of it have begun, which the value ends.
    pub(crate) unsafe fn new(device: &'a Device<T>) -> Self {
        // INVARIANT: By the function's requirement.
        Self(device)
    }

    /// Has the function in D0 with memory decoding enabled for as long as the value lives, unless the user puts it to
    /// sleep meanwhile. May sleep.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the user has put it to sleep, or why it cannot be resumed.
    pub fn awaken(&self) -> Result<Awake<'_, T>> {
        // SAFETY: By the type invariants.
        let enabled = unsafe { vfio_bindings::ferry_pci_registers_begin(self.0.as_raw()) };
        to_result(enabled)?;

        // INVARIANT: `begin()` has succeeded.
        Ok(Awake {
            device: self.0,
            enabled: enabled > 0,
            lost: Cell::new(false),
        })
    }

    /// Whether the user's command register has the bus master bit. Reads configuration space; false if the function
    /// does not answer.
    pub fn is_bus_master(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { vfio_bindings::ferry_pci_is_bus_master(self.0.as_raw()) }
    }

    /// Reads memory as the function's DMA would, through the container of the user. May sleep and fault.
    ///
    /// # Errors
    ///
    /// `EFAULT`, or `EINVAL` if nothing is mapped there.
    pub fn read_memory(&self, iova: u64, into: &mut [u8]) -> Result {
        // SAFETY: The VFIO device is open, and `into` is valid for writes.
        to_result(unsafe {
            vfio_bindings::vfio_dma_rw(
                self.0.as_vfio_device(),
                iova,
                into.as_mut_ptr().cast(),
                into.len(),
                false,
            )
        })
    }
}

impl<T: Operations> Function<'_, T> {
    /// Whether the function reaches memory through a container of its IOMMU group.
    pub fn has_container(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { vfio_bindings::ferry_pci_has_container(self.0.as_raw()) }
    }

    /// Whether the function reaches memory through a container, and has its IOMMU group for itself. Then the
    /// pages that [`Self::pin_page`] pins are all that the container reports as dirty by DMA of the group.
    pub fn has_own_container(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { vfio_bindings::ferry_pci_has_own_container(self.0.as_raw()) }
    }

    /// Pins the page at the bus address `page * PAGE_SIZE`. The container reports the page as dirty until it is
    /// unpinned as often as it was pinned, and from the first page on it reports no other page of the group. May
    /// sleep.
    ///
    /// The driver has to implement [`dma_unmap`](vfio::Operations::dma_unmap), which unpins what the user unmaps.
    ///
    /// # Errors
    ///
    /// `EINVAL` if no memory is mapped there, `EPERM` if the function cannot write to it; others if the page cannot
    /// be pinned.
    pub fn pin_page(&self, page: u64) -> Result {
        let mut pinned = core::ptr::null_mut();
        let iova = page.checked_mul(PAGE_SIZE as u64).ok_or(EINVAL)?;

        // SAFETY: The VFIO device is open, and `pinned` has room for one page.
        to_result(unsafe {
            vfio_bindings::vfio_pin_pages(self.0.as_vfio_device(), iova, 1, WRITE, &raw mut pinned)
        })
    }

    /// Unpins a page that [`Self::pin_page`] has pinned. May sleep.
    pub fn unpin_page(&self, page: u64) {
        let iova = page.wrapping_mul(PAGE_SIZE as u64);

        // SAFETY: The VFIO device is open. The container ignores a page that is not pinned.
        unsafe { vfio_bindings::vfio_unpin_pages(self.0.as_vfio_device(), iova, 1) };
    }
}

impl<T: Operations> Drop for Function<'_, T> {
    fn drop(&mut self) {
        self.0.base().uses.end();
    }
}

/// A function in D0 that decodes memory.
///
/// # Invariants
///
/// `ferry_pci_registers_begin()` has succeeded.
pub struct Awake<'a, T: Operations> {
    device: &'a Device<T>,
    enabled: bool,
    /// An access has not reached the function.
    lost: Cell<bool>,
}

impl<T: Operations> Awake<'_, T> {
    /// Reads the register at `offset` of the memory BAR `bar`; all ones if the function does not answer.
    pub fn read32(&self, bar: u32, offset: u32) -> u32 {
        let mut value = u32::MAX;

        // SAFETY: By the type invariants; the function checks its arguments, and `value` is valid for writes.
        let done = unsafe {
            vfio_bindings::ferry_pci_read32(
                self.device.as_raw(),
                bar,
                offset,
                &raw mut value,
                self.enabled,
            )
        };
        if !done {
            self.lost.set(true);
        }
        value
    }

    /// Writes the register at `offset` of the memory BAR `bar`.
    pub fn write32(&self, bar: u32, offset: u32, value: u32) {
        // SAFETY: As above.
        let done = unsafe {
            vfio_bindings::ferry_pci_write32(self.device.as_raw(), bar, offset, value, self.enabled)
        };
        if !done {
            self.lost.set(true);
        }
    }

    /// Whether an access has not reached the function, as the user had disabled memory decoding or put the function to sleep
    /// since [`Function::awaken`].
    pub fn has_lost(&self) -> bool {
        self.lost.get()
    }
}

impl<T: Operations> Drop for Awake<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, and once.
        unsafe {
            vfio_bindings::ferry_pci_registers_end(self.device.as_raw(), self.enabled);
        };
    }
}
