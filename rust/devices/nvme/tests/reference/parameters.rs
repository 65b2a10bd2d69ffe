// SPDX-License-Identifier: GPL-2.0

//! The parameters of a controller: the possible ones work, and the others are refused.

use nvme::{
    Parameters,
    STORE_ZEROING, //
};

use crate::bench::parameters;
use crate::driver::{
    pattern,
    Driver,
    Setup,
    Sqe, //
};
use crate::spec::*;
use crate::whole::Controller;

const GIB: u64 = 1 << 30;
/// The most that a namespace has outside of memory.
const LARGEST: u64 = 1 << 53;
/// Some store whose content is not in memory.
const ELSEWHERE: u8 = STORE_ZEROING + 1;

/// Checks whether a controller can be made, and the refusal if not.
#[track_caller]
fn expect(parameters: Parameters, refusal: Option<&str>) {
    let seen = Controller::power_on(&parameters).map(drop);
    let seen = seen.map_err(|error| error.to_string());
    assert_eq!(seen.err().as_deref(), refusal, "{parameters:?}");
}

#[test]
fn memory_ends_sooner_than_a_file() {
    for (store, most) in [
        (STORE_ZEROING, 64 * GIB),
        (ELSEWHERE, LARGEST),
        (255, LARGEST),
    ] {
        for shift in [9, 12] {
            let with = |capacity| Parameters {
                capacity,
                store,
                ..parameters(shift)
            };
            for capacity in [1 << 20, (1 << 20) + 4096, most - 4096, most] {
                expect(with(capacity), None);
            }
            for capacity in [
                0,
                4096,
                (1 << 20) - 4096,
                (1 << 20) + 512,
                most - 512,
                most + 1,
                most + 4096,
                1 << 63,
                u64::MAX - 4095,
                u64::MAX,
            ] {
                let refusal = format!(
                    "capacity is {capacity} bytes instead of a multiple of 4096 from 1048576 to {most}"
                );
                expect(with(capacity), Some(&refusal));
            }
        }
    }
}

/// EDK II makes two pairs, and gives up a disk that has fewer.
#[test]
fn there_are_at_least_two_queue_pairs() {
    for queue_pairs in [0, 1, 2, 3, 15, 16, 17, u16::MAX] {
        let refusal = format!(
            "there are {queue_pairs} queue pairs instead of 2 to 16: UEFI firmware makes two"
        );
        let good = (2..=16).contains(&queue_pairs);
        let parameters = Parameters {
            queue_pairs,
            ..parameters(9)
        };
        expect(parameters, (!good).then_some(refusal.as_str()));
    }
}

/// A ready controller with a namespace whose end alone is kept.
fn huge(capacity: u64, shift: u8) -> Driver {
    let setup = Setup {
        lba_shift: shift,
        ..Setup::default()
    };
    let parameters = Parameters {
        capacity,
        store: ELSEWHERE,
        ..parameters(shift)
    };
    let mut driver = Driver::with_parameters(setup, parameters);
    driver.create_queues(1, 16);
    driver
}

const HUGE: [(u64, u8); 5] = [
    (64 * GIB + 4096, 9),
    (1 << 40, 9),
    (1 << 40, 12),
    (LARGEST, 9),
    (LARGEST, 12),
];

#[test]
fn the_end_of_a_huge_namespace_is_where_identify_says() {
    for (capacity, shift) in HUGE {
        let mut driver = huge(capacity, shift);
        let data = driver.identify(CNS_NS, 1);
        let blocks = capacity >> shift;
        for (what, at) in [("NSZE", 0), ("NCAP", 8), ("NUSE", 16)] {
            let bytes = data[at..at + 8].try_into().expect("8 bytes");
            assert_eq!(u64::from_le_bytes(bytes), blocks, "{what} of {capacity:#x}");
        }

        let block = driver.block();
        let bytes = pattern(3, 2 * block);
        driver.write(1, blocks - 2, &bytes);
        assert_eq!(
            driver.read(1, blocks - 2, 2),
            bytes,
            "last blocks of {capacity:#x}"
        );
        let end = driver.bench.disk.bytes.len() - 2 * block;
        assert_eq!(driver.bench.disk.bytes[end..], bytes, "where they are kept");
        let buffer = driver.filled(&bytes, 0);
        let with = |opcode| Sqe::new(opcode).nsid(1).data(&buffer);
        driver.good(1, with(CMD_COMPARE).blocks(blocks - 2, 2));
        driver.good(1, with(CMD_WRITE_ZEROES).blocks(blocks - 1, 1));
        assert_eq!(driver.read(1, blocks - 1, 1), vec![0; block], "zeros");

        for opcode in [CMD_READ, CMD_WRITE, CMD_COMPARE, CMD_WRITE_ZEROES] {
            for (start, count) in [
                (blocks, 1),
                (blocks - 1, 2),
                (u64::MAX, 1),
                (u64::MAX - 1, 2),
                (1 << (64 - u32::from(shift)), 1),
            ] {
                driver.bad(1, with(opcode).blocks(start, count), &[LBA_RANGE]);
            }
        }
    }
}

#[test]
fn ranges_of_a_huge_namespace_are_deallocated_once() {
    for (capacity, shift) in HUGE {
        let mut driver = huge(capacity, shift);
        let blocks = capacity >> shift;
        let count = u32::try_from(blocks).unwrap_or(u32::MAX);
        let start = blocks - u64::from(count);
        driver.write(1, blocks - 1, &pattern(5, 1 << shift));
        let mut range = [0; DSM_RANGE_SIZE];
        range[4..8].copy_from_slice(&count.to_le_bytes());
        range[8..].copy_from_slice(&start.to_le_bytes());
        let buffer = driver.filled(&range.repeat(256), 0);
        let sqe = Sqe::new(CMD_DSM)
            .nsid(1)
            .data(&buffer)
            .dword(10, 255)
            .dword(11, DSM_AD);
        driver.good(1, sqe);
        let length = u64::from(count) << shift;
        let times = (capacity / length).min(256);
        assert_eq!(
            driver.bench.disk.deallocated,
            times * length,
            "{count} blocks at {start} of {capacity:#x}, 256 times"
        );
        assert_eq!(
            driver.read(1, blocks - 1, 1),
            vec![0; 1 << shift],
            "the last block"
        );
    }
}
