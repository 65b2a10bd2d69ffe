// SPDX-License-Identifier: GPL-2.0

//! The C callbacks that pass on to the core what is not the driver's.

use crate::{
    function::Function,
    operations::Operations,
    reset::ResetFlag,
    traps::Overlap, //
};
use core::{
    marker::PhantomData,
    ops::Range, //
};
use kernel::{
    bindings,
    error::{
        from_result,
        to_result, //
    },
    ffi::{
        c_char,
        c_int,
        c_long,
        c_uint,
        c_ulong, //
    },
    mm::virt::VmaNew,
    page::PAGE_SIZE,
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};
use vfio::{
    region::{
        pci,
        Capabilities,
        Position,
        RegionInfo, //
    },
    Device, //
};

/// Index of the device's own region.
const OWN: u32 = pci::COUNT;

/// The command register.
const COMMAND: Range<u64> = 4..6;

/// First byte of extended configuration space.
const EXTENDED: u64 = 0x100;

/// Bytes of a serial number.
const SERIAL_LEN: u64 = 8;

/// The C callbacks of variant drivers with the private data `T`.
pub(crate) struct Trampolines<T: Operations>(PhantomData<T>);

/// Where an access goes.
enum Target {
    /// To the core.
    Core,
    Own,
    Trapped,
}

impl<T: Operations> Trampolines<T> {
    /// The own region, whose accesses do not reach the core.
    pub(crate) const REGION_OPS: &'static vfio_bindings::vfio_pci_regops =
        &vfio_bindings::vfio_pci_regops {
            rw: Some(Self::region_rw_callback),
            release: Some(Self::region_release_callback),
            mmap: None,
            add_capability: None,
        };

    /// # Safety
    ///
    /// Touches nothing.
    unsafe extern "C" fn region_rw_callback(
        _core: *mut vfio_bindings::vfio_pci_core_device,
        _buf: *mut c_char,
        _count: usize,
        _ppos: *mut bindings::loff_t,
        _is_write: bool,
    ) -> isize {
        EINVAL.to_errno() as isize
    }

    /// # Safety
    ///
    /// Called by `vfio_pci_core_disable()` with a device of type `T`, before it unmaps the BARs.
    unsafe extern "C" fn region_release_callback(
        core: *mut vfio_bindings::vfio_pci_core_device,
        _region: *mut vfio_bindings::vfio_pci_region,
    ) {
        // SAFETY: By the function's requirement.
        let device = unsafe { Device::<T>::from_raw(core.cast()) };

        device.base().uses.begin_last();
        // SAFETY: The function is enabled until this returns, and the use has begun.
        let function = unsafe { Function::new(device) };
        T::disabling(device, &function);
    }

    fn target(device: &Device<T>, position: Position, count: usize) -> Result<Target> {
        let bar = position.index;
        if bar == OWN {
            return Ok(Target::Own);
        }
        if !(pci::BAR0..=pci::BAR5).contains(&bar) {
            return Ok(Target::Core);
        }

        match T::traps(device).overlap(bar, position.offset, count as u64) {
            // The core answers it without an access.
            _ if count == 0 => Ok(Target::Core),
            Overlap::None => Ok(Target::Core),
            Overlap::Within
                if matches!(count, 1 | 2 | 4 | 8) && position.offset % count as u64 == 0 =>
            {
                // SAFETY: The device is open.
                if unsafe { vfio_bindings::ferry_pci_is_decoded(device.as_raw(), bar) } {
                    Ok(Target::Trapped)
                } else {
                    // As the core has it for registers that are not trapped.
                    Err(EIO)
                }
            }
            _ => Err(EINVAL),
        }
    }

    /// # Safety
    ///
    /// Called by the VFIO core with an open device of type `T`, and with arguments that are valid during the
    /// call.
    pub(crate) unsafe extern "C" fn read_callback(
        vdev: *mut vfio_bindings::vfio_device,
        buf: *mut c_char,
        count: usize,
        ppos: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: By the function's requirement.
        let (device, at) = unsafe { (Device::<T>::from_raw(vdev), &mut *ppos) };
        let into = UserPtr::from_ptr(buf.cast());

        from_result(|| {
            let position = Position::from_file_offset(*at)?;
            match Self::target(device, position, count)? {
                Target::Own => {
                    T::read_own(device, into, count, position.offset)?;
                    Self::advance(at, count)
                }
                Target::Trapped => {
                    let mut bytes = [0; 8];
                    let bytes = bytes.get_mut(..count).ok_or(EINVAL)?;
                    // A read has side effects: first find out whether the user's buffer takes the value.
                    UserSlice::new(into, count).writer().write_slice(bytes)?;
                    T::read_trapped(device, position.index, position.offset, bytes)?;
                    UserSlice::new(into, count).writer().write_slice(bytes)?;
                    Self::advance(at, count)
                }
                Target::Core => {
                    // SAFETY: By the function's requirement.
                    let read = unsafe { vfio_bindings::vfio_pci_core_read(vdev, buf, count, at) };
                    if position.index == pci::CONFIG && read > 0 {
                        Self::hide_serial_number(device, into, position.offset, read as u64)?;
                    }
                    Ok(read)
                }
            }
        })
    }

