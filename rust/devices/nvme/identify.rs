// SPDX-License-Identifier: GPL-2.0

//! What the controller and its namespace are: Identify, section 5.15.

use crate::command::NSID;
use crate::controller::VENDOR_REDHAT_QUMRANET;
use crate::events::REQUESTS_MAX;
use crate::features::{
    TEMPERATURE_CRITICAL,
    TEMPERATURE_WARNING, //
};
use crate::log::ERROR_ENTRIES;
use crate::parameters::{
    Parameters,
    SERIAL_SIZE,
    STORE_ZEROING, //
};
use crate::registers::{
    CQES,
    PAGE_SHIFT_MIN,
    READY_TIMEOUT,
    SQES,
    VERSION, //
};
use crate::window::Window;

/// Bytes of each data structure.
pub(crate) const IDENTIFY_SIZE: usize = 4096;

/// Bytes of a model number.
pub(crate) const MODEL_SIZE: usize = 40;
/// Bytes of a firmware revision.
pub(crate) const FIRMWARE_SIZE: usize = 8;
const MODEL: [u8; MODEL_SIZE] = *b"Ferry NVMe Controller                   ";
const FIRMWARE: [u8; FIRMWARE_SIZE] = *b"1.0     ";

/// Binary logarithm of the most bytes that a command transfers, in the smallest pages: 512 KiB.
const TRANSFER_SHIFT: u32 = 7;
/// The most bytes that a command transfers.
pub(crate) const TRANSFER_MAX: usize = 1 << (PAGE_SHIFT_MIN + TRANSFER_SHIFT);

/// Optional admin commands: Doorbell Buffer Config.
const OACS_DOORBELL_BUFFER: u16 = 1 << 8;
/// Commands that can be aborted at the same time, less one, as section 5.15 recommends.
const ABORT_LIMIT: u8 = 3;
/// Firmware updates: the first slot is read-only, and there is one.
const FRMW_ONE_READ_ONLY_SLOT: u8 = 1 << 0 | 1 << 1;
/// Log pages: there is one of the commands and their effects.
const LPA_EFFECTS: u8 = 1 << 1;
/// Log pages: parts of them can be read.
const LPA_EXTENDED_DATA: u8 = 1 << 2;
/// An I/O controller.
const CNTRLTYPE_IO: u8 = 1;
/// Required and maximum size of queue entries.
const fn entry_size(shift: u32) -> u8 {
    (shift << 4 | shift) as u8
}
const ONCS_COMPARE: u16 = 1 << 0;
const ONCS_DATASET_MANAGEMENT: u16 = 1 << 2;
const ONCS_WRITE_ZEROES: u16 = 1 << 3;
/// Features have a default and capabilities that can be asked for.
const ONCS_SAVE_SELECT: u16 = 1 << 4;
/// There is a write cache, and Flush can name all namespaces.
const VWC: u8 = 1 << 0 | 3 << 1;

/// Deallocated blocks read as zeros.
const DLFEAT_READ_ZEROES: u8 = 1 << 0;
/// Write Zeroes can deallocate.
const DLFEAT_WRITE_ZEROES: u8 = 1 << 3;

/// Type of a namespace descriptor with a UUID.
const NIDT_UUID: u8 = 3;
/// Bytes of a descriptor before the identifier.
const DESCRIPTOR_HEADER: usize = 4;

const UUID_SIZE: usize = 16;

/// What a controller is called besides its serial number. It keeps its names when it moves to a host
/// whose code would give others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// Model number.
    pub(crate) model: [u8; MODEL_SIZE],
    /// Firmware revision.
    pub(crate) firmware: [u8; FIRMWARE_SIZE],
}

impl Default for Names {
    fn default() -> Self {
        Self {
            model: MODEL,
            firmware: FIRMWARE,
        }
    }
}

fn namespace_uuid(serial: &[u8; SERIAL_SIZE]) -> [u8; UUID_SIZE] {
    uuid(digest(b"namespace", serial))
}

/// NVMe qualified name of the subsystem, section 7.9, with a UUID in its usual form.
fn subsystem(serial: &[u8; SERIAL_SIZE]) -> [u8; SUBSYSTEM_NAME_SIZE] {
    let mut name = [0; SUBSYSTEM_NAME_SIZE];
    let (prefix, text) = name.split_at_mut(SUBSYSTEM_PREFIX.len());
    prefix.copy_from_slice(SUBSYSTEM_PREFIX);

    let uuid = uuid(digest(b"subsystem", serial));
    let digits = uuid.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    let places = (0..UUID_TEXT_SIZE).filter(|at| !UUID_DASHES.contains(at));
    for (at, digit) in places.zip(digits) {
        text[at] = HEX_DIGITS[usize::from(digit)];
    }
    for at in UUID_DASHES {
        text[at] = b'-';
    }
    name
}

