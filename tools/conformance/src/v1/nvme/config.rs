// SPDX-License-Identifier: GPL-2.0

//! A controller's PCI configuration space.

use vfio_bindings::bindings::vfio;
use vfio_client::irq::Index;
use vfio_client::v1::State;
use vfio_client::Errno;
use vfio_client::Region;
use vfio_drivers::nvme::MSIX_ENABLE;
use vfio_drivers::nvme::MSIX_MASKED;

use crate::case::cases;
use crate::case::Case;
use crate::check::holds;
use crate::check::refused;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::kmsg::expect_line;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::config::absent_bars;
use crate::v1::config::space;
use crate::v1::config::BAR0;
use crate::v1::config::COMMAND;
use crate::v1::config::COMMAND_INTX_DISABLE;
use crate::v1::config::COMMAND_MASTER;
use crate::v1::config::COMMAND_MEMORY;
use crate::v1::device::good_stream;
use crate::v1::device::TestDevice;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Nvme];

pub const CASES: &[Case] = cases![
    NEEDS;
    nvme_config_identity,
    nvme_config_bar0_is_16_kib_of_64_bit_memory,
    nvme_config_the_other_bars_are_not_there,
    nvme_config_the_capability_list_ends,
    nvme_config_msix_has_17_vectors_in_bar0 [Intx, Msix],
    nvme_config_msix_control_takes_enable_and_mask_only,
    nvme_config_is_a_pcie_endpoint,
    nvme_config_a_value_that_cannot_be_is_discarded,
    nvme_config_a_state_with_a_value_that_cannot_be_is_refused,
    nvme_config_keeps_through_a_reset_what_vfio_pci_restores,
    nvme_config_keeps_through_its_own_reset_what_concerns_the_link,
];

/// Bytes of the header, in front of the capabilities.
const HEADER_SIZE: usize = 0x40;
/// The capability of power management.
pub const POWER: u8 = 0x01;
/// Power management: its control and status, from the capability's start.
pub const POWER_CONTROL: u64 = 4;
/// The capability of PCI Express.
pub const EXPRESS: u8 = 0x10;
/// PCI Express: device control, from the capability's start.
pub const DEVICE_CONTROL: u64 = 0x08;
/// PCI Express: link control.
const LINK_CONTROL: u64 = 0x10;
/// PCI Express: more device control.
const DEVICE_CONTROL_2: u64 = 0x28;
/// Link control: ASPM, read completion boundary, common clock, extended synch, clock power management.
const LINK_CONTROL_ALL: u16 = 0x01cb;
/// Device control 2: completions are waited for without end.
const COMPLETION_TIMEOUT_DISABLE: u16 = 0x0010;
/// The capability of MSI-X.
const MSIX: u8 = 0x11;
/// The number of vectors: of the admin queue and of 16 I/O queues.
pub const VECTORS: u32 = 17;

/// Returns the capabilities: id and place.
#[track_caller]
fn capabilities(space: &Region) -> Outcome<Vec<(u8, u64)>> {
    const POINTER: u64 = 0x34;
    let mut seen: Vec<(u8, u64)> = Vec::new();
    let mut at = space.read_u8(POINTER)?;
    while at != 0 {
        let place = u64::from(at);
        holds(
            at >= 0x40 && at.is_multiple_of(4) && seen.iter().all(|(_, other)| *other != place),
            format_args!("a capability at {at:#x} after {seen:x?}"),
        )?;
        seen.push((space.read_u8(place)?, place));
        at = space.read_u8(place + 1)?;
    }
    Ok(seen)
}

/// Returns where a capability is.
#[track_caller]
pub fn capability(space: &Region, id: u8) -> Outcome<u64> {
    let seen = capabilities(space)?;
    seen.iter()
        .find(|(other, _)| *other == id)
        .map(|(_, place)| *place)
        .ok_or_else(|| Stop::failed(format_args!("expected capability {id:#x} among {seen:x?}")))
}

