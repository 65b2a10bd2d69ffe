// SPDX-License-Identifier: GPL-2.0

//! No page that the card writes to is missed by the dirty bitmap, and none is pinned in vain.

use std::collections::BTreeSet;

use device_model::hardware::{
    FollowDma,
    Hardware, //
};
use e1000e::{
    FollowError,
    Following, //
};
use proptest::prelude::*;

use crate::bench::{
    identity,
    packet,
    Format,
    Guest,
    Host,
    MEMORY, //
};
use crate::model::Memory;
use crate::spec::*;

fn set_up(format: Format) -> (Host, Guest) {
    let memory = Memory::new(MEMORY);
    let mut host = Host::new(memory.clone());
    let mut guest = Guest::new(memory);
    guest.set_up(&mut host, format, 32, 0);
    (host, guest)
}

fn pinned(host: &Host) -> BTreeSet<u64> {
    host.bitmap.pinned.keys().copied().collect()
}

/// A user's view of the guest's memory: what was written and has not been reported.
struct Oracle {
    unreported: BTreeSet<u64>,
}

impl Oracle {
    fn begin(host: &mut Host) -> Self {
        host.memory.take_written();
        Self {
            unreported: BTreeSet::new(),
        }
    }

    /// Reads the bitmap: what it has is sent again.
    fn read(&mut self, host: &mut Host) {
        self.unreported.extend(host.memory.take_written());
        for page in host.bitmap.take() {
            self.unreported.remove(&page);
        }
    }

    /// The last reading, after the stop.
    fn end(mut self, host: &mut Host) -> Result<(), BTreeSet<u64>> {
        self.read(host);
        if self.unreported.is_empty() {
            Ok(())
        } else {
            Err(self.unreported)
        }
    }
}

const FORMATS: [Format; 6] = [
    Format::Legacy(0),
    Format::Legacy(0x0003_0000),
    Format::Extended(0),
    // 16 KiB.
    Format::Extended(RCTL_BSEX | 0x0001_0000),
    // 3 KiB, by FLXBUF.
    Format::Extended(0x1800_0000),
    Format::Split,
];

#[test]
fn exactly_the_rings_and_what_is_posted_are_pinned() {
    for format in FORMATS {
        let (mut host, mut guest) = set_up(format);
        guest.post(&mut host, 0, 9, 1234);
        guest.post(&mut host, 1, 5, 7);
        host.follow();
        assert_eq!(
            pinned(&host),
            guest.writable(false),
            "{format:?}: at the start"
        );
        for round in 0..20 {
            guest.post(&mut host, round % 2, 4, round as u64 * 517);
            assert_eq!(pinned(&host), guest.writable(false), "{format:?}: posted");
            for counter in 0..3 {
                host.model.arrive(&packet(counter, round % 2, 700));
            }
            host.model.run(1_000);
            guest.reap();
        }
        host.run(|controller, context| controller.unfollow(context));
        assert!(
            host.bitmap.pinned.is_empty(),
            "{format:?}: all are unpinned"
        );
        host.expect_no_faults();
    }
}

#[test]
fn a_buffer_completed_and_posted_again_between_two_readings_is_reported() {
    let (mut host, mut guest) = set_up(Format::Extended(0));
    guest.post(&mut host, 0, 1, 0);
    host.follow();
    host.bitmap.take();
    let first = guest.rx[0].buffers[&0][0].0 / PAGE;
    host.model.arrive(&packet(1, 0, 100));
    host.model.run(1_000);
    guest.reap();
    for _ in 0..40 {
        guest.post(&mut host, 0, 1, 0);
        host.model.arrive(&packet(1, 0, 100));
        host.model.run(1_000);
        guest.reap();
    }
    assert!(
        !pinned(&host).contains(&first),
        "the descriptor has another buffer"
    );
    assert!(
        host.bitmap.take().contains(&first),
        "the bitmap has the page"
    );
    assert!(!host.bitmap.take().contains(&first), "and only once");
}

