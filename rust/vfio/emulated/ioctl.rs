// SPDX-License-Identifier: GPL-2.0

//! The ioctls of a device file that the VFIO core leaves to the driver, decoded and checked.
//!
//! Mirrors [`include/uapi/linux/vfio.h`](srctree/include/uapi/linux/vfio.h).

use super::operations::Operations;
use crate::{
    device::Device,
    irq, //
};
use core::mem::{
    offset_of,
    size_of, //
};
use kernel::{
    error::to_result,
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};
use kernel_ext::refusal::{
    Refuse,
    Subject, //
};

const INFO_SIZE: usize = offset_of!(vfio_bindings::vfio_device_info, num_irqs) + size_of::<u32>();
const IRQ_INFO_SIZE: usize = size_of::<vfio_bindings::vfio_irq_info>();
const IRQ_SET_SIZE: usize = size_of::<vfio_bindings::vfio_irq_set>();

/// Copies a structure of `N` words. The first word, `argsz`, is the number of bytes that the user gave.
fn read_words<const N: usize, T: Operations>(
    device: &Device<T>,
    name: &str,
    arg: UserPtr,
) -> Result<[u32; N]> {
    let mut words = [0; N];
    let mut reader = UserSlice::new(arg, N * size_of::<u32>()).reader();
    for word in words.iter_mut() {
        *word = reader.read()?;
    }

    let least = N * size_of::<u32>();
    if (words[0] as usize) < least {
        return Err(device.refused(
            Subject::Ioctl,
            name,
            &format_args!("argsz is {}, at least {least} is needed", words[0]),
            EINVAL,
        ));
    }
    Ok(words)
}

fn write_words(arg: UserPtr, words: &[u32]) -> Result {
    let mut writer = UserSlice::new(arg, size_of_val(words)).writer();

    words.iter().try_for_each(|word| writer.write(word))
}

/// Serves an ioctl.
///
/// # Errors
///
/// `ENOTTY` for an ioctl that emulated devices do not have, else what the callback returns.
pub(crate) fn dispatch<T: Operations>(device: &Device<T>, cmd: u32, arg: UserPtr) -> Result {
    match cmd {
        vfio_bindings::VFIO_DEVICE_GET_INFO => get_info(device, arg),
        vfio_bindings::VFIO_DEVICE_GET_IRQ_INFO => get_irq_info(device, arg),
        vfio_bindings::VFIO_DEVICE_SET_IRQS => set_irqs(device, arg),
        vfio_bindings::VFIO_DEVICE_RESET => T::reset(device),
        _ => Err(device.refused(
            Subject::Ioctl,
            "ioctl",
            &format_args!("{cmd:#x} is not known"),
            ENOTTY,
        )),
    }
}

fn get_info<T: Operations>(device: &Device<T>, arg: UserPtr) -> Result {
    let [argsz, ..] =
        read_words::<{ INFO_SIZE / size_of::<u32>() }, T>(device, "VFIO_DEVICE_GET_INFO", arg)?;
    let info = T::info(device);
    let flags = vfio_bindings::VFIO_DEVICE_FLAGS_PCI | vfio_bindings::VFIO_DEVICE_FLAGS_RESET;

    write_words(arg, &[argsz, flags, info.num_regions, info.num_irqs])
}

fn get_irq_info<T: Operations>(device: &Device<T>, arg: UserPtr) -> Result {
    const NAME: &str = "VFIO_DEVICE_GET_IRQ_INFO";

    let [argsz, _, index, _] =
        read_words::<{ IRQ_INFO_SIZE / size_of::<u32>() }, T>(device, NAME, arg)?;
    let info = T::irq_info(device, index).map_err(|error| {
        device.refused(
            Subject::Ioctl,
            NAME,
            &format_args!("no index {index}"),
            error,
        )
    })?;

    write_words(arg, &[argsz, info.flags, index, info.count])
}

fn set_irqs<T: Operations>(device: &Device<T>, arg: UserPtr) -> Result {
    const NAME: &str = "VFIO_DEVICE_SET_IRQS";

    let words = read_words::<{ IRQ_SET_SIZE / size_of::<u32>() }, T>(device, NAME, arg)?;
    let [argsz, flags, index, start, count] = words;
    let header = vfio_bindings::vfio_irq_set {
        argsz,
        flags,
        index,
        start,
        count,
        ..Default::default()
    };

    parse_irq_set(device, header, arg)
        .and_then(|set| T::set_irqs(device, set))
        .map_err(|error| {
            device.refused(
                Subject::Ioctl,
                NAME,
                &format_args!(
                    "flags {flags:#x}, index {index}, start {start}, count {count}, argsz {argsz}"
                ),
                error,
            )
        })
}

fn parse_irq_set<T: Operations>(
    device: &Device<T>,
    mut header: vfio_bindings::vfio_irq_set,
    arg: UserPtr,
) -> Result<irq::Set> {
    let vfio_bindings::vfio_irq_set {
        flags,
        index,
        start,
        count,
        ..
    } = header;
    let num_irqs = T::irq_info(device, index)?.count;

    let mut data_size = 0;
    // SAFETY: Both pointers are to local variables; the header is only read.
    to_result(unsafe {
        vfio_bindings::vfio_set_irqs_validate_and_prepare(
            &mut header,
            i32::try_from(num_irqs).map_err(|_| EINVAL)?,
            i32::try_from(irq::Index::COUNT).map_err(|_| EINVAL)?,
            &mut data_size,
        )
    })?;

    let action = match flags & vfio_bindings::VFIO_IRQ_SET_ACTION_TYPE_MASK {
        vfio_bindings::VFIO_IRQ_SET_ACTION_MASK => irq::Action::Mask,
        vfio_bindings::VFIO_IRQ_SET_ACTION_UNMASK => irq::Action::Unmask,
        vfio_bindings::VFIO_IRQ_SET_ACTION_TRIGGER => irq::Action::Trigger,
        _ => return Err(EINVAL),
    };

    // The validation has bounded `data_size` by the number of interrupts that the index has.
    let mut reader = UserSlice::new(arg.wrapping_byte_add(IRQ_SET_SIZE), data_size).reader();
    let data = match flags & vfio_bindings::VFIO_IRQ_SET_DATA_TYPE_MASK {
        vfio_bindings::VFIO_IRQ_SET_DATA_NONE => irq::Data::None,
        vfio_bindings::VFIO_IRQ_SET_DATA_BOOL => {
            let mut wanted = KVec::with_capacity(count as usize, GFP_KERNEL_ACCOUNT)?;
            for _ in 0..count {
                wanted.push(reader.read::<u8>()? != 0, GFP_KERNEL_ACCOUNT)?;
            }
            irq::Data::Bool(wanted)
        }
        vfio_bindings::VFIO_IRQ_SET_DATA_EVENTFD => {
            let mut fds = KVec::with_capacity(count as usize, GFP_KERNEL_ACCOUNT)?;
            for _ in 0..count {
                fds.push(reader.read::<i32>()?, GFP_KERNEL_ACCOUNT)?;
            }
            irq::Data::EventFd(fds)
        }
        _ => return Err(EINVAL),
    };

    Ok(irq::Set {
        index,
        start,
        count,
        action,
        data,
    })
}
