// SPDX-License-Identifier: GPL-2.0

//! ioctls: their answers, and that malformed ones change nothing.

use core::mem::offset_of;

use vfio_bindings::bindings::vfio;
use vfio_client::capability::u32_at;
use vfio_client::sys;
use vfio_client::sys::Request;
use vfio_client::AddressSpace as _;
use vfio_client::Device;
use vfio_client::Errno;

use crate::case::cases;
use crate::case::Case;
use crate::check::bare;
use crate::check::holds;
use crate::check::same;
use crate::check::Outcome;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::device::TestDevice;

const NEEDS: &[Requirement] = &[Requirement::V1];

pub const CASES: &[Case] = cases![
    NEEDS;
    ioctl_device_info,
    ioctl_info_with_a_short_argsz_is_refused,
    ioctl_info_with_a_long_argsz_is_answered,
    ioctl_info_of_an_index_that_is_not_there_is_refused,
    ioctl_with_a_bad_address_is_refused,
    ioctl_into_read_only_memory_is_refused,
    ioctl_unknown_is_refused [Driver],
    ioctl_features_that_are_not_there_are_refused,
    ioctl_malformed_features_are_refused,
    ioctl_the_container_tracks_dirty_pages,
];

const INFOS: [(Request, usize); 3] = [
    (
        Request::DEVICE_GET_INFO,
        offset_of!(vfio::vfio_device_info, cap_offset),
    ),
    (
        Request::DEVICE_GET_REGION_INFO,
        size_of::<vfio::vfio_region_info>(),
    ),
    (
        Request::DEVICE_GET_IRQ_INFO,
        size_of::<vfio::vfio_irq_info>(),
    ),
];

/// Builds the argument of an info ioctl: `argsz`, no flags, an index, zeros.
fn info(argsz: u32, index: u32) -> Vec<u8> {
    let mut argument = vec![0; 128];
    argument[..4].copy_from_slice(&argsz.to_ne_bytes());
    argument[8..12].copy_from_slice(&index.to_ne_bytes());
    argument
}

#[track_caller]
fn ask(device: &Device, request: Request, argsz: u32, index: u32) -> Result<Vec<u8>, Errno> {
    let mut argument = info(argsz, index);
    device.ioctl(request, &mut argument).map(|_| argument)
}

fn ioctl_device_info(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let info = device.vfio().info()?;
    same(
        "flags",
        info.flags & (vfio::VFIO_DEVICE_FLAGS_RESET | vfio::VFIO_DEVICE_FLAGS_PCI),
        vfio::VFIO_DEVICE_FLAGS_RESET | vfio::VFIO_DEVICE_FLAGS_PCI,
    )?;
    holds(
        info.regions > vfio::VFIO_PCI_NUM_REGIONS,
        format_args!(
            "expected more regions than the {} standard ones, seen {}",
            vfio::VFIO_PCI_NUM_REGIONS,
            info.regions
        ),
    )?;
    holds(
        info.irqs > vfio::VFIO_PCI_MSI_IRQ_INDEX,
        format_args!("expected INTx and MSI, seen {} interrupts", info.irqs),
    )
}

fn ioctl_info_with_a_short_argsz_is_refused(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    for (request, least) in INFOS {
        for argsz in [0, 1, 4, 8, least as u32 - 1] {
            bare(
                format_args!("{request:?} with argsz {argsz}"),
                ask(device.vfio(), request, argsz, 0),
                Errno::INVAL,
            )?;
        }
    }
    Ok(())
}

fn ioctl_info_with_a_long_argsz_is_answered(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    for (request, _) in INFOS {
        for argsz in [128, 4096, u32::MAX] {
            let answer = ask(device.vfio(), request, argsz, 0);
            holds(
                answer.is_ok(),
                format_args!("{request:?} with argsz {argsz}: expected success, seen {answer:?}"),
            )?;
        }
    }
    Ok(())
}

fn ioctl_info_of_an_index_that_is_not_there_is_refused(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let has = device.vfio().info()?;
    for (request, count) in [
        (Request::DEVICE_GET_REGION_INFO, has.regions),
        (Request::DEVICE_GET_IRQ_INFO, has.irqs),
    ] {
        for index in [count, count + 1, 0x100, 0x8000_0000, u32::MAX] {
            bare(
                format_args!("{request:?} of {index}"),
                ask(device.vfio(), request, 128, index),
                Errno::INVAL,
            )?;
        }
        for index in 0..count {
            let answer = ask(device.vfio(), request, 128, index);
            let is_vga = request == Request::DEVICE_GET_REGION_INFO
                && index == vfio::VFIO_PCI_VGA_REGION_INDEX;
            if is_vga && !target.kind.is_emulated() {
                // vfio-pci refuses it for a function that is no VGA controller.
                bare("region info of VGA", answer, Errno::INVAL)?;
                continue;
            }
            holds(
                answer.is_ok(),
                format_args!("{request:?} of {index}: expected success, seen {answer:?}"),
            )?;
        }
    }
    Ok(())
}