#[test]
fn pages_are_pinned_before_the_function_may_write_to_them() {
    let (mut host, mut guest) = set_up(Format::Extended(0));
    host.follow();
    for count in 1..6 {
        let before = host.bitmap.count.get();
        guest.post(&mut host, 0, count, 0);
        let at_tail = *host.model.pins_at_tail.last().unwrap();
        assert!(
            at_tail - before >= count as usize,
            "{count} buffers are pinned in time"
        );
        assert_eq!(at_tail, host.bitmap.count.get(), "and none later");
    }
}

#[test]
fn a_reset_behind_the_trap_is_noticed() {
    let (mut host, mut guest) = set_up(Format::Extended(0));
    guest.post(&mut host, 0, 31, 0);
    host.follow();
    let old = guest.writable(false);
    // CTRL is not trapped.
    guest.set_up(&mut host, Format::Legacy(0), 16, 0x2000);
    assert_eq!(pinned(&host), guest.writable(false), "the new rings alone");
    guest.post(&mut host, 0, 15, 99);
    assert_eq!(pinned(&host), guest.writable(false));
    assert_ne!(old, guest.writable(false));
    host.expect_no_faults();
}

#[test]
fn buffers_posted_before_their_size_is_set_are_pinned_as_large_as_they_can_become() {
    for (format, size) in [
        (Format::Extended(0x0003_0000), RCTL_BSEX | 0x0001_0000),
        (Format::Split, RCTL_DTYP_SPLIT),
    ] {
        let (mut host, mut guest) = set_up(format);
        host.follow();
        let control = host.read(RCTL);
        host.write(RCTL, 0);
        guest.post(&mut host, 0, 8, 0);
        let mut oracle = Oracle::begin(&mut host);
        // Only now is the size set, and nothing that is trapped is written until the next reset.
        host.write(RCTL, control & !0x0003_0000 | size);
        host.model.arrive(&packet(1, 0, 5000));
        host.model.run(1_000);
        assert_ne!(host.model.peek(RDH), 0, "the packet is received");
        guest.set_up(&mut host, Format::Extended(0), 16, 0);
        host.quiesce().unwrap();
        oracle.read(&mut host);
        oracle.end(&mut host).expect("all of the buffers");
        host.expect_no_faults();
    }
}

#[test]
fn buffers_that_become_larger_after_they_were_posted_are_pinned_at_the_stop() {
    let (mut host, mut guest) = set_up(Format::Extended(0x0003_0000));
    guest.post(&mut host, 0, 8, 0);
    host.follow();
    let control = host.read(RCTL);
    host.write(RCTL, control & !RCTL_EN);
    let mut oracle = Oracle::begin(&mut host);
    // 256 bytes become 16 KiB, and nothing that is trapped is written.
    host.write(RCTL, control & !0x0003_0000 | RCTL_BSEX | 0x0001_0000);
    host.model.arrive(&packet(1, 0, 9000));
    host.model.run(1_000);
    oracle.read(&mut host);
    assert!(!oracle.unreported.is_empty(), "the pages are not known yet");
    host.quiesce().unwrap();
    oracle.end(&mut host).expect("they are known at the stop");
    host.expect_no_faults();
}

#[test]
fn a_write_to_psrctl_is_looked_at_as_it_is_trapped() {
    let (mut host, mut guest) = set_up(Format::Split);
    host.follow();
    host.write(RCTL, 0);
    guest.post(&mut host, 0, 1, 0);
    let before = pinned(&host).len();
    host.write(PSRCTL, 0x0002_3f02);
    assert!(
        pinned(&host).len() > before + 10,
        "the buffers may have 63 KiB"
    );
    host.expect_no_faults();
}

#[test]
fn pages_that_are_mapped_later_are_pinned_later() {
    let (mut host, mut guest) = set_up(Format::Extended(0));
    host.bitmap.unmapped = (0..4096).collect();
    guest.post(&mut host, 0, 8, 0);
    host.follow();
    assert!(host.bitmap.pinned.is_empty());
    let mut oracle = Oracle::begin(&mut host);
    host.bitmap.unmapped.clear();
    host.model.arrive(&packet(1, 0, 900));
    host.model.run(1_000);
    host.quiesce().unwrap();
    oracle.read(&mut host);
    oracle.end(&mut host).expect("pinned at the stop");
    assert_eq!(pinned(&host), guest.writable(false));
}

