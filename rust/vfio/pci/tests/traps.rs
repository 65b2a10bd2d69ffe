// SPDX-License-Identifier: GPL-2.0

//! Traps against a set of the bytes that they have.

use std::collections::BTreeSet;

use proptest::prelude::*;
use vfio_pci_pure::traps::{
    Overlap,
    Trap,
    Traps, //
};

const BAR: u32 = 1;
const SIZE: u64 = 64;

/// Up to four traps of one BAR in order, by the distance to the trap before and the length, and one of another
/// BAR that covers everything.
fn traps() -> impl Strategy<Value = Vec<Trap>> {
    prop::collection::vec((0..8_u64, 1..8_u64), 0..=4).prop_map(|parts| {
        let mut end = 0;
        let mut traps: Vec<Trap> = parts
            .into_iter()
            .map(|(distance, len)| {
                let offset = end + distance;
                end = offset + len;
                Trap {
                    bar: BAR,
                    offset,
                    len,
                }
            })
            .collect();
        traps.push(Trap {
            bar: BAR + 1,
            offset: 0,
            len: SIZE,
        });
        traps
    })
}

fn bytes(traps: &[Trap]) -> BTreeSet<u64> {
    traps
        .iter()
        .filter(|trap| trap.bar == BAR)
        .flat_map(|trap| trap.offset..trap.offset + trap.len)
        .collect()
}

proptest! {
    #[test]
    fn an_access_is_within_or_overlaps_as_its_bytes_do(
        list in traps(),
        offset in 0..SIZE,
        len in 1..16_u64,
    ) {
        let these = Traps::new(list.iter().copied()).expect("they are in order");
        let trapped = bytes(&list);
        let hit = (offset..offset + len).filter(|byte| trapped.contains(byte)).count() as u64;
        let one = list.iter().any(|trap| {
            trap.bar == BAR && trap.offset <= offset && offset + len <= trap.offset + trap.len
        });

        let expected = match (hit, one) {
            (0, _) => Overlap::None,
            (_, true) => Overlap::Within,
            _ => Overlap::Partial,
        };
        prop_assert_eq!(these.overlap(BAR, offset, len), expected);
    }

    #[test]
    fn gaps_are_what_the_traps_leave(list in traps()) {
        let these = Traps::new(list.iter().copied()).expect("they are in order");
        let gaps: BTreeSet<u64> = these
            .gaps(BAR, SIZE)
            .flat_map(|(offset, len)| offset..offset + len)
            .collect();
        let rest: BTreeSet<u64> = (0..SIZE).filter(|byte| !bytes(&list).contains(byte)).collect();

        prop_assert_eq!(gaps, rest);
        prop_assert!(these.gaps(BAR, SIZE).all(|(_, len)| len != 0));
    }
}

#[test]
fn traps_out_of_order_are_refused() {
    let at = |offset, len| Trap {
        bar: BAR,
        offset,
        len,
    };

    assert!(Traps::new([at(8, 8), at(0, 8)].into_iter()).is_none());
    assert!(Traps::new([at(0, 9), at(8, 8)].into_iter()).is_none());
    assert!(Traps::new([at(0, 8), at(8, 8)].into_iter()).is_some());
}

#[test]
fn there_is_room_for_eight_traps() {
    let list = |count: u64| {
        (0..count).map(|index| Trap {
            bar: BAR,
            offset: 8 * index,
            len: 8,
        })
    };

    assert!(Traps::new(list(8)).is_some());
    assert!(Traps::new(list(9)).is_none());
}

#[test]
fn an_access_at_the_end_of_the_address_space_does_not_wrap() {
    let these = Traps::new(core::iter::once(Trap {
        bar: BAR,
        offset: 0,
        len: 8,
    }))
    .expect("one is in order");

    assert_eq!(these.overlap(BAR, u64::MAX - 1, 8), Overlap::None);
}