const SUBSYSTEM_PREFIX: &[u8] = b"nqn.2014-08.org.nvmexpress:uuid:";
const SUBSYSTEM_NAME_SIZE: usize = SUBSYSTEM_PREFIX.len() + UUID_TEXT_SIZE;
const UUID_TEXT_SIZE: usize = 36;
const UUID_DASHES: [usize; 4] = [8, 13, 18, 23];
const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Returns 16 bytes that follow from a serial number and tell its uses apart.
///
/// The bytes are a part of what guests know the device by, so they must never change: this is FNV-1a
/// with 64 bits, twice, and the finalizer of MurmurHash3 to spread short inputs.
fn digest(purpose: &[u8], serial: &[u8; SERIAL_SIZE]) -> [u8; 16] {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;

    let hash = |half: u8| {
        let mut hash = OFFSET_BASIS;
        for byte in purpose.iter().chain(serial).chain(&[half]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
        hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        (hash ^ hash >> 33).to_be_bytes()
    };
    let mut digest = [0; 16];
    digest[..8].copy_from_slice(&hash(0));
    digest[8..].copy_from_slice(&hash(1));
    digest
}

/// Makes a UUID of bytes: version 8, whose content its maker defines, RFC 9562.
fn uuid(mut bytes: [u8; UUID_SIZE]) -> [u8; UUID_SIZE] {
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

/// How long the medium of a store may need for all that was written, in microseconds: RTD3 resume and
/// entry latency, which drivers wait for at a shutdown. It is as long as enabling may take.
const FLUSH_TIME_US: u32 = READY_TIMEOUT as u32 * 500_000;

/// Describes the controller, figure 247.
pub(crate) fn controller(window: &mut Window<'_>, parameters: &Parameters, names: &Names) {
    // Vendor and subsystem vendor, as in configuration space.
    window.put_u16(0, VENDOR_REDHAT_QUMRANET);
    window.put_u16(2, VENDOR_REDHAT_QUMRANET);
    window.put(4, &parameters.serial);
    window.put(24, &names.model);
    window.put(64, &names.firmware);
    // IEEE at 73 stays 0: nobody who makes this controller has such an identifier.
    window.put_u8(77, TRANSFER_SHIFT as u8);
    window.put_u32(80, VERSION);
    // A shutdown waits until the medium has everything.
    if parameters.store != STORE_ZEROING {
        window.put_u32(84, FLUSH_TIME_US);
        window.put_u32(88, FLUSH_TIME_US);
    }
    window.put_u8(111, CNTRLTYPE_IO);

    window.put_u16(256, OACS_DOORBELL_BUFFER);
    window.put_u8(258, ABORT_LIMIT);
    window.put_u8(259, REQUESTS_MAX as u8 - 1);
    window.put_u8(260, FRMW_ONE_READ_ONLY_SLOT);
    window.put_u8(261, LPA_EFFECTS | LPA_EXTENDED_DATA);
    window.put_u8(262, ERROR_ENTRIES as u8 - 1);
    window.put_u16(266, TEMPERATURE_WARNING);
    window.put_u16(268, TEMPERATURE_CRITICAL);

    window.put_u8(512, entry_size(SQES));
    window.put_u8(513, entry_size(CQES));
    window.put_u32(516, NSID);
    window.put_u16(
        520,
        ONCS_COMPARE | ONCS_DATASET_MANAGEMENT | ONCS_WRITE_ZEROES | ONCS_SAVE_SELECT,
    );
    window.put_u8(525, VWC);
    window.put(768, &subsystem(&parameters.serial));
    // Power state 0 at 2048 claims nothing: no power, no latency.
}

/// Describes the namespace, figure 245.
pub(crate) fn namespace(window: &mut Window<'_>, parameters: &Parameters) {
    let blocks = parameters.blocks();
    // Size, capacity, and utilization: what is allocated is the store's own affair.
    for offset in [0, 8, 16] {
        window.put_u64(offset, blocks);
    }
    let dlfeat = match parameters.store {
        STORE_ZEROING => DLFEAT_READ_ZEROES | DLFEAT_WRITE_ZEROES,
        // A file system may not be able to punch a hole.
        _ => DLFEAT_WRITE_ZEROES,
    };
    window.put_u8(33, dlfeat);
    // NGUID at 104 and EUI64 at 120 stay 0: both begin with an identifier that the IEEE assigned to
    // whoever makes the controller. The namespace has a UUID instead, among the descriptors.
    // The only format: no metadata.
    window.put_u8(128 + 2, parameters.lba_shift);
}

/// Lists the namespaces that come after `nsid`, figure 241.
pub(crate) fn active_namespaces(window: &mut Window<'_>, nsid: u32) {
    if nsid < NSID {
        window.put_u32(0, NSID);
    }
}

/// Lists the names of the namespace, figure 244: its UUID.
pub(crate) fn descriptors(window: &mut Window<'_>, parameters: &Parameters) {
    window.put(0, &[NIDT_UUID, UUID_SIZE as u8]);
    window.put(DESCRIPTOR_HEADER, &namespace_uuid(&parameters.serial));
}