/// Unmaps `count` pages from `first` on and maps them again, as a VMM does that splits or joins what it maps. No
/// packet comes in between. A user reads the bitmap of memory before it is unmapped.
fn map_anew(host: &mut Host, first: u64, count: u64) {
    for page in first..first + count {
        // type1 asks for all pins in the range to be dropped.
        host.bitmap.pinned.remove(&page);
    }
    host.controller.unmapped(first, count);
    host.bitmap.take();
}

#[test]
fn a_buffer_mapped_anew_and_replaced_after_it_was_filled_is_reported() {
    for format in FORMATS {
        let (mut host, mut guest) = set_up(format);
        guest.post(&mut host, 0, 4, 0);
        host.follow();
        let mut oracle = Oracle::begin(&mut host);
        map_anew(&mut host, 0, MEMORY as u64 / PAGE);
        for counter in 0..60 {
            host.model.arrive(&packet(counter, 0, 900));
            host.model.run(1_000);
            guest.reap();
            guest.post(&mut host, 0, 1, 0);
        }
        host.quiesce().unwrap();
        oracle.read(&mut host);
        let missed = oracle.end(&mut host);
        assert_eq!(missed, Ok(()), "{format:?}: pages that were missed");
        host.expect_no_faults();
    }
}

#[test]
fn rings_mapped_anew_and_moved_are_reported() {
    for format in FORMATS {
        let (mut host, mut guest) = set_up(format);
        guest.post(&mut host, 0, 4, 0);
        host.follow();
        let mut oracle = Oracle::begin(&mut host);
        map_anew(&mut host, 0, MEMORY as u64 / PAGE);
        host.model.arrive(&packet(1, 0, 900));
        guest.send(&mut host, 0, 100, 1, false);
        host.model.run(1_000);
        guest.set_up(&mut host, format, 16, 0x4000);
        host.quiesce().unwrap();
        oracle.read(&mut host);
        let missed = oracle.end(&mut host);
        assert_eq!(missed, Ok(()), "{format:?}: pages that were missed");
        host.expect_no_faults();
    }
}

#[test]
fn pages_that_are_unmapped_are_not_unpinned_twice() {
    let (mut host, mut guest) = set_up(Format::Split);
    guest.post(&mut host, 0, 8, 0);
    host.follow();
    for page in pinned(&host) {
        // type1 asks for all pins in the range to be dropped.
        host.bitmap.pinned.remove(&page);
        host.bitmap.unmapped.insert(page);
        host.controller.unmapped(page, 1);
    }
    guest.set_up(&mut host, Format::Extended(0), 16, 0);
    guest.post(&mut host, 0, 8, 0);
    host.run(|controller, context| controller.unfollow(context));
    assert!(host.bitmap.pinned.is_empty());
}

#[test]
fn what_cannot_be_followed_is_told() {
    let (mut host, mut guest) = set_up(Format::Extended(0));
    host.bitmap.until_failure = Some(3);
    let failed = host.run(|controller, context| controller.follow(context));
    assert!(
        matches!(failed, Err(FollowError::Page { .. })),
        "{failed:?}"
    );
    assert!(host.bitmap.pinned.is_empty(), "nothing stays pinned");

    host.bitmap.until_failure = None;
    host.follow();
    host.bitmap.until_failure = Some(2);
    guest.post(&mut host, 0, 8, 0);
    assert!(matches!(
        host.controller.lost(),
        Some(FollowError::Page { .. })
    ));
    assert_eq!(host.read(RDT), 8, "the function has the write nevertheless");

    let (mut host, _) = set_up(Format::Extended(0));
    host.follow();
    host.write(RCTL, 0);
    host.write(RDLEN, 16 * 264);
    host.write(RDT, 100);
    assert_eq!(
        host.controller.lost().unwrap().to_string(),
        "receive ring 0 has 264 descriptors, and only 256 can be followed"
    );

    let (mut host, _) = set_up(Format::Split);
    host.follow();
    host.write(RDT, 3);
    assert!(matches!(
        host.controller.lost(),
        Some(FollowError::HalfDescriptor { queue: 0 })
    ));

    let (mut host, _) = set_up(Format::Extended(0));
    host.follow();
    host.write(RCTL, 0);
    host.write(RDBAH, 0x7000_0000);
    host.write(RDT, 3);
    assert!(matches!(
        host.controller.lost(),
        Some(FollowError::Descriptors {
            address: 0x7000_0000_0001_0000
        })
    ));
}