fn ioctl_with_a_bad_address_is_refused(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    for request in [
        Request::DEVICE_GET_INFO,
        Request::DEVICE_GET_REGION_INFO,
        Request::DEVICE_GET_IRQ_INFO,
        Request::DEVICE_SET_IRQS,
        Request::DEVICE_FEATURE,
    ] {
        for address in [0, 1, 4095] {
            bare(
                format_args!("{request:?} at address {address}"),
                sys::ioctl_value(device.vfio(), request, address),
                Errno::FAULT,
            )?;
        }
    }
    Ok(())
}

fn ioctl_into_read_only_memory_is_refused(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let index = device.migration.region().info().index;
    for (request, index) in [
        (Request::DEVICE_GET_INFO, 0),
        (Request::DEVICE_GET_REGION_INFO, index),
        (Request::DEVICE_GET_IRQ_INFO, 0),
    ] {
        bare(
            format_args!("{request:?} into read-only memory"),
            sys::ioctl_read_only(device.vfio(), request, &info(128, index)),
            Errno::FAULT,
        )?;
    }
    Ok(())
}

fn ioctl_unknown_is_refused(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    // ioctls of PCI devices that no mdev has, and ioctls that do not exist.
    for distance in [12, 13, 15, 16, 30, 99, 150] {
        let request = Request::new(distance);
        if !target.kind.is_emulated() && [12, 13].contains(&distance) {
            // VFIO_DEVICE_GET_PCI_HOT_RESET_INFO and VFIO_DEVICE_PCI_HOT_RESET.
            continue;
        }
        if request == Request::IOMMU_MAP_DMA {
            continue;
        }
        let mut argument = info(128, 0);
        let result = device.vfio().ioctl(request, &mut argument);
        holds(
            matches!(result, Err(Errno::NOTTY | Errno::INVAL)),
            format_args!("{request:?}: expected ENOTTY, seen {result:?}"),
        )?;
    }
    device.expect_works()
}

fn feature(flags: u32, argsz: u32) -> Vec<u8> {
    let mut argument = vec![0; 128];
    argument[..4].copy_from_slice(&argsz.to_ne_bytes());
    argument[4..8].copy_from_slice(&flags.to_ne_bytes());
    argument
}

fn ioctl_features_that_are_not_there_are_refused(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    // Features of protocol v2 are tested by its own cases.
    for id in [
        vfio::VFIO_DEVICE_FEATURE_PCI_VF_TOKEN,
        vfio::VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
        0x7fff,
    ] {
        if id == vfio::VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY && !target.kind.is_emulated() {
            // vfio-pci has it.
            continue;
        }
        for way in [vfio::VFIO_DEVICE_FEATURE_GET, vfio::VFIO_DEVICE_FEATURE_SET] {
            let mut probe = feature(id | way | vfio::VFIO_DEVICE_FEATURE_PROBE, 8);
            bare(
                format_args!("probe of feature {id}"),
                device.vfio().ioctl(Request::DEVICE_FEATURE, &mut probe),
                Errno::NOTTY,
            )?;
        }
    }
    Ok(())
}

fn ioctl_malformed_features_are_refused(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    for (flags, argsz) in [
        (vfio::VFIO_DEVICE_FEATURE_GET, 0),
        (vfio::VFIO_DEVICE_FEATURE_GET, 7),
        (
            vfio::VFIO_DEVICE_FEATURE_GET | vfio::VFIO_DEVICE_FEATURE_SET,
            8,
        ),
        (0x8000_0000, 8),
    ] {
        let mut argument = feature(flags, argsz);
        bare(
            format_args!("feature with flags {flags:#x} and argsz {argsz}"),
            device.vfio().ioctl(Request::DEVICE_FEATURE, &mut argument),
            Errno::INVAL,
        )?;
    }
    let info = ask(device.vfio(), Request::DEVICE_GET_INFO, 128, 0);
    let flags = info.ok().and_then(|info| u32_at(&info, 4)).unwrap_or(0);
    same(
        "PCI flag afterwards",
        flags & vfio::VFIO_DEVICE_FLAGS_PCI,
        vfio::VFIO_DEVICE_FLAGS_PCI,
    )
}

fn ioctl_the_container_tracks_dirty_pages(target: &Target) -> Outcome {
    // QEMU 7.2 blocks migration without it.
    let device = TestDevice::new(target)?;
    let memory = vfio_client::Mapping::anonymous(1 << 20).map_err(crate::check::Stop::failed)?;
    let memory = std::sync::Arc::new(memory);
    let container = &device.session.container;
    container.map(0x10_0000, &memory)?;
    same(
        "migration capability of type1",
        container.tracks_dirty_pages()?,
        true,
    )?;
    same(
        "bytes unmapped",
        container.unmap(0x10_0000, 1 << 20)?,
        1 << 20,
    )
}