    /// Overwrites what a read at `offset` of configuration space has of the card's serial number. A VMM compares
    /// configuration space, and each card has its own.
    fn hide_serial_number(device: &Device<T>, into: UserPtr, offset: u64, len: u64) -> Result {
        // It is an extended capability.
        if offset.saturating_add(len) <= EXTENDED {
            return Ok(());
        }
        // SAFETY: The device is open, and its function outlives it.
        let serial = unsafe { vfio_bindings::ferry_pci_serial_number((*device.as_raw()).pdev) };
        let (serial, end) = (
            u64::from(serial),
            u64::from(serial).saturating_add(SERIAL_LEN),
        );
        let from = offset.max(serial);
        let to = offset.saturating_add(len).min(end);
        if serial == 0 || from >= to {
            return Ok(());
        }

        // At most 8 bytes, of an access that the user's buffer has taken.
        let hidden = (to - from) as usize;
        let zeros = [0; SERIAL_LEN as usize];
        UserSlice::new(into.wrapping_byte_add((from - offset) as usize), hidden)
            .writer()
            .write_slice(zeros.get(..hidden).ok_or(EINVAL)?)
    }

    /// # Safety
    ///
    /// As for [`Self::read_callback`].
    pub(crate) unsafe extern "C" fn write_callback(
        vdev: *mut vfio_bindings::vfio_device,
        buf: *const c_char,
        count: usize,
        ppos: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: By the function's requirement.
        let (device, at) = unsafe { (Device::<T>::from_raw(vdev), &mut *ppos) };
        let from = UserPtr::from_ptr(buf.cast_mut().cast());

        from_result(|| {
            let position = Position::from_file_offset(*at)?;
            match Self::target(device, position, count)? {
                Target::Own => {
                    T::write_own(device, from, count, position.offset)?;
                    Self::advance(at, count)
                }
                Target::Trapped => {
                    let mut bytes = [0; 8];
                    let bytes = bytes.get_mut(..count).ok_or(EINVAL)?;
                    UserSlice::new(from, count).reader().read_slice(bytes)?;
                    T::write_trapped(device, position.index, position.offset, bytes)?;
                    Self::advance(at, count)
                }
                Target::Core => {
                    // SAFETY: By the function's requirement.
                    let wrote = unsafe { vfio_bindings::vfio_pci_core_write(vdev, buf, count, at) };
                    if position.index == pci::CONFIG {
                        Self::look_for_reset(device);
                        let end = position.offset.saturating_add(count as u64);
                        if position.offset < COMMAND.end && end > COMMAND.start {
                            T::command_written(device);
                        }
                    }
                    Ok(wrote)
                }
            }
        })
    }

    fn advance(at: &mut bindings::loff_t, count: usize) -> Result<isize> {
        // A region lies below 2^40 in a 63-bit file, so that this cannot overflow.
        *at = at.saturating_add_unsigned(count as u64);
        isize::try_from(count).map_err(|_| EINVAL)
    }

    fn look_for_reset(device: &Device<T>) {
        let data: &T = device;
        let flag: &ResetFlag = data.as_ref();
        if flag.is_set() {
            T::was_reset(device);
        }
    }

    /// # Safety
    ///
    /// As for [`Self::read_callback`].
    pub(crate) unsafe extern "C" fn ioctl_callback(
        vdev: *mut vfio_bindings::vfio_device,
        cmd: c_uint,
        arg: c_ulong,
    ) -> c_long {
        // The core would write to registers on its own, trapped or not.
        if cmd == vfio_bindings::VFIO_DEVICE_IOEVENTFD {
            return ENOTTY.to_errno() as c_long;
        }
        // SAFETY: By the function's requirement.
        let (device, result) = unsafe {
            (
                Device::<T>::from_raw(vdev),
                vfio_bindings::vfio_pci_core_ioctl(vdev, cmd, arg),
            )
        };
        if cmd == vfio_bindings::VFIO_DEVICE_RESET
            || cmd == vfio_bindings::VFIO_DEVICE_PCI_HOT_RESET
        {
            Self::look_for_reset(device);
        }
        result
    }

