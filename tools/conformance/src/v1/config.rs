// SPDX-License-Identifier: GPL-2.0

//! The PCI configuration space.

use vfio_bindings::bindings::vfio;
use vfio_client::v1::State;
use vfio_client::Errno;
use vfio_client::Region;
use vfio_drivers::uart::PORT_SIZE;

use crate::case::cases;
use crate::case::Case;
use crate::check::denied;
use crate::check::holds;
use crate::check::refused;
use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::kind::Kind;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::device::TestDevice;

/// Size of conventional configuration space in bytes.
const SIZE: u64 = 256;
/// Size of the configuration space of a PCI Express function in bytes.
const EXTENDED_SIZE: u64 = 4096;
/// Vendor, 2 bytes.
const VENDOR: u64 = 0x00;
/// Device, 2 bytes.
const DEVICE: u64 = 0x02;
/// Command, 2 bytes.
pub const COMMAND: u64 = 0x04;
/// Status, 2 bytes.
const STATUS: u64 = 0x06;
/// Revision and class, 4 bytes.
const CLASS: u64 = 0x08;
/// Header type, 1 byte.
const HEADER_TYPE: u64 = 0x0e;
/// First base address register, 4 bytes.
pub const BAR0: u64 = 0x10;
/// Subsystem vendor, 2 bytes.
const SUBSYSTEM_VENDOR: u64 = 0x2c;
/// Subsystem, 2 bytes.
const SUBSYSTEM: u64 = 0x2e;
/// Expansion ROM base address, 4 bytes.
const ROM: u64 = 0x30;
/// First capability, 1 byte.
const CAPABILITIES: u64 = 0x34;
/// Interrupt line, 1 byte.
pub const INTERRUPT_LINE: u64 = 0x3c;
/// Interrupt pin, 1 byte.
const INTERRUPT_PIN: u64 = 0x3d;

/// Command: decode I/O.
pub const COMMAND_IO: u16 = 0x0001;
/// Command: decode memory.
pub const COMMAND_MEMORY: u16 = 0x0002;
/// Command: decode I/O and memory. A device has the bit that its BARs need.
pub const COMMAND_IO_OR_MEMORY: u16 = 0x0003;
/// Command: bus master, without which no MSI is sent.
pub const COMMAND_MASTER: u16 = 0x0004;
/// Command: INTx off.
pub const COMMAND_INTX_DISABLE: u16 = 0x0400;
/// Status: INTx is due.
pub const STATUS_INTERRUPT: u16 = 0x0008;
/// Status: there are capabilities.
const STATUS_CAPABILITIES: u16 = 0x0010;

/// The capability of message-signalled interrupts.
const CAPABILITY_MSI: u8 = 5;
/// MSI: its control word, from the capability's start.
const MSI_CONTROL: u64 = 2;
/// MSI: the control word's enable bit.
const MSI_ENABLE: u16 = 1;

const UART_NEEDS: &[Requirement] = &[Requirement::V1, Requirement::Uart];

/// Cases of the serial cards.
pub const UART: &[Case] = cases![
    UART_NEEDS;
    config_identity_is_a_serial_card_for_experiments,
    config_bar0_tells_its_size,
    config_the_other_bars_are_not_there,
    config_the_capability_list_ends_and_has_msi,
];

const NEEDS: &[Requirement] = &[Requirement::V1];

/// Cases of any device.
pub const CASES: &[Case] = cases![
    NEEDS;
    config_the_bars_answer_at_first [Driver],
    config_a_bar_that_is_not_enabled_reads_as_ones_and_takes_nothing [Ferry, Driver],
    config_the_enable_bits_move [Driver, Pair],
    config_every_width_and_alignment_reads_the_same,
    config_read_only_fields_stay,
    config_accesses_out_of_range_are_refused,
    config_accesses_to_a_bad_address_are_refused,
    config_absent_regions_have_no_size_and_no_bytes,
];

/// Returns an address that a device's first base address register can hold, as it reads back.
pub fn bar(kind: Kind) -> u32 {
    match kind {
        Kind::Uart { .. } | Kind::Mtty => 0xc001,
        Kind::Nvme { .. } | Kind::Other => 0xfebf_0004,
        Kind::E1000e => 0xfebe_0000,
    }
}