fn nvme_config_identity(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = space(&device)?;
    same("vendor and device", space.read_u32(0x00)?, 0x10f0_1af4)?;
    same("class and revision", space.read_u32(0x08)?, 0x0108_0201)?;
    same("subsystem", space.read_u32(0x2c)?, 0x10f0_1af4)?;
    same("header type", space.read_u8(0x0e)?, 0)?;
    same("interrupt pin", space.read_u8(0x3d)?, 1)
}

fn nvme_config_bar0_is_16_kib_of_64_bit_memory(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = space(&device)?;
    same(
        "size of region 0",
        device
            .vfio()
            .region(vfio::VFIO_PCI_BAR0_REGION_INDEX)?
            .size(),
        0x4000,
    )?;
    same("BAR0", space.read_u64(BAR0)?, 4)?;
    space.write(BAR0, &u32::MAX.to_le_bytes())?;
    space.write(BAR0 + 4, &u32::MAX.to_le_bytes())?;
    same("BAR0 after all ones", space.read_u64(BAR0)?, !0x3fff | 4)?;
    space.write(BAR0, &0xfebf_0000u32.to_le_bytes())?;
    space.write(BAR0 + 4, &0x12u32.to_le_bytes())?;
    same(
        "BAR0 after an address",
        space.read_u64(BAR0)?,
        0x12_febf_0004,
    )
}

fn nvme_config_the_other_bars_are_not_there(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = space(&device)?;
    absent_bars(&space, &[0x18, 0x1c, 0x20, 0x24, 0x30])
}

fn nvme_config_the_capability_list_ends(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = space(&device)?;
    const STATUS_CAPABILITIES: u16 = 0x10;
    same(
        "capabilities bit of the status",
        space.read_u16(0x06)? & STATUS_CAPABILITIES,
        STATUS_CAPABILITIES,
    )?;
    let mut ids: Vec<u8> = capabilities(&space)?.iter().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    same("capabilities", ids, vec![POWER, EXPRESS, MSIX])
}

fn nvme_config_msix_has_17_vectors_in_bar0(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = space(&device)?;
    let msix = capability(&space, MSIX)?;
    same("control", space.read_u16(msix + 2)?, VECTORS as u16 - 1)?;
    same("place of the table", space.read_u32(msix + 4)?, 0x2000)?;
    same(
        "place of the pending bits",
        space.read_u32(msix + 8)?,
        0x3000,
    )?;
    for (index, count) in [(Index::Intx, 1), (Index::Msi, 0), (Index::Msix, VECTORS)] {
        let info = device.vfio().irq_info(index as u32)?;
        same(format_args!("vectors of {index:?}"), info.count, count)?;
    }
    Ok(())
}

fn nvme_config_msix_control_takes_enable_and_mask_only(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = space(&device)?;
    let msix = capability(&space, MSIX)?;
    let size = VECTORS as u16 - 1;
    for (written, kept) in [
        (u16::MAX, MSIX_ENABLE | MSIX_MASKED),
        (MSIX_ENABLE, MSIX_ENABLE),
        (MSIX_MASKED | 0x7ff, MSIX_MASKED),
        (0, 0),
    ] {
        space.write(msix + 2, &written.to_le_bytes())?;
        same(
            format_args!("control after {written:#x}"),
            space.read_u16(msix + 2)?,
            kept | size,
        )?;
    }
    let place = space.read_u64(msix + 4)?;
    space.write(msix + 4, &[0xff; 8])?;
    same("places after all ones", space.read_u64(msix + 4)?, place)
}

