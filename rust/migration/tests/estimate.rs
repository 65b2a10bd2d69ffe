// SPDX-License-Identifier: GPL-2.0

//! The estimates that a user gets, against the bytes that come.

use std::sync::LazyLock;

use crate::common::pattern;
use crate::common::Memory;
use crate::common::Rig;
use crate::common::PRE_COPY;
use migration::v2::file::data_size;
use migration::v2::file::Read;
use migration::BLOCK_SIZE;
use proptest::collection::vec;
use proptest::prelude::*;
use vfio_uapi::v2::MigState;
use vfio_uapi::v2::PrecopyInfo;

const BLOCK: u64 = BLOCK_SIZE as u64;

/// The size of a ZEROES record: its header, and a length.
const ZEROES: u64 = 32 + 8;

/// The most blocks of a ZEROES record.
const ZEROES_MAX: u64 = 256;

/// The most headers and payload of a stream besides its blocks: RESTART and HEADER.
const OPENING: u64 = 32 + 32 + 86;

/// The fewest dirty blocks that make pre-copy begin anew.
const REINIT_MIN: u64 = 1024;

fn fill(rig: &mut Rig, index: u64) {
    static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| pattern(BLOCK_SIZE));

    let mut bytes = PATTERN.clone();
    bytes[..8].copy_from_slice(&(index + 1).to_le_bytes());
    rig.disk().write(index * BLOCK, &bytes);
}

/// A device with `blocks` blocks; those in `written` have content.
fn source(window: usize, blocks: u64, written: impl IntoIterator<Item = u64>) -> Rig {
    let mut rig = Rig::with_disk(&pattern(100), window, blocks);
    for index in written {
        fill(&mut rig, index);
    }
    rig
}

/// A user of a data file, as the kernel serves it: the file takes a buffer of `window` bytes from the device at
/// once, and the user reads that in smaller pieces.
struct File {
    rig: Rig,
    window: usize,
    /// Whether the user has opted in to new initial parts.
    opted_in: bool,
    /// Bytes that were read.
    read: u64,
}

impl File {
    fn new(rig: Rig, window: usize) -> Self {
        let mut file = Self {
            rig,
            window,
            opted_in: false,
            read: 0,
        };
        file.arc(MigState::PreCopy);
        file
    }

    fn arc(&mut self, to: MigState) {
        self.rig.arc(to).expect("an arc");
    }

    fn info(&mut self) -> PrecopyInfo {
        let (window, opted_in) = (self.window, self.opted_in);
        self.rig
            .with_port(|engine, file, port| file.precopy_info(engine, port, window, opted_in))
            .expect("in pre-copy")
    }

    /// Reads up to `most` bytes. Returns whether any came.
    fn read(&mut self, most: u64) -> bool {
        let rig = &mut self.rig;
        let mut left = most;
        while left > 0 {
            if rig.file.unread() == 0 {
                let mut window = Memory {
                    bytes: vec![0; self.window],
                };
                let read = rig.with_port(|engine, file, port| file.read(engine, port, &mut window));
                match read.expect("reading the file") {
                    Read::Bytes(bytes) => {
                        assert_eq!(bytes, rig.file.unread(), "bytes in the file");
                    }
                    Read::Later | Read::Ended => break,
                }
            }
            let piece = left.min(rig.file.unread());
            rig.file.keep(rig.file.unread() - piece);
            left -= piece;
        }
        self.read += most - left;
        left < most
    }

    /// Reads until no more bytes come.
    fn read_all(&mut self) {
        while self.read(1 << 20) {}
    }
}

/// The most bytes that it may take to send blocks with content: a block has a header of its own, and
/// one for each piece of it after the first.
fn price(window: usize) -> u64 {
    let pieces = (BLOCK - 1).div_ceil(window as u64 - 32);
    BLOCK + 32 * (1 + pieces)
}