#[test]
fn a_tail_outside_of_a_ring_that_is_being_set_up_is_looked_at_again() {
    let (mut host, guest) = set_up(Format::Extended(0));
    host.follow();
    host.write(RCTL, 0);
    host.write(RDLEN, 0);
    for unit in 0..20 {
        guest
            .memory
            .put64(guest.rx[0].base + 16 * unit, 0x20_0000 + 4096 * unit);
    }
    host.write(RDT, 20);
    host.write(RDLEN, 16 * 24);
    assert_eq!(host.controller.lost(), None);
    assert!((0..20).all(|unit| host.bitmap.pinned.contains_key(&(0x200 + unit))));

    // A tail that stays outside matters only if the receiver is enabled.
    host.write(RDT, 77);
    host.quiesce().unwrap();
    assert_eq!(host.controller.lost(), None);
    host.resume().unwrap();
    host.write(RCTL, RCTL_EN);
    host.quiesce().unwrap();
    assert!(matches!(
        host.controller.lost(),
        Some(FollowError::Tail {
            queue: 0,
            tail: 77,
            ..
        })
    ));
}

#[test]
fn a_write_to_the_head_begins_anew() {
    let (mut host, mut guest) = set_up(Format::Extended(0));
    guest.post(&mut host, 0, 31, 0);
    host.follow();
    guest.set_up(&mut host, Format::Extended(0), 32, 0);
    host.write(RCTL, 0);
    host.write(TCTL, 0);
    host.write(CTRL, CTRL_ONE | CTRL_RST);
    host.model.run(30_000);
    host.read(CTRL);
    for unit in 0..32 {
        guest
            .memory
            .put64(guest.rx[0].base + 16 * unit, 0x30_0000 + 4096 * unit);
    }
    host.write(RDBAL, guest.rx[0].base as u32);
    host.write(RDLEN, 512);
    host.write(RDT, 4);
    host.write(RDH, 30);
    // With the receiver enabled it is known how large buffers are.
    host.write(RCTL, RCTL_EN);
    host.write(RDT, 4);
    let buffers: BTreeSet<_> = pinned(&host).range(0x300..).copied().collect();
    assert_eq!(buffers, [0x300, 0x301, 0x302, 0x303, 0x31e, 0x31f].into());
    host.expect_no_faults();
}

#[test]
fn with_its_page_trapped_a_transmit_ring_of_its_own_is_followed() {
    let memory = Memory::new(MEMORY);
    let mut host = Host::with(memory.clone(), identity(), Following::BothTrapped);
    let mut guest = Guest::new(memory);
    guest.set_up(&mut host, Format::Extended(0), 16, 0);
    host.follow();
    let mut oracle = Oracle::begin(&mut host);
    // Twice another transmit ring, and no write to a receive ring.
    for base in [0x6_0000, 0x7_0000] {
        host.write(TCTL, 0);
        guest.tx[0].base = base;
        guest.memory.put(base, &[0; 256]);
        host.write(TDBAL, base as u32);
        host.write(TCTL, 0x0003_f0fa);
        guest.send(&mut host, 0, 100, 1, false);
        guest.send(&mut host, 0, 100, 1, false);
        host.model.run(1_000);
        assert_eq!(pinned(&host), guest.writable(false));
    }
    host.quiesce().unwrap();
    oracle.read(&mut host);
    oracle.end(&mut host).expect("both rings");
    host.expect_no_faults();
}