/// Returns how many bytes of configuration space a device has.
fn size(kind: Kind) -> u64 {
    match kind {
        Kind::Uart { .. } | Kind::Mtty => SIZE,
        Kind::Nvme { .. } | Kind::E1000e | Kind::Other => EXTENDED_SIZE,
    }
}

/// Returns the bit of the command register that has a device decode its first base address register.
fn enable_bit(kind: Kind) -> u16 {
    match kind {
        Kind::Uart { .. } | Kind::Mtty => COMMAND_IO,
        Kind::Nvme { .. } | Kind::E1000e | Kind::Other => COMMAND_MEMORY,
    }
}

/// Returns the device's configuration space.
#[track_caller]
pub fn space(device: &TestDevice) -> Outcome<Region> {
    Ok(device.vfio().region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?)
}

/// Checks that the device has no BAR at `registers`: all ones written read back as zeros.
#[track_caller]
pub fn absent_bars(space: &Region, registers: &[u64]) -> Outcome {
    for &register in registers {
        space.write(register, &u32::MAX.to_le_bytes())?;
        same(
            format_args!("register {register:#x} after all ones"),
            space.read_u32(register)?,
            0,
        )?;
    }
    Ok(())
}

/// Returns where the device's MSI capability is.
#[track_caller]
fn msi(space: &Region) -> Outcome<u64> {
    let mut at = space.read_u8(CAPABILITIES)?;
    for _ in 0..48 {
        if at == 0 {
            break;
        }
        if space.read_u8(at.into())? == CAPABILITY_MSI {
            return Ok(at.into());
        }
        at = space.read_u8(u64::from(at) + 1)?;
    }
    Err(Stop::failed("expected an MSI capability, seen none"))
}

/// Enables MSI, as the guest's PCI core does.
#[track_caller]
pub fn enable_msi(device: &TestDevice) -> Outcome {
    let space = space(device)?;
    let control = msi(&space)? + MSI_CONTROL;
    let command = space.read_u16(COMMAND)? | COMMAND_MASTER;
    space.write(COMMAND, &command.to_le_bytes())?;
    let value = space.read_u16(control)? | MSI_ENABLE;
    Ok(space.write(control, &value.to_le_bytes())?)
}

fn config_identity_is_a_serial_card_for_experiments(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = space(&device)?;
    same("size", space.size(), SIZE)?;
    same("vendor", space.read_u16(VENDOR)?, 0x1af4)?;
    let id = match target.ports() {
        1 => 0x10f1,
        2 => 0x10f2,
        _ => 0x10f3,
    };
    same("device", space.read_u16(DEVICE)?, id)?;
    same(
        "subsystem vendor",
        space.read_u16(SUBSYSTEM_VENDOR)?,
        0x1af4,
    )?;
    same("subsystem", space.read_u16(SUBSYSTEM)?, id)?;
    same("class", space.read_u32(CLASS)? >> 8, 0x07_00_02)?;
    same("header type", space.read_u8(HEADER_TYPE)?, 0)?;
    same("interrupt pin", space.read_u8(INTERRUPT_PIN)?, 1)
}

fn config_bar0_tells_its_size(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = space(&device)?;
    let size = PORT_SIZE as u32 * u32::from(target.ports());
    same(
        "size of region 0",
        device
            .vfio()
            .region(vfio::VFIO_PCI_BAR0_REGION_INDEX)?
            .size(),
        size.into(),
    )?;
    space.write(BAR0, &u32::MAX.to_le_bytes())?;
    same(
        "BAR0 after all ones",
        space.read_u32(BAR0)?,
        !(size - 1) | 1,
    )?;
    space.write(BAR0, &0xc100u32.to_le_bytes())?;
    same("BAR0 after an address", space.read_u32(BAR0)?, 0xc101)?;
    // As for vfio-pci, which saves and restores configuration space around it.
    device.reset()?;
    same("BAR0 after a reset", space.read_u32(BAR0)?, 0xc101)
}