fn nvme_config_is_a_pcie_endpoint(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = space(&device)?;
    let express = capability(&space, EXPRESS)?;
    let flags = space.read_u16(express + 2)?;
    holds(
        flags >> 4 & 0xf == 0 && flags & 0xf >= 1,
        format_args!("expected an endpoint, seen flags of {flags:#x}"),
    )?;
    holds(
        express + 0x3c <= 0x100,
        format_args!("the capability at {express:#x} goes past the end"),
    )?;
    // Section 2.5 of NVM Express 1.4.
    let capabilities = space.read_u32(express + 0x04)?;
    same("PXDCAP.FLRC", capabilities >> 28 & 1, 1)?;
    same("PXDCAP.RER", capabilities >> 15 & 1, 1)?;
    same("PXDCAP2.CTDS", space.read_u32(express + 0x24)? >> 4 & 1, 1)?;
    for value in [COMPLETION_TIMEOUT_DISABLE, 0] {
        space.write(express + DEVICE_CONTROL_2, &value.to_le_bytes())?;
        same("PXDC2", space.read_u16(express + DEVICE_CONTROL_2)?, value)?;
    }
    // An extended configuration space without a capability begins with a capability of zeros.
    same("size", space.size(), 4096)?;
    same("extended capability", space.read_u32(0x100)?, 0)?;
    space.write(0x100, &[0xff; 3840])?;
    same("extended capability after ones", space.read_u32(0x100)?, 0)
}

/// Checks which values a field of a register with 16 bits takes, and restores the first value.
#[track_caller]
fn takes(space: &Region, what: &str, at: u64, mask: u16, taken: &[u16]) -> Outcome {
    let shift = mask.trailing_zeros();
    let others = space.read_u16(at)? & !mask;
    let mut expected = (space.read_u16(at)? & mask) >> shift;
    for value in (0..=mask >> shift).chain([taken[0]]) {
        space.write(at, &(others | value << shift).to_le_bytes())?;
        if taken.contains(&value) {
            expected = value;
        }
        same(
            format_args!("{what} after {value}"),
            space.read_u16(at)?,
            others | expected << shift,
        )?;
    }
    Ok(())
}

fn nvme_config_a_value_that_cannot_be_is_discarded(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = space(&device)?;
    let power = capability(&space, POWER)?;
    same("PMC: D1 and D2", space.read_u16(power + 2)? >> 9 & 3, 0)?;
    takes(
        &space,
        "PMCSR.PowerState",
        power + POWER_CONTROL,
        3,
        &[0, 3],
    )?;
    let control = capability(&space, EXPRESS)? + DEVICE_CONTROL;
    takes(&space, "PXDC.MRRS", control, 0x7000, &[0, 1, 2, 3, 4, 5])?;
    let most = space.read_u32(control - 4)? as u16 & 7;
    let sizes: Vec<u16> = (0..=most).collect();
    takes(&space, "PXDC.MPS", control, 0x00e0, &sizes)
}

/// A configuration space with a value that no such device can have is refused.
fn nvme_config_a_state_with_a_value_that_cannot_be_is_refused(target: &Target) -> Outcome {
    // Where a state has configuration space, see the head of rust/devices/nvme/state.rs.
    const SPACE: u64 = 4;
    let good = good_stream(target, 9)?;
    let state = good.device_state().map_err(Stop::failed)?;
    let device = TestDevice::new(target)?;
    let space = space(&device)?;
    let power = (SPACE + capability(&space, POWER)? + POWER_CONTROL) as usize;
    let control = (SPACE + capability(&space, EXPRESS)? + DEVICE_CONTROL) as usize + 1;
    let uuid = device.subject.name().to_string();
    for (at, mask, value, reason) in [
        (power, 0x03, 1, "PMCSR.PowerState is 1"),
        (power, 0x03, 2, "PMCSR.PowerState is 2"),
        (control, 0x70, 6, "Max_Read_Request_Size is 6"),
        (control, 0x70, 7, "Max_Read_Request_Size is 7"),
        // The vendor before 1af4, for which the reason is not a byte.
        (
            SPACE as usize,
            0xff,
            0x36,
            "PCI device 1a36:10f0 instead of 1af4:10f0",
        ),
    ] {
        let mut bad = state.clone();
        bad[at] = bad[at] & !mask | value << u8::trailing_zeros(mask);
        let stream = good.with_state(&bad).bytes();
        expect_line(&[target.kind.driver(), &uuid, reason], || {
            device.set(State::RESUMING)?;
            refused(
                reason,
                device.migration.feed(&stream, usize::MAX),
                Errno::INVAL,
            )?;
            device.reset()
        })?;
    }
    device.expect_works()
}

