// SPDX-License-Identifier: GPL-2.0

//! CRC-32C: published vectors, and agreement with another implementation.

use crate::common::pattern;
use ::crc32c::crc32c as reference;
use migration::stream::crc32c::crc32c;
use migration::stream::crc32c::Crc32c;

#[test]
fn published_vectors_come_out_right() {
    let ascending: Vec<u8> = (0..32).collect();
    let descending: Vec<u8> = (0..32).rev().collect();
    // RFC 3720, B.4, and the check value of the CRC catalogues.
    let vectors: [(&[u8], u32); 6] = [
        (b"", 0),
        (b"123456789", 0xe306_9283),
        (&[0; 32], 0x8a91_36aa),
        (&[0xff; 32], 0x62a8_ab43),
        (&ascending, 0x46dd_794e),
        (&descending, 0x113f_db5c),
    ];

    for (bytes, expected) in vectors {
        assert_eq!(
            crc32c(bytes),
            expected,
            "expected {expected:#010x} for {bytes:02x?}"
        );
    }
}

#[test]
fn every_length_and_alignment_agrees_with_another_implementation() {
    let bytes = pattern(80);
    for from in 0..9 {
        for until in from..bytes.len() {
            let bytes = &bytes[from..until];
            assert_eq!(crc32c(bytes), reference(bytes), "bytes {from}..{until}");
        }
    }
}

#[test]
fn pieces_give_the_checksum_of_the_whole() {
    let bytes = pattern(64);
    for first in 0..bytes.len() {
        for second in first..bytes.len() {
            let mut crc = Crc32c::new();
            crc.update(&bytes[..first]);
            crc.update(&bytes[first..second]);
            crc.update(&bytes[second..]);
            assert_eq!(
                crc.value(),
                reference(&bytes),
                "cut at {first} and {second}"
            );
        }
    }
}