#[test]
fn empty_blocks_count_as_what_is_sent_of_them() {
    let blocks = 100_000;
    let mut rig = source(1 << 16, blocks, (0..blocks).step_by(25));
    rig.go(&[PRE_COPY]);
    rig.drain();
    // One run of 4,000 blocks that had content, alone; and 100 that adjoin.
    for index in 0..blocks {
        rig.disk().discard(index);
    }
    assert_eq!(
        rig.pending(),
        blocks / 25 * ZEROES,
        "blocks that stand alone"
    );
    assert_eq!(rig.drain().len() as u64, blocks / 25 * ZEROES);
    assert_eq!(rig.pending(), 0);

    for (len, records) in [(1, 1), (256, 1), (257, 2), (512, 2), (513, 3), (2000, 8)] {
        for index in 0..len {
            fill(&mut rig, 500 + index);
        }
        rig.drain();
        // From the front.
        fill(&mut rig, 0);
        rig.drain();
        for index in 0..len {
            rig.disk().discard(500 + index);
        }
        assert_eq!(rig.pending(), records * ZEROES, "{len} blocks that adjoin");
        assert_eq!(rig.drain().len() as u64, records * ZEROES);
    }
}

#[test]
fn a_run_of_empty_blocks_that_is_begun_in_its_middle_takes_one_record_more() {
    let mut rig = source(1 << 16, 100, 0..100);
    rig.go(&[PRE_COPY]);
    // To the middle, and not further.
    while rig.disk().dirty_count() > 50 {
        rig.look();
        rig.pending();
    }
    let mut rest = rig.drain();
    fill(&mut rig, 49);
    rest.extend(rig.drain());
    for index in 0..100 {
        rig.disk().discard(index);
    }
    assert_eq!(rig.pending(), 2 * ZEROES, "pending, from block 50 on");
    assert_eq!(rig.drain().len() as u64, 2 * ZEROES);
}

#[test]
fn pre_copy_converges_though_the_device_trims_all_the_time() {
    let blocks = 20_000;
    let mut file = File::new(source(4096, blocks, 0..blocks), 1 << 16);
    file.read_all();
    for round in 0..50 {
        // A fifth of the storage is trimmed, a part of that written, and a part of what was written stays.
        let first = round * 397 % blocks;
        for index in (first..first + blocks / 5).map(|index| index % blocks) {
            file.rig.disk().discard(index);
        }
        fill(&mut file.rig, first);
        let info = file.info();
        let most = price(1 << 16) + 2 * (1 + blocks / 5 / ZEROES_MAX) * ZEROES + 2 * ZEROES;
        assert!(
            info.dirty_bytes <= most,
            "round {round}: {info:?}, expected {most} at most"
        );
        let size = file
            .rig
            .with_port(|engine, _, port| data_size(engine, port, 1 << 16));
        assert!(
            size <= most + 7000,
            "round {round}: {size} in stop-and-copy"
        );
        file.read_all();
        assert_eq!(file.info(), PrecopyInfo::default(), "round {round}");
    }
}

#[test]
fn what_was_never_written_costs_nothing_and_what_is_written_with_zeros_is_not_empty() {
    let mut rig = source(1 << 16, 1000, []);
    rig.go(&[PRE_COPY]);
    rig.drain();
    for index in 0..1000 {
        rig.disk().discard(index);
    }
    assert_eq!(rig.pending(), 0, "nothing was there");
    // This storage does not look at what is written.
    rig.disk().write(0, &vec![0; 100 * BLOCK_SIZE]);
    assert_eq!(rig.pending(), 100 * price(1 << 16));
    assert_eq!(rig.drain().len() as u64, ZEROES, "one record of zeros");
}

