// SPDX-License-Identifier: GPL-2.0

//! Trapped pages: they cannot be mapped, and nothing of the kernel writes them behind the driver's back.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use vfio_bindings::bindings::vfio;
use vfio_client::region::Area;
use vfio_client::sys::Request;
use vfio_client::Errno;
use vfio_client::EventFd;
use vfio_drivers::e1000e::register;

use crate::case::cases;
use crate::case::Case;
use crate::check::bare;
use crate::check::denied;
use crate::check::differs;
use crate::check::holds;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::card::has_tracking;
use crate::v1::device::TestDevice;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::E1000e];

pub const CASES: &[Case] = cases![
    NEEDS;
    card_pages_are_mapped_or_trapped,
    card_no_ioeventfd_writes_a_register,
    card_a_statistic_is_read_at_any_width,
];

const PAGE: u64 = 4096;

fn covers(areas: &[Area], at: u64) -> bool {
    areas
        .iter()
        .any(|area| (area.offset..area.offset + area.size).contains(&at))
}

fn card_pages_are_mapped_or_trapped(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let bar = device.vfio().region(vfio::VFIO_PCI_BAR0_REGION_INDEX)?;
    // IOADDR and IODATA lead to every register.
    let io = device.vfio().region(vfio::VFIO_PCI_BAR2_REGION_INDEX)?;
    denied("mmap of BAR 2", io.map(0, PAGE as usize))?;
    if !has_tracking(&device)? {
        same("sparse areas of BAR 0", bar.info().sparse.clone(), None)?;
        bar.map(0, bar.size() as usize)?;
        return Ok(());
    }
    let areas = bar.info().sparse.clone();
    let areas = areas.ok_or_else(|| Stop::failed("expected sparse areas of BAR 0, seen none"))?;
    for (what, page, may_map) in [
        ("CTRL, ICR and RCTL", 0, true),
        ("the statistics", register::STATISTICS, false),
        ("RDT", register::RDT, false),
        ("filters", register::MTA, true),
    ] {
        same(
            format_args!("may the page of {what} be mapped"),
            covers(&areas, page),
            may_map,
        )?;
    }
    for page in (0..bar.size()).step_by(PAGE as usize) {
        let mapped = bar.map(page, PAGE as usize);
        if covers(&areas, page) {
            mapped?;
        } else {
            denied(format_args!("mmap of the trapped page {page:#x}"), mapped)?;
        }
        // Two pages, of which one may be trapped.
        let both = covers(&areas, page) && covers(&areas, page + PAGE);
        let mapped = bar.map(page, 2 * PAGE as usize);
        same(
            format_args!("are two pages mapped at {page:#x}"),
            mapped.is_ok(),
            both,
        )?;
    }
    let whole = bar.map(0, bar.size() as usize);
    denied("mmap of all of BAR 0", whole)
}

/// An eventfd would have the kernel write a register, trapped or not, and no driver would know of it. A VMM does
/// without.
fn card_no_ioeventfd_writes_a_register(target: &Target) -> Outcome {
    const IOEVENTFD: Request = Request::new(16);
    const VALUE: u32 = 0x9100;
    let device = TestDevice::new(target)?;
    let bar = device.vfio().region(vfio::VFIO_PCI_BAR0_REGION_INDEX)?;
    let event = EventFd::new()?;
    for at in [register::STATISTICS, register::RDT, register::VET] {
        let mut argument = Vec::new();
        argument.extend(40u32.to_ne_bytes());
        argument.extend(vfio::VFIO_DEVICE_IOEVENTFD_32.to_ne_bytes());
        argument.extend((bar.info().offset + at).to_ne_bytes());
        argument.extend(u64::from(VALUE).to_ne_bytes());
        argument.extend(event.as_fd().as_raw_fd().to_ne_bytes());
        argument.resize(40, 0);
        let set = device.vfio().ioctl(IOEVENTFD, &mut argument);
        bare(format_args!("ioeventfd at {at:#x}"), set, Errno::NOTTY)?;
        event.signal()?;
        let value = bar.read_u32(at)?;
        differs(
            format_args!("register {at:#x} after the event"),
            value,
            VALUE,
        )?;
    }
    Ok(())
}

/// A guest reads 32 bits, or a pair of them at once.
fn card_a_statistic_is_read_at_any_width(target: &Target) -> Outcome {
    /// Good Octets Received, 64 bits.
    const GORC: u64 = 0x4088;
    let device = TestDevice::new(target)?;
    device.fill(5)?;
    let bar = device.vfio().region(vfio::VFIO_PCI_BAR0_REGION_INDEX)?;
    let octets = bar.read_u64(GORC)?;
    holds(octets != 0, "expected octets after three frames, seen 0")?;
    same("GORC, once it was read", bar.read_u64(GORC)?, 0)?;
    device.fill(5)?;
    same("the lower half", u64::from(bar.read_u32(GORC)?), octets)?;
    same("the upper half", bar.read_u32(GORC + 4)?, 0)?;
    same("both, once they were read", bar.read_u64(GORC)?, 0)
}
