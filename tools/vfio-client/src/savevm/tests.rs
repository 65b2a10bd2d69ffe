// SPDX-License-Identifier: GPL-2.0

//! Streams as QEMU 7.2 writes them, and as it does not.

use std::io;
use std::io::Read;

use super::device::flag;
use super::device_states;
use super::ram::flag as ram;
use super::ram::BLOCKS_MAX;
use super::ram::PAGE;
use super::walk::element;
use super::DeviceState;
use super::Error;
use super::Result;

const ENOUGH: usize = 1 << 20;

/// A stream in the making.
#[derive(Clone, Default)]
struct Stream(Vec<u8>);

impl Stream {
    fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn u16(self, value: u16) -> Self {
        self.raw(&value.to_be_bytes())
    }

    fn u32(self, value: u32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.raw(&value.to_be_bytes())
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn name(self, name: &str) -> Self {
        self.u8(name.len() as u8).raw(name.as_bytes())
    }

    fn header() -> Self {
        let machine = "pc-q35-7.2";
        Stream::default()
            .raw(b"QEVM")
            .u32(3)
            .u8(element::CONFIGURATION)
            .u32(machine.len() as u32)
            .raw(machine.as_bytes())
    }

    fn uuid(self) -> Self {
        self.u8(element::SUBSECTION)
            .name("configuration/uuid")
            .u32(1)
            .raw(&[0x83; 16])
    }

    fn command(self, command: u16, bytes: &[u8]) -> Self {
        self.u8(element::COMMAND)
            .u16(command)
            .u16(bytes.len() as u16)
            .raw(bytes)
    }

    fn start(self, id: u32, name: &str, version: u32) -> Self {
        self.u8(element::START)
            .u32(id)
            .name(name)
            .u32(0)
            .u32(version)
    }

    fn part(self, id: u32) -> Self {
        self.u8(element::PART).u32(id)
    }

    fn end(self, id: u32) -> Self {
        self.u8(element::END).u32(id)
    }

    fn footer(self, id: u32) -> Self {
        self.u8(element::FOOTER).u32(id)
    }

    fn blocks(self, blocks: &[(&str, u64)]) -> Self {
        let total: u64 = blocks.iter().map(|(_, length)| length).sum();
        let mut stream = self.u64(total | ram::MEM_SIZE);
        for (name, length) in blocks {
            stream = stream.name(name).u64(*length);
        }
        stream.u64(ram::EOS)
    }

    fn page(self, word: u64, block: Option<&str>) -> Self {
        let stream = self.u64(word | if block.is_none() { ram::CONTINUE } else { 0 });
        let stream = block.iter().fold(stream, |stream, name| stream.name(name));
        if word & ram::ZERO != 0 {
            stream.u8(0)
        } else {
            stream.raw(&[0x5a; PAGE as usize])
        }
    }

    fn data(self, bytes: &[u8]) -> Self {
        self.u64(flag::DEV_DATA_STATE)
            .u64(bytes.len() as u64)
            .raw(bytes)
    }

    fn end_of_state(self) -> Self {
        self.u64(flag::END_OF_STATE)
    }

    /// RAM is section 2.
    fn start_ram(self) -> Self {
        self.start(2, "ram", 4)
            .blocks(&[("pc.ram", 4 * PAGE), ("/rom@etc/acpi/tables", 2 * PAGE)])
            .footer(2)
    }

    fn start_device(self, id: u32, name: &str) -> Self {
        self.start(id, name, 1)
            .u64(flag::DEV_SETUP_STATE)
            .end_of_state()
            .footer(id)
    }

    fn full(self) -> Self {
        self.u8(element::FULL).u32(0).name("timer").u32(0).u32(2)
    }

    fn read(&self) -> Result<Vec<DeviceState>> {
        device_states(&*self.0, ENOUGH)
    }

    /// Checks that the stream is refused, for a reason with `why` in it, at `offset`.
    #[track_caller]
    fn refused_at(&self, offset: usize, why: &str) {
        match self.read() {
            Err(Error::Refused {
                offset: seen,
                why: text,
            }) if seen == offset as u64 && text.contains(why) => {}
            other => panic!("expected \"{why}\" at {offset:#x}, seen {other:?}"),
        }
    }
}

const SERIAL: &str = "0000:00:02.0:00.0/vfio";
const DISK: &str = "0000:00:03.0:00.0/vfio";

/// What QEMU writes of a VM with two devices up to the first full section: elements in the order
/// of `qemu_savevm_state_setup()`, `_iterate()` and `_complete_precopy()`.
fn two_devices() -> Stream {
    Stream::header()
        .uuid()
        .command(1, &[])
        .command(2, &[0, 0, 0, 1])
        .start_ram()
        .start_device(40, SERIAL)
        .start_device(41, DISK)
        .part(2)
        .page(ram::PAGE, Some("pc.ram"))
        .page(PAGE | ram::ZERO, None)
        .page(PAGE | ram::ZERO, Some("/rom@etc/acpi/tables"))
        .u64(ram::EOS)
        .footer(2)
        .part(40)
        .data(b"the card")
        .end_of_state()
        .footer(40)
        .part(41)
        .data(b"the disk")
        .end_of_state()
        .footer(41)
        .part(40)
        .data(&[])
        .end_of_state()
        .footer(40)
        .end(2)
        // The block of the last page is still known.
        .page(ram::PAGE, None)
        .u64(ram::EOS)
        .footer(2)
        .end(40)
        .data(b", and ")
        .data(b"its end")
        .end_of_state()
        .footer(40)
        .end(41)
        .end_of_state()
        .footer(41)
}

/// One device whose part is `content`.
fn device(content: impl Fn(Stream) -> Stream) -> (usize, Stream) {
    let start = Stream::header().start_device(7, "vfio").part(7);
    let at = start.0.len();
    (at, content(start).footer(7).end(7).end_of_state().footer(7))
}

/// RAM whose part is `content`.
fn memory(content: impl Fn(Stream) -> Stream) -> (usize, Stream) {
    let start = Stream::header().start_ram().part(2);
    let at = start.0.len();
    let part = content(start).u64(ram::EOS).footer(2);
    (at, part.end(2).u64(ram::EOS).footer(2).full())
}

#[test]
fn a_devices_state_is_all_its_data_in_order() {
    let states = two_devices().full().read().expect("a good stream");
    let state = |name: &str, bytes: &[u8]| DeviceState {
        name: name.to_owned(),
        instance: 0,
        bytes: bytes.to_vec(),
    };
    let expected = [
        state(SERIAL, b"the card, and its end"),
        state(DISK, b"the disk"),
    ];
    assert_eq!(states, expected);
}

#[test]
fn without_devices_there_are_no_states() {
    let (_, stream) = memory(|stream| stream);
    assert_eq!(stream.read().expect("a good stream"), []);
}

#[test]
fn what_follows_the_last_end_is_not_read() {
    let good = two_devices().full().raw(&[0xff; 100]);
    assert_eq!(good.read().expect("a good stream").len(), 2);
    let eof = two_devices().u8(element::EOF);
    assert_eq!(eof.read().expect("a good stream").len(), 2);
}

#[test]
fn every_truncation_is_seen_where_it_is() {
    let good = two_devices().full();
    // The type of the first full section is the last byte that is read.
    for len in 0..=two_devices().0.len() {
        match device_states(&good.0[..len], ENOUGH) {
            Err(Error::Truncated { offset, .. }) if offset <= len as u64 => {}
            other => panic!("{len} bytes: expected a truncation, seen {other:?}"),
        }
    }
}

#[test]
fn no_byte_of_another_value_makes_the_walk_panic_or_hang() {
    let good = two_devices().full();
    for at in 0..good.0.len() {
        for flip in [1, 0x10, 0x80, 0xff] {
            let mut bad = good.0.clone();
            bad[at] ^= flip;
            // Either is fine; coming back is what counts.
            let _ = device_states(&*bad, ENOUGH);
        }
    }
}

#[test]
fn another_file_is_refused() {
    Stream::default().raw(b"\x7fELF").refused_at(0, "QEVM");
    let old = Stream::default().raw(b"QEVM").u32(2);
    old.refused_at(4, "expected version 3, seen 2");
    let bare = Stream::default().raw(b"QEVM").u32(3);
    bare.u8(element::START)
        .refused_at(8, "expected a configuration");
}

#[test]
fn an_unknown_configuration_is_refused() {
    let header = Stream::header();
    let at = header.0.len() + 1;
    header
        .clone()
        .u8(element::SUBSECTION)
        .name("configuration/capabilities")
        .u32(1)
        .refused_at(at, "configuration/capabilities");
    let stream = header.start_ram();
    let at = stream.0.len();
    stream.uuid().refused_at(at, "an element of type 0x5");
}

/// A stream of two devices: the first one, 40, has ended, the second one has not.
fn first_of_two_ended() -> Stream {
    Stream::header()
        .start_device(40, SERIAL)
        .start_device(41, DISK)
        .end(40)
        .end_of_state()
        .footer(40)
}

#[test]
fn a_device_that_has_not_ended_is_not_complete() {
    let stream = first_of_two_ended();
    let at = stream.0.len();
    for stream in [stream.clone().full(), stream.u8(element::EOF)] {
        stream.refused_at(
            at,
            "section 41 (\"0000:00:03.0:00.0/vfio\") should have ended",
        );
    }
}

#[test]
fn after_an_end_there_are_only_ends() {
    let stream = first_of_two_ended();
    let at = stream.0.len();
    stream.clone().part(40).refused_at(at, "after an end");
    stream.clone().end(40).refused_at(at, "after an end");
    stream.clone().part(41).refused_at(at, "after an end");
    stream.start_ram().refused_at(at, "begins too late");
}

#[test]
fn a_section_begins_once_and_before_it_goes_on() {
    let stream = Stream::header();
    let at = stream.0.len();
    stream
        .clone()
        .part(7)
        .refused_at(at, "section 7 has not begun");
    stream
        .clone()
        .end(7)
        .refused_at(at, "section 7 has not begun");
    let stream = stream.start_device(7, SERIAL);
    let at = stream.0.len();
    for again in [
        stream.clone().start_device(7, DISK),
        stream.start_device(8, SERIAL),
    ] {
        again.refused_at(at, "begins twice");
    }
}

#[test]
fn sections_that_cannot_be_walked_are_refused_by_name() {
    let stream = Stream::header();
    let at = stream.0.len();
    for (name, version) in [("block", 1), ("ram", 3), (SERIAL, 2), ("xvfio", 1)] {
        let bad = stream.clone().start(1, name, version);
        bad.refused_at(at, &format!("{name:?}, version {version}"));
    }
}

#[test]
fn a_footer_is_that_of_its_section() {
    let stream = Stream::header()
        .start(7, SERIAL, 1)
        .u64(flag::DEV_SETUP_STATE)
        .end_of_state();
    let at = stream.0.len();
    stream
        .clone()
        .footer(8)
        .refused_at(at, "expected the footer of section 7");
    stream
        .part(7)
        .refused_at(at, "expected the footer of section 7");
}

#[test]
fn commands_of_postcopy_are_refused() {
    let stream = Stream::header();
    let at = stream.0.len() + 1;
    stream.clone().command(3, &[]).refused_at(at, "a command 3");
    stream
        .command(2, &[0; 5])
        .refused_at(at, "a command 2 of 5 bytes");
}

#[test]
fn a_device_has_nothing_but_data_between_start_and_end() {
    for word in [0, flag::DEV_SETUP_STATE, 0xffff_ffff_ef10_0002, u64::MAX] {
        let (at, stream) = device(|stream| stream.u64(word));
        stream.refused_at(at, &format!("a word {word:#x}"));
    }
    let stream = Stream::header().start(7, SERIAL, 1);
    let at = stream.0.len();
    stream
        .data(&[1])
        .refused_at(at, "the beginning of a device's state");
}

#[test]
fn more_state_than_wanted_is_refused_before_it_is_read() {
    let (_, stream) = device(|stream| stream.data(&[1; 60]).data(&[2; 40]).end_of_state());
    let stream = stream.full();
    let states = device_states(&*stream.0, 100).expect("as much as is wanted");
    assert_eq!(states[0].bytes.len(), 100);
    assert!(matches!(
        device_states(&*stream.0, 99),
        Err(Error::Refused { why, .. }) if why.contains("40 bytes of state, no more than 39")
    ));
    for length in [u64::MAX, 1 << 63, ENOUGH as u64 + 1] {
        let (at, stream) = device(|stream| stream.u64(flag::DEV_DATA_STATE).u64(length));
        stream.refused_at(at + 8, &format!("{length} bytes of state"));
    }
}

#[test]
fn the_limit_is_one_for_all_devices() {
    let stream = two_devices().full();
    let all = "the card, and its end".len() + "the disk".len();
    assert!(device_states(&*stream.0, all).is_ok());
    assert!(device_states(&*stream.0, all - 1).is_err());
}

#[test]
fn a_page_is_in_a_block() {
    for (word, block) in [
        (ram::PAGE | (4 * PAGE), Some("pc.ram")),
        (ram::ZERO | (u64::MAX << 12), Some("pc.ram")),
        (ram::ZERO | (2 * PAGE), Some("/rom@etc/acpi/tables")),
    ] {
        let (at, stream) = memory(|stream| stream.page(word, block));
        stream.refused_at(at, "a page at 0x");
    }
    for block in [Some("vga.vram"), None] {
        let (at, stream) = memory(|stream| stream.page(ram::PAGE, block));
        stream.refused_at(at, "a page of no RAM block");
    }
}

#[test]
fn words_of_ram_that_are_not_read_are_refused_by_name() {
    for (word, why) in [
        (ram::XBZRLE | ram::CONTINUE, "XBZRLE"),
        (ram::COMPRESS_PAGE, "compressed"),
        (ram::HOOK, "RDMA"),
        (ram::MEM_SIZE | PAGE, "a word 0x1004"),
        (ram::PAGE | ram::ZERO, "a word 0xa"),
        (ram::EOS | ram::CONTINUE, "a word 0x30"),
        (ram::EOS | PAGE, "a word 0x1010"),
        (0, "a word 0x0"),
    ] {
        let (at, stream) = memory(|stream| stream.u64(word));
        stream.refused_at(at, why);
    }
    let (at, stream) = memory(|stream| stream.u64(ram::ZERO).name("pc.ram").u8(7));
    stream.refused_at(at + 15, "a page of bytes 0x7");
}

#[test]
fn the_blocks_of_ram_add_up() {
    let start = Stream::header().start(2, "ram", 4);
    let at = start.0.len();
    start
        .clone()
        .u64(ram::EOS)
        .refused_at(at, "the list of RAM blocks");
    let start = start.u64((2 * PAGE) | ram::MEM_SIZE);
    let at = start.0.len();
    for length in [3 * PAGE, PAGE / 2, u64::MAX] {
        let stream = start.clone().name("pc.ram").u64(length);
        stream.refused_at(at, "a RAM block \"pc.ram\"");
    }
    // Blocks without a length never make it enough.
    let stream = (0..=BLOCKS_MAX).fold(start, |stream, _| stream.name("").u64(0));
    stream.refused_at(at + 9 * BLOCKS_MAX, "a RAM block \"\"");
}

#[test]
fn a_name_is_text() {
    let stream = Stream::header().u8(element::START).u32(1).u8(2);
    let at = stream.0.len();
    stream.raw(&[0xc3, 0x28]).refused_at(at, "no text");
}

#[test]
fn a_failure_to_read_is_told_with_its_place() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
    let good = two_devices();
    let at = good.0.len();
    let error = device_states((&*good.0).chain(Broken), ENOUGH).expect_err("a broken file");
    assert!(
        matches!(error, Error::Read { offset, .. } if offset == at as u64),
        "{error}"
    );
    assert_eq!(error.to_string(), format!("offset {at:#x}: broken"));
}