#[test]
fn a_new_initial_part_is_told_once_to_who_has_opted_in() {
    let blocks = 5000;
    for opted_in in [false, true] {
        let mut file = File::new(source(4096, blocks, 0..4000), 1 << 16);
        file.opted_in = opted_in;
        let first = file.info();
        assert!(!first.reinit, "the first initial part is no new one");
        file.read_all();
        (0..2000).for_each(|index| fill(&mut file.rig, index));
        let half = file.info();
        assert!(
            !half.reinit && half.initial_bytes == 0,
            "{half:?}: half of it"
        );
        assert!(file.read(1), "a byte of it");
        file.read(file.rig.file.unread());
        (0..20).for_each(|index| fill(&mut file.rig, index));
        fill(&mut file.rig, 4500);
        let info = file.info();
        assert_eq!(info.reinit, opted_in, "{info:?}: more than half of it");
        let bytes = info.initial_bytes + info.dirty_bytes;
        assert!(bytes > 2000 * BLOCK, "{info:?}: more than half of it");
        let expected = if opted_in { (bytes, 0) } else { (0, bytes) };
        assert_eq!((info.initial_bytes, info.dirty_bytes), expected);
        let again = file.info();
        assert!(!again.reinit, "{again:?}: told once");
        assert_eq!((again.initial_bytes, again.dirty_bytes), expected);
        if opted_in {
            // The estimate is of the new initial part.
            fill(&mut file.rig, 4600);
            let info = file.info();
            assert_eq!(info.dirty_bytes, price(1 << 16), "{info:?}");
            assert_eq!(info.initial_bytes, bytes, "{info:?}");
        }
        file.read_all();
        assert_eq!(file.info(), PrecopyInfo::default());
    }
}

#[test]
fn there_is_no_new_initial_part_where_that_is_not_worth_while() {
    let rewrite = |file: &mut File, blocks: u64| {
        (0..blocks).for_each(|index| fill(&mut file.rig, index));
        file.info().reinit
    };
    // Too few blocks, though all of the storage and more.
    for (blocks, expected) in [(REINIT_MIN - 1, false), (REINIT_MIN, true)] {
        let mut file = File::new(source(4096, 5000, 0..10), 1 << 16);
        file.opted_in = true;
        file.read_all();
        assert_eq!(
            rewrite(&mut file, blocks),
            expected,
            "{blocks} were written"
        );
    }

    // Not where the user relies on the answer that it got.
    let mut file = File::new(source(4096, 5000, 0..5000), 1 << 16);
    file.opted_in = true;
    file.read_all();
    assert_eq!(file.info(), PrecopyInfo::default(), "what it was told");
    assert!(!rewrite(&mut file, 5000), "nothing was read since");
    assert!(!file.info().reinit, "nor since then");
    assert!(file.read(1), "the user goes on reading");
    assert!(file.info().reinit, "it was told of much, and has read");

    // An attempt to read is enough, if no bytes are left.
    let mut file = File::new(source(4096, 5000, 0..5000), 1 << 16);
    file.opted_in = true;
    file.read_all();
    assert_eq!(file.info(), PrecopyInfo::default(), "what it was told");
    assert!(!file.read(1), "there is nothing to read");
    assert!(rewrite(&mut file, 5000), "the user has tried to read");

    // Not before the initial part was read, to the last byte.
    let mut file = File::new(source(4096, 5000, 0..5000), 1 << 16);
    file.opted_in = true;
    while file.info().initial_bytes > 100 {
        assert!(!rewrite(&mut file, 2600), "it is not read");
        let some = file.info().initial_bytes;
        file.read(some.saturating_sub(100).clamp(1, 1 << 20));
    }
    (0..2600).for_each(|index| fill(&mut file.rig, index));
    let begins = loop {
        let info = file.info();
        if info.reinit || info.initial_bytes == 0 {
            break info.reinit;
        }
        file.read(1);
    };
    assert!(begins, "it is read, and more than half of it is written");

    // Blocks that were emptied have no content to send.
    let mut file = File::new(source(4096, 5000, 0..5000), 1 << 16);
    file.opted_in = true;
    file.read_all();
    (0..5000).for_each(|index| file.rig.disk().discard(index));
    assert!(!file.info().reinit, "it is empty");

    // Not while the device is in P2P: the user is about to stop it.
    let mut file = File::new(source(4096, 5000, 0..5000), 1 << 16);
    file.opted_in = true;
    file.read_all();
    (0..5000).for_each(|index| fill(&mut file.rig, index));
    file.arc(MigState::PreCopyP2p);
    assert!(!file.info().reinit, "it is quiet");
    file.arc(MigState::PreCopy);
    assert!(file.read(1), "the user goes on reading");
    assert!(file.info().reinit, "it is not any more");
}