#[test]
fn the_destination_follows_what_it_was_given() {
    let (mut source, mut guest) = set_up(Format::Split);
    guest.post(&mut source, 0, 5, 3);
    source.quiesce().unwrap();
    let state = source.save().unwrap();
    let mut host = Host::new(source.memory.clone());
    host.follow();
    host.quiesce().unwrap();
    host.apply(&state).unwrap();
    assert_eq!(pinned(&host), guest.writable(false));
    host.run(|controller, context| controller.reset(context))
        .unwrap();
    assert!(pinned(&host).is_empty(), "nothing after a reset");
}

#[derive(Clone, Debug)]
enum Step {
    Post(usize, u32, u64),
    Arrive(usize, usize),
    Send(usize, usize, u32),
    Run(u32),
    Reap,
    Read,
    SetUp(usize, u32, u64),
    Pause,
    MapAnew(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2usize, 1..20u32, 0..2048u64).prop_map(|(q, n, s)| Step::Post(q, n, s)),
        6 => (0..2usize, 64..5000usize).prop_map(|(q, n)| Step::Arrive(q, n)),
        3 => (0..2usize, 64..1500usize, 1..4u32).prop_map(|(q, n, p)| Step::Send(q, n, p)),
        5 => (1..300u32).prop_map(Step::Run),
        4 => Just(Step::Reap),
        3 => Just(Step::Read),
        1 => (0..FORMATS.len(), 1..5u32, 0..64u64).prop_map(|(f, n, s)| Step::SetUp(f, 8 * n, 128 * s)),
        1 => Just(Step::Pause),
        1 => (0..MEMORY as u64 / PAGE, 1..512u64).prop_map(|(first, count)| Step::MapAnew(first, count)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_write_of_the_card_is_reported(
        format in 0..FORMATS.len(),
        before in prop::collection::vec(step(), 0..30),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let (mut host, mut guest) = set_up(FORMATS[format]);
        let mut oracle = None;
        let mut counter = 0;

        for (number, step) in before.iter().chain(&steps).enumerate() {
            if number == before.len() {
                host.follow();
                oracle = Some(Oracle::begin(&mut host));
            }
            match *step {
                Step::Post(queue, count, shift) => {
                    guest.post(&mut host, queue, count, shift);
                    if oracle.is_some() {
                        let allowed = guest.writable(false);
                        let vain: Vec<_> = pinned(&host).difference(&allowed).copied().collect();
                        // A buffer that was posted before following began, and has been filled, is not
                        // pinned, and what has taken the place of its address may be.
                        if before.is_empty() {
                            prop_assert!(vain.is_empty(), "step {}: pinned in vain: {:x?}", number, vain);
                        }
                    }
                }
                Step::Arrive(queue, len) => {
                    counter += 1;
                    host.model.arrive(&packet(counter, queue, len));
                }
                Step::Send(queue, len, parts) => guest.send(&mut host, queue, len, parts, false),
                Step::Run(time) => host.model.run(time),
                Step::Reap => guest.reap(),
                Step::Read => {
                    if let Some(oracle) = &mut oracle {
                        oracle.read(&mut host);
                    }
                }
                Step::SetUp(format, units, shift) => {
                    guest.set_up(&mut host, FORMATS[format], units, shift);
                }
                Step::Pause => {
                    host.quiesce().unwrap();
                    host.resume().unwrap();
                }
                Step::MapAnew(first, count) => {
                    if let Some(oracle) = &mut oracle {
                        oracle.read(&mut host);
                        map_anew(&mut host, first, count);
                    }
                }
            }
        }
        host.quiesce().unwrap();
        if let Some(oracle) = oracle {
            let missed = oracle.end(&mut host);
            prop_assert_eq!(missed, Ok(()), "pages that were written and not reported");
        }
        prop_assert_eq!(&host.model.faults, &Vec::<String>::new());
        prop_assert_eq!(host.controller.lost(), None);
        host.run(|controller, context| controller.unfollow(context));
        prop_assert!(host.bitmap.pinned.is_empty(), "all are unpinned");
    }
}
