// SPDX-License-Identifier: GPL-2.0

//! The identifiers of the subsystem and of namespaces, which follow from the serial number.

use crate::parameters::SERIAL_SIZE;

/// Bytes of a UUID.
pub(crate) const UUID_SIZE: usize = 16;

/// Returns the UUID of namespace `nsid` of a controller. Controllers had one namespace at first, whose UUID stays.
pub(crate) fn namespace_uuid(serial: &[u8; SERIAL_SIZE], nsid: u32) -> [u8; UUID_SIZE] {
    const PURPOSE: &[u8; 9] = b"namespace";

    let mut purpose = [0; PURPOSE.len() + size_of::<u32>()];
    purpose[..PURPOSE.len()].copy_from_slice(PURPOSE);
    purpose[PURPOSE.len()..].copy_from_slice(&nsid.to_be_bytes());
    match nsid {
        0 | 1 => uuid(digest(PURPOSE, serial)),
        _ => uuid(digest(&purpose, serial)),
    }
}

/// Returns the NVMe qualified name of the subsystem, section 7.9, with a UUID as text.
pub(crate) fn subsystem(serial: &[u8; SERIAL_SIZE]) -> [u8; SUBSYSTEM_NAME_SIZE] {
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

/// Returns 16 bytes that follow from a serial number and differ by purpose.
///
/// Guests know the device by these bytes, so they must never change: this is FNV-1a with 64 bits, twice,
/// and the finalizer of MurmurHash3 to spread short inputs.
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

/// Returns a UUID of version 8, whose bytes the maker defines, RFC 9562.
fn uuid(mut bytes: [u8; UUID_SIZE]) -> [u8; UUID_SIZE] {
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}