#[test]
fn new_initial_parts_come_to_an_end_however_busy_the_device_is() {
    let mut file = File::new(source(4096, 2000, 0..2000), 1 << 16);
    file.opted_in = true;
    let mut parts = 0;
    for _ in 0..20 {
        // The whole storage, each time that it has been read.
        file.read_all();
        (0..2000).for_each(|index| fill(&mut file.rig, index));
        parts += u32::from(file.info().reinit);
    }
    assert_eq!(parts, 3, "new initial parts");
    assert_eq!(file.info().initial_bytes, 0);

    // The next session has initial parts of its own.
    file.arc(MigState::Running);
    file.arc(MigState::PreCopy);
    assert!(!file.info().reinit, "the first part of a session");
    file.read_all();
    (0..2000).for_each(|index| fill(&mut file.rig, index));
    assert!(file.info().reinit, "a new part of the next session");
}

#[test]
fn a_new_generation_is_a_new_initial_part() {
    for blocks in [None, Some(10)] {
        let mut rig = Rig::new(&pattern(100), 4096);
        if let Some(blocks) = blocks {
            rig = source(4096, blocks, 0..3);
        }
        let mut file = File::new(rig, 1 << 16);
        file.opted_in = true;
        let first = file.info();
        file.read_all();
        file.arc(MigState::StopCopy);
        file.read_all();
        // The kernel does not ask for this.
        file.arc(MigState::PreCopy);
        let info = file.info();
        assert!(info.reinit, "{info:?} after a restart");
        assert_eq!(info.initial_bytes, first.initial_bytes + 32, "RESTART");
        assert_eq!(info.dirty_bytes, 0, "{info:?} after a restart");
        assert!(!file.info().reinit, "told once");
    }
}

#[test]
fn what_waits_in_the_file_is_of_the_new_initial_part() {
    let blocks = 4000;
    let mut file = File::new(source(4096, blocks, 0..blocks), 1 << 16);
    file.opted_in = true;
    file.read_all();
    (0..blocks / 2).for_each(|index| fill(&mut file.rig, index));
    assert!(!file.info().reinit, "half of it");
    assert!(file.read(1), "a byte of what was changed");
    (0..blocks).for_each(|index| fill(&mut file.rig, index));
    assert!(file.read(1), "another byte");
    let waiting = file.rig.file.unread();
    let info = file.info();
    assert!(info.reinit, "{info:?}");
    // A part of a block as well.
    let expected = waiting + blocks * price(1 << 16);
    assert!(
        (expected..expected + price(1 << 16)).contains(&info.initial_bytes),
        "{info:?}, {waiting} bytes wait"
    );
    assert_eq!(info.dirty_bytes, 0);
}

/// An event of the storage.
#[derive(Clone, Debug)]
enum Act {
    Write { first: u64, count: u64 },
    WriteZeros { index: u64 },
    WritePart { index: u64 },
    Discard { first: u64, count: u64 },
    Read { bytes: u64 },
}

const BLOCKS: u64 = 1200;

fn act(reads: u64) -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..BLOCKS, 1..40u64).prop_map(|(first, count)| Act::Write { first, count }),
        1 => (0..BLOCKS).prop_map(|index| Act::WriteZeros { index }),
        1 => (0..BLOCKS).prop_map(|index| Act::WritePart { index }),
        3 => (0..BLOCKS, 1..600u64).prop_map(|(first, count)| Act::Discard { first, count }),
        4 => (1..reads).prop_map(|bytes| Act::Read { bytes }),
    ]
}

fn windows() -> impl Strategy<Value = usize> {
    prop_oneof![256..600usize, 600..9000usize, Just(1 << 16)]
}