fn config_the_other_bars_are_not_there(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = space(&device)?;
    absent_bars(&space, &[0x14, 0x18, 0x1c, 0x20, 0x24, ROM])
}

fn config_the_capability_list_ends_and_has_msi(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = space(&device)?;
    same(
        "capabilities bit of the status",
        space.read_u16(STATUS)? & STATUS_CAPABILITIES,
        STATUS_CAPABILITIES,
    )?;
    let mut seen = Vec::new();
    let mut at = space.read_u8(CAPABILITIES)?;
    while at != 0 {
        holds(
            at >= 0x40 && at.is_multiple_of(4) && !seen.contains(&at),
            format_args!("a capability at {at:#x} after {seen:x?}"),
        )?;
        seen.push(at);
        at = space.read_u8(u64::from(at) + 1)?;
    }
    let control = space.read_u16(msi(&space)? + MSI_CONTROL)?;
    same(
        "vectors that MSI offers, as a power of 2",
        control >> 1 & 7,
        0,
    )?;
    same("MSI enable", control & MSI_ENABLE, 0)
}

/// As for vfio-pci, which enables the device: a user that does not know of the bits finds registers.
fn config_the_bars_answer_at_first(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = space(&device)?;
    let expected = match target.kind {
        // vfio-pci enables both, whichever BARs there are.
        Kind::E1000e => COMMAND_IO_OR_MEMORY,
        kind => enable_bit(kind),
    };
    same("command", space.read_u16(COMMAND)?, expected)?;
    device.expect_fresh()?;
    device.reset()?;
    same("command after a reset", space.read_u16(COMMAND)?, expected)?;
    device.expect_fresh()
}

/// Checks that a first base address register that is not enabled answers no access: an emulated one reads as
/// ones and ignores writes, and vfio-pci refuses both.
#[track_caller]
fn expect_bar0_off(device: &TestDevice) -> Outcome {
    let region = device.vfio().region(vfio::VFIO_PCI_BAR0_REGION_INDEX)?;
    if !device.kind().is_emulated() {
        // A page that may be mapped, one that is trapped, and the last register.
        for at in [0, 0x4000, region.size() - 4] {
            let read = region.read(at, &mut [0; 4]);
            refused(format_args!("read of BAR 0 at {at:#x}"), read, Errno::IO)?;
            let write = region.write(at, &[0; 4]);
            refused(format_args!("write of BAR 0 at {at:#x}"), write, Errno::IO)?;
        }
        return Ok(());
    }
    let mut bytes = vec![0; region.size() as usize];
    region.read(0, &mut bytes)?;
    same_bytes("all of BAR 0", &bytes, &vec![0xff; bytes.len()])?;
    Ok(region.write(0, &vec![0; bytes.len()])?)
}

fn config_a_bar_that_is_not_enabled_reads_as_ones_and_takes_nothing(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.fill(3)?;
    let space = space(&device)?;
    let command = space.read_u16(COMMAND)?;
    let disabled = (command & !enable_bit(target.kind)).to_le_bytes();
    let before = device.image()?;
    space.write(COMMAND, &disabled)?;
    for round in 0..2 {
        expect_bar0_off(&device)?;
        // The device ignores all writes.
        if target.kind.is_emulated() {
            device.poke()?;
        }
        // A stopped device does not answer either.
        device.set([State::STOP, State::RUNNING][round])?;
    }
    space.write(COMMAND, &command.to_le_bytes())?;
    same_bytes(
        "the state once it is enabled again",
        &device.image()?,
        &before,
    )?;
    device.expect_filled(3)
}

fn config_the_enable_bits_move(target: &Target) -> Outcome {
    let source = TestDevice::new(target)?;
    source.fill(4)?;
    let command = space(&source)?.read_u16(COMMAND)?;
    let disabled = command & !enable_bit(target.kind);
    space(&source)?.write(COMMAND, &disabled.to_le_bytes())?;
    let stream = source.save()?;

    let device = TestDevice::new(target)?;
    device.resume(&stream)?;
    let space = space(&device)?;
    if !target.kind.is_emulated() {
        // Configuration space is vfio-pci's, and it is the user that restores it.
        space.write(COMMAND, &disabled.to_le_bytes())?;
    }
    same("command", space.read_u16(COMMAND)?, disabled)?;
    expect_bar0_off(&device)?;
    space.write(COMMAND, &command.to_le_bytes())?;
    device.expect_filled(4)?;
    device.expect_works()
}

