// SPDX-License-Identifier: GPL-2.0

//! A controller's PCI configuration space.

use vfio_bindings::bindings::vfio;
use vfio_client::irq::Index;
use vfio_client::nvme::MSIX_ENABLE;
use vfio_client::nvme::MSIX_MASKED;
use vfio_client::Region;

use crate::card::Card;
use crate::card::Context;
use crate::check::holds;
use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::tests::cases;
use crate::tests::config::space;
use crate::tests::config::BAR0;
use crate::tests::config::COMMAND;
use crate::tests::config::COMMAND_INTX_DISABLE;
use crate::tests::config::COMMAND_MASTER;
use crate::tests::Case;

/// All tests of this file.
pub const CASES: &[Case] = cases![
    nvme_config_identity,
    nvme_config_bar0_is_16_kib_of_64_bit_memory,
    nvme_config_the_other_bars_are_not_there,
    nvme_config_the_capability_list_ends,
    nvme_config_msix_has_17_vectors_in_bar0,
    nvme_config_msix_control_takes_enable_and_mask_only,
    nvme_config_is_a_pcie_endpoint,
    nvme_config_keeps_its_header_through_a_reset,
];

/// Bytes of the header, in front of the capabilities.
const HEADER_SIZE: usize = 0x40;
/// The capability of power management.
const POWER: u8 = 0x01;
/// The capability of PCI Express.
const EXPRESS: u8 = 0x10;
/// The capability of MSI-X.
const MSIX: u8 = 0x11;
/// How many vectors there are: those of the admin queue and of 16 I/O queues.
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

#[track_caller]
fn capability(space: &Region, id: u8) -> Outcome<u64> {
    let seen = capabilities(space)?;
    seen.iter()
        .find(|(other, _)| *other == id)
        .map(|(_, place)| *place)
        .ok_or_else(|| Stop::failed(format_args!("expected capability {id:#x} among {seen:x?}")))
}

fn nvme_config_identity(context: &Context) -> Outcome {
    let card = Card::new(context)?;
    let space = space(&card)?;
    same("vendor and device", space.read_u32(0x00)?, 0x10f0_1af4)?;
    same("class and revision", space.read_u32(0x08)?, 0x0108_0201)?;
    same("subsystem", space.read_u32(0x2c)?, 0x10f0_1af4)?;
    same("header type", space.read_u8(0x0e)?, 0)?;
    same("interrupt pin", space.read_u8(0x3d)?, 1)
}

fn nvme_config_bar0_is_16_kib_of_64_bit_memory(context: &Context) -> Outcome {
    let card = Card::new(context)?;
    let space = space(&card)?;
    same(
        "size of region 0",
        card.device()
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

fn nvme_config_the_other_bars_are_not_there(context: &Context) -> Outcome {
    let card = Card::new(context)?;
    let space = space(&card)?;
    for register in [0x18, 0x1c, 0x20, 0x24, 0x30] {
        space.write(register, &u32::MAX.to_le_bytes())?;
        same(
            format_args!("register {register:#x} after all ones"),
            space.read_u32(register)?,
            0,
        )?;
    }
    Ok(())
}

fn nvme_config_the_capability_list_ends(context: &Context) -> Outcome {
    let card = Card::new(context)?;
    let space = space(&card)?;
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

fn nvme_config_msix_has_17_vectors_in_bar0(context: &Context) -> Outcome {
    let card = Card::new(context)?;
    let space = space(&card)?;
    let msix = capability(&space, MSIX)?;
    same("control", space.read_u16(msix + 2)?, VECTORS as u16 - 1)?;
    same("place of the table", space.read_u32(msix + 4)?, 0x2000)?;
    same(
        "place of the pending bits",
        space.read_u32(msix + 8)?,
        0x3000,
    )?;
    for (index, count) in [(Index::Intx, 1), (Index::Msi, 0), (Index::Msix, VECTORS)] {
        let info = card.device().irq_info(index as u32)?;
        same(format_args!("vectors of {index:?}"), info.count, count)?;
    }
    Ok(())
}

fn nvme_config_msix_control_takes_enable_and_mask_only(context: &Context) -> Outcome {
    let card = Card::new(context)?;
    let space = space(&card)?;
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

fn nvme_config_is_a_pcie_endpoint(context: &Context) -> Outcome {
    let card = Card::new(context)?;
    let space = space(&card)?;
    let express = capability(&space, EXPRESS)?;
    let flags = space.read_u16(express + 2)?;
    holds(
        flags >> 4 & 0xf == 0 && flags & 0xf >= 1,
        format_args!("expected an endpoint, seen flags of {flags:#x}"),
    )?;
    holds(
        express + 0x3c <= space.size(),
        format_args!("the capability at {express:#x} goes past the end"),
    )
}

fn nvme_config_keeps_its_header_through_a_reset(context: &Context) -> Outcome {
    let card = Card::new(context)?;
    let space = space(&card)?;
    let mut fresh = vec![0; space.size() as usize];
    space.read(0, &mut fresh)?;
    let msix = capability(&space, MSIX)?;
    let command = COMMAND_MASTER | COMMAND_INTX_DISABLE;
    space.write(COMMAND, &command.to_le_bytes())?;
    space.write(BAR0, &0xfebf_0000u32.to_le_bytes())?;
    space.write(msix + 2, &MSIX_ENABLE.to_le_bytes())?;
    // As for vfio-pci, which saves and restores configuration space around it. Where interrupts go, the
    // user has said by VFIO_DEVICE_SET_IRQS, if at all.
    let mut expected = fresh.clone();
    space.read(0, &mut expected[..HEADER_SIZE])?;
    card.reset()?;
    let mut seen = vec![0; fresh.len()];
    space.read(0, &mut seen)?;
    crate::check::same_bytes("configuration space after a reset", &seen, &expected)?;
    same("COMMAND", space.read_u16(COMMAND)?, command)
}