impl File {
    fn act(&mut self, act: &Act) {
        let disk = self.rig.disk();
        match *act {
            Act::Write { first, count } => {
                let blocks = first..BLOCKS.min(first + count);
                blocks.for_each(|index| fill(&mut self.rig, index));
            }
            Act::WriteZeros { index } => disk.write(index * BLOCK, &[0; BLOCK_SIZE]),
            Act::WritePart { index } => disk.write(index * BLOCK + 700, &[7; 100]),
            Act::Discard { first, count } => {
                let blocks = first..BLOCKS.min(first + count);
                blocks.for_each(|index| disk.discard(index));
            }
            Act::Read { bytes } => drop(self.read(bytes)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_more_comes_than_was_pending_and_not_much_less(
        written in vec(0..BLOCKS, 0..50),
        acts in vec(act(300_000), 0..40),
        window in windows(),
    ) {
        let mut file = File::new(source(4096, BLOCKS, written), window);
        for act in acts {
            file.act(&act);
        }
        let info = file.info();
        let pending = info.initial_bytes + info.dirty_bytes;
        let before = file.read;
        let dirty = file.rig.disk().dirty_count();
        file.read_all();
        let came = file.read - before;
        prop_assert!(came <= pending, "{} bytes came where {} were pending", came, pending);
        // Blocks that follow one on the other share headers, and those that this storage does not
        // know to be empty come as zeros.
        let zeros = 300 * price(window);
        let headers = dirty * (price(window) - BLOCK) + 64;
        prop_assert!(
            pending <= came + headers + zeros,
            "{} bytes came where {} were pending", came, pending
        );
        prop_assert_eq!(file.info(), PrecopyInfo::default());
    }

    #[test]
    fn nothing_is_dirty_while_the_initial_part_is_read_and_nothing_written(
        written in vec((0..BLOCKS, 1..30u64), 0..8),
        window in windows(),
        reads in vec(prop_oneof![1..5000u64, 5000..200_000u64], 1..8),
    ) {
        let written = written
            .into_iter()
            .flat_map(|(first, count)| first..BLOCKS.min(first + count));
        let mut file = File::new(source(4096, BLOCKS, written), window);
        let first = file.info();
        prop_assert!(first.initial_bytes > 0, "{:?}: at first", first);
        prop_assert!(first.initial_bytes <= first.initial_bytes + OPENING);
        let mut last = first;
        for bytes in reads.iter().cycle() {
            let before = file.read;
            let more = file.read(*bytes);
            let info = file.info();
            prop_assert_eq!(info.dirty_bytes, 0, "{:?} after {:?}", info, last);
            prop_assert!(
                last.initial_bytes - info.initial_bytes >= file.read - before,
                "{:?} after {:?} and {} bytes", info, last, file.read - before
            );
            last = info;
            if !more {
                break;
            }
        }
        prop_assert_eq!(last, PrecopyInfo::default());
    }

    #[test]
    fn the_initial_part_never_grows_and_comes_to_an_end_whatever_is_written(
        written in vec(0..BLOCKS, 0..300),
        acts in vec(act(40_000), 0..60),
        window in windows(),
    ) {
        let mut file = File::new(source(4096, BLOCKS, written.iter().copied()), window);
        let mut last = file.info().initial_bytes;
        for act in acts {
            file.act(&act);
            let info = file.info();
            prop_assert!(info.initial_bytes <= last, "{:?} after {} and {:?}", info, last, act);
            prop_assert!(!info.reinit, "nobody has opted in");
            last = info.initial_bytes;
        }
        // The initial part is read to its end though all of the storage is written all the time.
        let most = price(window) * written.len() as u64 + OPENING;
        let mut read = 0;
        while last > 0 {
            prop_assert!(read <= most, "{} bytes read of {}, {} left", read, most, last);
            written.iter().for_each(|index| fill(&mut file.rig, *index));
            prop_assert!(file.read(20_000), "there is always something");
            read += 20_000;
            let info = file.info();
            prop_assert!(info.initial_bytes <= last, "{:?} after {}", info, last);
            last = info.initial_bytes;
        }
    }
}

#[test]
fn what_the_device_has_to_write_back_is_dirty_and_gives_nothing_to_read() {
    let mut file = File::new(source(4096, 16, [3]), 4096);
    let before = file.info();
    file.rig.unit.unwritten = 1 << 30;
    let info = file.info();
    assert_eq!(info.initial_bytes, before.initial_bytes);
    assert_eq!(info.dirty_bytes, before.dirty_bytes + (1 << 30));
    file.read_all();
    assert_eq!(file.info().dirty_bytes, 1 << 30, "all was read");
    assert!(!file.read(1), "nothing is left to read");
    file.rig.unit.unwritten = 0;
    assert_eq!(file.info(), PrecopyInfo::default());
}