    /// # Safety
    ///
    /// As for [`Self::read_callback`].
    pub(crate) unsafe extern "C" fn get_region_info_caps_callback(
        vdev: *mut vfio_bindings::vfio_device,
        info: *mut vfio_bindings::vfio_region_info,
        caps: *mut vfio_bindings::vfio_info_cap,
    ) -> c_int {
        // SAFETY: By the function's requirement.
        let device = unsafe { Device::<T>::from_raw(vdev) };
        // SAFETY: Both are local variables of the VFIO core, ours during the call.
        let (info, caps) = unsafe { (&mut *info, &mut *caps) };

        from_result(|| {
            if info.index == OWN {
                let own = T::own_region(device)?;
                RegionInfo::new(info, Capabilities::new(caps)).answer(own)?;
                return Ok(0);
            }

            // SAFETY: By the function's requirement.
            to_result(unsafe { vfio_bindings::vfio_pci_ioctl_get_region_info(vdev, info, caps) })?;
            let traps = T::traps(device);
            if info.flags & vfio_bindings::VFIO_REGION_INFO_FLAG_MMAP != 0
                && info.index <= pci::BAR5
                && traps.of(info.index).next().is_some()
            {
                Capabilities::new(caps).add_sparse_areas(traps.gaps(info.index, info.size))?;
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// As for [`Self::read_callback`]; the VMA is undergoing its initial setup.
    pub(crate) unsafe extern "C" fn mmap_callback(
        vdev: *mut vfio_bindings::vfio_device,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: By the function's requirement.
        let device = unsafe { Device::<T>::from_raw(vdev) };
        // SAFETY: As above.
        let new = unsafe { VmaNew::from_raw(vma) };

        from_result(|| {
            // SAFETY: The VMA is valid and nobody else changes it.
            let page_offset = unsafe { (*vma).vm_pgoff };
            let offset = page_offset
                .checked_mul(PAGE_SIZE)
                .and_then(|offset| i64::try_from(offset).ok())
                .ok_or(EINVAL)?;
            let position = Position::from_file_offset(offset)?;
            if position.index == OWN {
                return T::map_own(device, new, position.offset).map(|()| 0);
            }

            let len = new.end().checked_sub(new.start()).ok_or(EINVAL)?;
            let traps = T::traps(device);
            if traps.overlap(position.index, position.offset, len as u64) != Overlap::None {
                return Err(EINVAL);
            }
            // SAFETY: By the function's requirement.
            to_result(unsafe { vfio_bindings::vfio_pci_core_mmap(vdev, vma) }).map(|()| 0)
        })
    }
}

/// The error handlers of a driver whose devices are of type `T`.
pub(crate) struct ErrorHandlers<T: Operations>(PhantomData<T>);

impl<T: Operations> ErrorHandlers<T> {
    /// The table that the PCI core takes.
    pub(crate) const TABLE: &'static bindings::pci_error_handlers = &bindings::pci_error_handlers {
        error_detected: Some(Self::error_detected_callback),
        slot_reset: Some(Self::slot_reset_callback),
        resume: Some(Self::resume_callback),
        reset_done: Some(Self::reset_done_callback),
        ..pin_init::zeroed()
    };

    /// Calls `f` with the flag of the device that `pdev` is bound as, if it is registered.
    ///
    /// # Safety
    ///
    /// `pdev` must be bound to a driver with this table, and its lock be held.
    unsafe fn with_flag(pdev: *mut bindings::pci_dev, f: impl FnOnce(&ResetFlag)) {
        // SAFETY: By the function's requirement the driver data is null or a registered device.
        let vdev = unsafe { bindings::dev_get_drvdata(&raw mut (*pdev).dev) };

        if !vdev.is_null() {
            // SAFETY: As above.
            let data: &T = unsafe { Device::<T>::from_raw(vdev.cast()) };
            f(data.as_ref());
        }
    }

    /// # Safety
    ///
    /// Called by the PCI core with a function that is bound to a driver with this table, and its lock held.
    unsafe extern "C" fn error_detected_callback(
        pdev: *mut bindings::pci_dev,
        state: bindings::pci_channel_state_t,
    ) -> bindings::pci_ers_result_t {
        let note = if state == bindings::pci_channel_io_normal {
            ResetFlag::expect_none
        } else {
            ResetFlag::expect_link_reset
        };
        // SAFETY: By the function's requirement.
        unsafe { Self::with_flag(pdev, note) };
        // SAFETY: By the function's requirement.
        unsafe { vfio_bindings::vfio_pci_core_aer_err_detected(pdev, state) }
    }

    /// Another function's driver has asked for a reset of the link that both are behind, without the link being frozen.
    ///
    /// # Safety
    ///
    /// As for [`Self::error_detected_callback`].
    unsafe extern "C" fn slot_reset_callback(
        pdev: *mut bindings::pci_dev,
    ) -> bindings::pci_ers_result_t {
        // SAFETY: By the function's requirement.
        unsafe { Self::with_flag(pdev, ResetFlag::expect_link_reset) };
        bindings::pci_ers_result_PCI_ERS_RESULT_RECOVERED
    }

    /// # Safety
    ///
    /// As for [`Self::error_detected_callback`].
    unsafe extern "C" fn resume_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: By the function's requirement.
        unsafe { Self::with_flag(pdev, ResetFlag::link_recovered) };
    }

    /// # Safety
    ///
    /// Called by the PCI core with a function that is bound to a driver with this table, and its lock held.
    unsafe extern "C" fn reset_done_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: By the function's requirement.
        unsafe { Self::with_flag(pdev, ResetFlag::set) };
    }
}