fn config_every_width_and_alignment_reads_the_same(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = space(&device)?;
    same("size", space.size(), size(target.kind))?;
    let mut whole = vec![0; size(target.kind) as usize];
    space.read(0, &mut whole)?;
    if target.kind.is_emulated() {
        same(
            "a byte of an extended capability",
            whole.iter().skip(SIZE as usize).find(|byte| **byte != 0),
            None,
        )?;
    }
    for width in [1usize, 2, 3, 4, 5, 8, 64] {
        for at in 0..=whole.len() - width {
            let mut bytes = vec![0xee; width];
            space.read(at as u64, &mut bytes)?;
            same_bytes(
                format_args!("{width} bytes at {at:#x}"),
                &bytes,
                &whole[at..at + width],
            )?;
        }
    }
    Ok(())
}

fn config_read_only_fields_stay(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = space(&device)?;
    let mut before = vec![0; 4];
    for at in [VENDOR, CLASS, CAPABILITIES, 0x2c] {
        space.read(at, &mut before)?;
        space.write(at, &[0xff; 4])?;
        let mut after = [0; 4];
        space.read(at, &mut after)?;
        same_bytes(
            format_args!("register {at:#x} after all ones"),
            &after,
            &before,
        )?;
    }
    space.write(INTERRUPT_LINE, &[0x55, 0xff])?;
    same("interrupt line", space.read_u8(INTERRUPT_LINE)?, 0x55)?;
    same("interrupt pin", space.read_u8(INTERRUPT_PIN)?, 1)
}

fn config_accesses_out_of_range_are_refused(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = space(&device)?;
    let size = size(target.kind);
    let before = space.read_u16(COMMAND)?;
    for (at, len) in [
        (size, 1),
        (size, 4),
        (size - 1, 2),
        (size - 2, 4),
        (size - 4, 8),
        (0, size as usize + 1),
        (0, 8192),
        (4096, 4),
        (1 << 32, 4),
    ] {
        denied(
            format_args!("read of {len} at {at:#x}"),
            space.read(at, &mut vec![0; len]),
        )?;
        denied(
            format_args!("write of {len} at {at:#x}"),
            space.write(at, &vec![0xff; len]),
        )?;
    }
    same("command", space.read_u16(COMMAND)?, before)
}

fn config_accesses_to_a_bad_address_are_refused(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = space(&device)?;
    let vendor = space.read_u16(VENDOR)?;
    for len in [1, 2, 4, 8, 256] {
        denied(
            format_args!("read of {len} to nowhere"),
            space.read_nowhere(0, len),
        )?;
        denied(
            format_args!("write of {len} from nowhere"),
            space.write_nowhere(0, len),
        )?;
    }
    same("vendor", space.read_u16(VENDOR)?, vendor)
}

fn config_absent_regions_have_no_size_and_no_bytes(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let present: &[u32] = match target.kind {
        // Registers, flash, IOADDR and IODATA, MSI-X.
        Kind::E1000e => &[0, 1, 2, 3],
        _ => &[vfio::VFIO_PCI_BAR0_REGION_INDEX],
    };
    for region in device.vfio().regions()? {
        let index = region.info().index;
        if index >= vfio::VFIO_PCI_CONFIG_REGION_INDEX && index != vfio::VFIO_PCI_VGA_REGION_INDEX
            || present.contains(&index)
        {
            continue;
        }
        same(format_args!("size of region {index}"), region.size(), 0)?;
        for len in [1, 4, 4096] {
            denied(
                format_args!("read of {len} in region {index}"),
                region.read(0, &mut vec![0; len]),
            )?;
            denied(
                format_args!("write of {len} in region {index}"),
                region.write(0, &vec![0; len]),
            )?;
        }
    }
    Ok(())
}