/// Sets up what a reset may leave of the PCI Express capability, and returns where it is.
#[track_caller]
fn set_up_link(space: &Region) -> Outcome<u64> {
    let express = capability(space, EXPRESS)?;
    for (register, value) in [
        (DEVICE_CONTROL, 0x580f),
        (LINK_CONTROL, LINK_CONTROL_ALL),
        (DEVICE_CONTROL_2, COMPLETION_TIMEOUT_DISABLE),
    ] {
        space.write(express + register, &value.to_le_bytes())?;
        same(
            format_args!("register {register:#x} of the capability"),
            space.read_u16(express + register)?,
            value,
        )?;
    }
    Ok(express)
}

fn nvme_config_keeps_through_a_reset_what_vfio_pci_restores(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = space(&device)?;
    let mut fresh = vec![0; space.size() as usize];
    space.read(0, &mut fresh)?;
    let msix = capability(&space, MSIX)?;
    let power = capability(&space, POWER)? + POWER_CONTROL;
    let command = COMMAND_MEMORY | COMMAND_MASTER | COMMAND_INTX_DISABLE;
    space.write(COMMAND, &command.to_le_bytes())?;
    space.write(BAR0, &0xfebf_0000u32.to_le_bytes())?;
    space.write(msix + 2, &MSIX_ENABLE.to_le_bytes())?;
    let express = set_up_link(&space)?;
    space.write(power, &[3])?;
    // As for vfio-pci, which saves and restores configuration space around it. Where interrupts go, the
    // user has said by VFIO_DEVICE_SET_IRQS, if at all.
    let mut expected = fresh.clone();
    space.read(0, &mut expected[..HEADER_SIZE])?;
    for register in [DEVICE_CONTROL, LINK_CONTROL, DEVICE_CONTROL_2] {
        let at = (express + register) as usize;
        space.read(at as u64, &mut expected[at..at + 2])?;
    }
    device.reset()?;
    let mut seen = vec![0; fresh.len()];
    space.read(0, &mut seen)?;
    crate::check::same_bytes("configuration space after a reset", &seen, &expected)?;
    same("COMMAND", space.read_u16(COMMAND)?, command)?;
    same("power state", space.read_u16(power)? & 3, 0)?;
    device.expect_works()
}

/// Section 6.6.2 of the PCI Express base specification.
fn nvme_config_keeps_through_its_own_reset_what_concerns_the_link(target: &Target) -> Outcome {
    const INITIATE: u16 = 0x8000;
    let device = TestDevice::new(target)?;
    device.fill(2)?;
    let space = space(&device)?;
    let mut expected = vec![0; space.size() as usize];
    space.read(0, &mut expected)?;
    space.write(BAR0, &0xfebf_0000u32.to_le_bytes())?;
    let express = set_up_link(&space)?;
    space.write(express + DEVICE_CONTROL, &INITIATE.to_le_bytes())?;
    // The kernel restores nothing: software that asks for a function-level reset does so itself.
    expected[COMMAND as usize..COMMAND as usize + 2].fill(0);
    let link = (express + LINK_CONTROL) as usize;
    expected[link..link + 2].copy_from_slice(&LINK_CONTROL_ALL.to_le_bytes());
    let mut seen = vec![0; expected.len()];
    space.read(0, &mut seen)?;
    crate::check::same_bytes("configuration space after the reset", &seen, &expected)?;
    let bar = device.vfio().region(vfio::VFIO_PCI_BAR0_REGION_INDEX)?;
    same("CAP without memory space", bar.read_u64(0)?, u64::MAX)?;
    space.write(COMMAND, &COMMAND_MEMORY.to_le_bytes())?;
    device.expect_fresh()?;
    device.expect_works()
}
