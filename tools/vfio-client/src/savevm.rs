// SPDX-License-Identifier: GPL-2.0

//! Takes the states of VFIO devices out of a migration stream of QEMU 7.2, as it is in the file of
//! `migrate "exec:cat > FILE"`.
//!
//! Mirrors `migration/savevm.c`, `migration/ram.c` and `hw/vfio/migration.c` of QEMU 7.2, which read
//! and write the stream. Numbers are big endian, `u8` to `u64`; a *name* is its length as a `u8` and
//! its bytes.
//!
//! ```text
//! stream         "QEVM", u32: 3, configuration, (command | section)...
//! configuration  u8: 7, u32: length, the machine type's name, subsection...
//! subsection     u8: 5, name, u32: version, fields
//!                  "configuration/uuid": 16 bytes
//! command        u8: 8, u16: command, u16: length, the bytes
//!                  1: opens a return path, 0 bytes
//!                  2: ping, 4 bytes
//! section        u8: type, u32: section, [name, u32: instance, u32: version,] content, footer
//!                  types 1: start, 2: part, 3: end, 4: full; 1 and 4 have name, instance, version
//! footer         u8: 0x7e, u32: section
//!
//! content of "ram", version 4: words, each a u64 of a multiple of 4096 and flags
//!   start        0x04: what all blocks have in bytes, (name, u64: bytes)... until it is that; 0x10
//!   part, end    0x02: an address, where a page of zeros is, [name of the block,] u8: 0
//!                0x08: an address, [name of the block,] 4096 bytes: a page
//!                      (with 0x20 it is in the same block as the last one, which has no name then)
//!                0x10: the end
//!
//! content of "DEVICE/vfio", version 1: words of u64
//!   start        0xffffffffef100003, 0xffffffffef100001
//!   part, end    (0xffffffffef100004, u64: length, the bytes)..., 0xffffffffef100001
//! ```
//!
//! The state of a device is the data in its parts and in its end, one after the other: what QEMU
//! reads from the device's migration region, or would have read from a data file.
//!
//! Devices whose state is not given piece by piece have *full* sections, whose length is nowhere and
//! follows from descriptions in QEMU's source alone. They come last (also the configuration space of
//! a VFIO device is in there, which is not the device's but QEMU's): QEMU writes ends of all
//! sections that it has started, then full ones (`qemu_savevm_state_complete_precopy()`). And it
//! writes the end of a device only when the device has nothing more
//! (`vfio_save_complete_precopy()`). So at the first full section the states are complete, if each
//! section that was started has had its end; that is what is checked, and there the reader stops.
//!
//! Whatever QEMU 7.2 writes only when it is told to is refused, and named: compressed pages, RDMA,
//! postcopy, COLO, block migration.

use std::io;
use std::io::Read;

/// What the stream begins with, `QEMU_VM_FILE_MAGIC`.
const MAGIC: u32 = u32::from_be_bytes(*b"QEVM");
/// `QEMU_VM_FILE_VERSION`.
const VERSION: u32 = 3;

/// What an element of the stream is, `QEMU_VM_*`.
mod element {
    pub const EOF: u8 = 0x00;
    pub const START: u8 = 0x01;
    pub const PART: u8 = 0x02;
    pub const END: u8 = 0x03;
    pub const FULL: u8 = 0x04;
    pub const SUBSECTION: u8 = 0x05;
    pub const CONFIGURATION: u8 = 0x07;
    pub const COMMAND: u8 = 0x08;
    pub const FOOTER: u8 = 0x7e;
}

/// The commands that a migration without postcopy and COLO has, as number and length in bytes:
/// `MIG_CMD_OPEN_RETURN_PATH`, `MIG_CMD_PING`.
const COMMANDS: [(u16, u16); 2] = [(1, 0), (2, 4)];

/// The subsection of the configuration with the VM's UUID, its version and length in bytes.
const UUID: (&str, u32, u64) = ("configuration/uuid", 1, 16);

/// The name of RAM's section, and its version.
const RAM: (&str, u32) = ("ram", 4);

/// How the name of a VFIO device's section ends, and its version.
const DEVICE: (&str, u32) = ("/vfio", 1);
/// The name where the device has no path.
const DEVICE_WITHOUT_PATH: &str = "vfio";

/// Flags in the words of RAM, `RAM_SAVE_FLAG_*`.
mod ram {
    pub const ZERO: u64 = 0x02;
    pub const MEM_SIZE: u64 = 0x04;
    pub const PAGE: u64 = 0x08;
    pub const EOS: u64 = 0x10;
    pub const CONTINUE: u64 = 0x20;
    pub const XBZRLE: u64 = 0x40;
    pub const HOOK: u64 = 0x80;
    pub const COMPRESS_PAGE: u64 = 0x100;
}

/// Words in the section of a VFIO device, `VFIO_MIG_FLAG_*`.
mod flag {
    pub const END_OF_STATE: u64 = 0xffff_ffff_ef10_0001;
    pub const DEV_SETUP_STATE: u64 = 0xffff_ffff_ef10_0003;
    pub const DEV_DATA_STATE: u64 = 0xffff_ffff_ef10_0004;
}

/// A page of x86, `TARGET_PAGE_SIZE`.
const PAGE: u64 = 4096;

/// The longest name of a machine type, in bytes.
const MACHINE_MAX: u32 = 255;
/// The most sections that give their state piece by piece.
const SECTIONS_MAX: usize = 256;
/// The most blocks of RAM.
const BLOCKS_MAX: usize = 1024;

/// Why a stream is not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading failed.
    #[error("offset {offset:#x}: {source}")]
    Read {
        /// Where, in bytes from the beginning.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The stream ends inside a section or a field.
    #[error("offset {offset:#x}: the stream ends in {what}")]
    Truncated {
        /// Where that begins.
        offset: u64,
        /// What that is.
        what: &'static str,
    },
    /// It is no stream of QEMU 7.2, or one with something that is not read here.
    #[error("offset {offset:#x}: {why}")]
    Refused {
        /// Where that begins.
        offset: u64,
        /// What was expected, or what was seen.
        why: String,
    },
}

/// The result of reading.
pub type Result<T> = core::result::Result<T, Error>;

fn refuse<T>(offset: u64, why: impl Into<String>) -> Result<T> {
    Err(Error::Refused {
        offset,
        why: why.into(),
    })
}

/// What QEMU has saved of a VFIO device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeviceState {
    /// The name of its section: the device's path in the machine and `/vfio`.
    pub name: String,
    /// The instance, should there be several of that name.
    pub instance: u32,
    /// All that the device gave, in order.
    pub bytes: Vec<u8>,
}

/// Reads a stream up to where the states of its VFIO devices are complete, and returns these in the
/// order in which the sections begin. All together have at most `limit` bytes.
///
/// The stream is read in small pieces, so a file wants a [`std::io::BufReader`].
///
/// # Errors
///
/// Where the stream cannot be read, ends too early, is not what QEMU 7.2 writes, or has more than
/// `limit` bytes of state.
pub fn device_states(stream: impl Read, limit: usize) -> Result<Vec<DeviceState>> {
    let mut walk = Walk {
        input: Input { stream, offset: 0 },
        sections: Vec::new(),
        completing: false,
        left: limit,
    };
    walk.header()?;
    walk.elements()?;
    let devices = walk.sections.into_iter();
    Ok(devices
        .filter_map(|section| match section.content {
            Content::Ram(_) => None,
            Content::Device(bytes) => Some(DeviceState {
                name: section.name,
                instance: section.instance,
                bytes,
            }),
        })
        .collect())
}

/// The stream, and where we are in it.
struct Input<R> {
    stream: R,
    offset: u64,
}

impl<R: Read> Input<R> {
    fn failed(&self, error: io::Error, what: &'static str) -> Error {
        let offset = self.offset;
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::Truncated { offset, what },
            _ => Error::Read {
                offset,
                source: error,
            },
        }
    }

    fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream
            .read_exact(&mut bytes)
            .map_err(|error| self.failed(error, what))?;
        self.offset += N as u64;
        Ok(bytes)
    }

    fn u8(&mut self, what: &'static str) -> Result<u8> {
        self.bytes(what).map(u8::from_be_bytes)
    }

    fn u16(&mut self, what: &'static str) -> Result<u16> {
        self.bytes(what).map(u16::from_be_bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32> {
        self.bytes(what).map(u32::from_be_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64> {
        self.bytes(what).map(u64::from_be_bytes)
    }

    /// Appends `length` bytes to `to`, which grows only as they come.
    fn append(&mut self, length: u64, to: &mut Vec<u8>, what: &'static str) -> Result<()> {
        let done = self.stream.by_ref().take(length).read_to_end(to);
        self.moved(done.map(|done| done as u64), length, what)
    }

    fn skip(&mut self, length: u64, what: &'static str) -> Result<()> {
        let done = io::copy(&mut self.stream.by_ref().take(length), &mut io::sink());
        self.moved(done, length, what)
    }

    fn moved(&mut self, done: io::Result<u64>, length: u64, what: &'static str) -> Result<()> {
        let done = done.map_err(|error| self.failed(error, what))?;
        if done < length {
            return Err(self.failed(io::ErrorKind::UnexpectedEof.into(), what));
        }
        self.offset += length;
        Ok(())
    }

    fn text(&mut self, length: u64, what: &'static str) -> Result<String> {
        let at = self.offset;
        let mut bytes = Vec::new();
        self.append(length, &mut bytes, what)?;
        String::from_utf8(bytes).or_else(|_| refuse(at, format!("{what} is no text")))
    }

    fn name(&mut self, what: &'static str) -> Result<String> {
        let length = self.u8(what)?;
        self.text(length.into(), what)
    }
}

/// Where a section is in the order of things.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Phase {
    Start,
    Part,
    End,
}

/// A section that gives its state piece by piece.
struct Section {
    id: u32,
    name: String,
    instance: u32,
    content: Content,
    ended: bool,
}

enum Content {
    Ram(Ram),
    /// What of the device's state has come.
    Device(Vec<u8>),
}

struct Walk<R> {
    input: Input<R>,
    sections: Vec<Section>,
    /// A section has ended; the others can only do so as well.
    completing: bool,
    /// How many bytes of state there may yet be.
    left: usize,
}

impl<R: Read> Walk<R> {
    fn header(&mut self) -> Result<()> {
        let input = &mut self.input;
        let magic = input.u32("the magic number")?;
        if magic != MAGIC {
            return refuse(0, format!("expected {MAGIC:#x} (QEVM), seen {magic:#x}"));
        }
        let at = input.offset;
        let version = input.u32("the version")?;
        if version != VERSION {
            return refuse(at, format!("expected version {VERSION}, seen {version}"));
        }
        let at = input.offset;
        let kind = input.u8("the configuration")?;
        if kind != element::CONFIGURATION {
            return refuse(
                at,
                format!("expected a configuration, seen an element of type {kind:#x}"),
            );
        }
        let at = input.offset;
        let length = input.u32("the machine type")?;
        if length > MACHINE_MAX {
            return refuse(at, format!("a machine type of {length} bytes"));
        }
        input.text(length.into(), "the machine type")?;
        Ok(())
    }

    /// Reads a subsection of the configuration.
    fn subsection(&mut self) -> Result<()> {
        let input = &mut self.input;
        let at = input.offset;
        let name = input.name("a subsection of the configuration")?;
        let version = input.u32("a subsection of the configuration")?;
        if (&*name, version) != (UUID.0, UUID.1) {
            return refuse(at, format!("a subsection {name:?}, version {version}"));
        }
        input.skip(UUID.2, "a subsection of the configuration")
    }

    /// Walks from element to element until the states are complete.
    fn elements(&mut self) -> Result<()> {
        // Only the configuration has subsections here.
        let mut may_have_subsection = true;
        loop {
            let at = self.input.offset;
            let kind = self.input.u8("the type of an element")?;
            match kind {
                element::SUBSECTION if may_have_subsection => {
                    self.subsection()?;
                    continue;
                }
                element::START => self.start(at)?,
                element::PART => self.go_on(at, Phase::Part)?,
                element::END => self.go_on(at, Phase::End)?,
                element::COMMAND => self.command()?,
                element::FULL | element::EOF => return self.complete(at),
                kind => return refuse(at, format!("an element of type {kind:#x}")),
            }
            may_have_subsection = false;
        }
    }

    fn complete(&self, at: u64) -> Result<()> {
        match self.sections.iter().find(|section| !section.ended) {
            None => Ok(()),
            Some(section) => refuse(
                at,
                format!(
                    "section {} ({:?}) should have ended before this",
                    section.id, section.name
                ),
            ),
        }
    }

    fn command(&mut self) -> Result<()> {
        let at = self.input.offset;
        let command = self.input.u16("a command")?;
        let length = self.input.u16("a command")?;
        if !COMMANDS.contains(&(command, length)) {
            return refuse(at, format!("a command {command} of {length} bytes"));
        }
        self.input.skip(length.into(), "a command")
    }

    fn start(&mut self, at: u64) -> Result<()> {
        let what = "the header of a section";
        let id = self.input.u32(what)?;
        let name = self.input.name(what)?;
        let instance = self.input.u32(what)?;
        let version = self.input.u32(what)?;
        let is_device = name.ends_with(DEVICE.0) || name == DEVICE_WITHOUT_PATH;
        let content = if (&*name, version) == RAM {
            Content::Ram(Ram::default())
        } else if is_device && version == DEVICE.1 {
            Content::Device(Vec::new())
        } else {
            return refuse(at, format!("a section of {name:?}, version {version}"));
        };
        if self.completing || self.sections.len() == SECTIONS_MAX {
            return refuse(at, format!("section {id} ({name:?}) begins too late"));
        }
        let same = |section: &Section| {
            section.id == id || (&*section.name, section.instance) == (&*name, instance)
        };
        if self.sections.iter().any(same) {
            return refuse(at, format!("section {id} ({name:?}) begins twice"));
        }
        self.sections.push(Section {
            id,
            name,
            instance,
            content,
            ended: false,
        });
        self.content(self.sections.len() - 1, Phase::Start)
    }

    fn go_on(&mut self, at: u64, phase: Phase) -> Result<()> {
        let id = self.input.u32("the header of a section")?;
        let Some(index) = self.sections.iter().position(|section| section.id == id) else {
            return refuse(at, format!("section {id} has not begun"));
        };
        if self.sections[index].ended || self.completing && phase == Phase::Part {
            let name = &self.sections[index].name;
            return refuse(at, format!("section {id} ({name:?}) goes on after an end"));
        }
        if phase == Phase::End {
            self.completing = true;
            self.sections[index].ended = true;
        }
        self.content(index, phase)
    }

    fn content(&mut self, index: usize, phase: Phase) -> Result<()> {
        let section = &mut self.sections[index];
        match &mut section.content {
            Content::Ram(ram) if phase == Phase::Start => ram.blocks(&mut self.input)?,
            Content::Ram(ram) => ram.pages(&mut self.input)?,
            Content::Device(_) if phase == Phase::Start => device_setup(&mut self.input)?,
            Content::Device(bytes) => device_data(&mut self.input, bytes, &mut self.left)?,
        }
        let at = self.input.offset;
        let kind = self.input.u8("the footer of a section")?;
        let id = self.input.u32("the footer of a section")?;
        if (kind, id) != (element::FOOTER, section.id) {
            return refuse(
                at,
                format!(
                    "expected the footer of section {} ({:?}), seen {kind:#x} and {id:#x}",
                    section.id, section.name
                ),
            );
        }
        Ok(())
    }
}

fn expect_word<R: Read>(input: &mut Input<R>, word: u64, what: &'static str) -> Result<()> {
    let at = input.offset;
    let seen = input.u64(what)?;
    if seen != word {
        return refuse(at, format!("{what}: expected {word:#x}, seen {seen:#x}"));
    }
    Ok(())
}

fn device_setup<R: Read>(input: &mut Input<R>) -> Result<()> {
    let what = "the beginning of a device's state";
    expect_word(input, flag::DEV_SETUP_STATE, what)?;
    expect_word(input, flag::END_OF_STATE, what)
}

/// Appends data to `bytes`, as long as it is not more than `left`.
fn device_data<R: Read>(input: &mut Input<R>, bytes: &mut Vec<u8>, left: &mut usize) -> Result<()> {
    loop {
        let at = input.offset;
        match input.u64("a word of a device's state")? {
            flag::END_OF_STATE => return Ok(()),
            flag::DEV_DATA_STATE => {
                let at = input.offset;
                let length = input.u64("the length of a device's data")?;
                let rest = usize::try_from(length)
                    .ok()
                    .and_then(|length| left.checked_sub(length));
                let Some(rest) = rest else {
                    let why = format!("{length} bytes of state, no more than {left} are wanted");
                    return refuse(at, why);
                };
                *left = rest;
                input.append(length, bytes, "a device's data")?;
            }
            word => return refuse(at, format!("a word {word:#x} in a device's state")),
        }
    }
}

/// A block of RAM.
struct Block {
    name: String,
    /// In bytes.
    length: u64,
}

#[derive(Default)]
struct Ram {
    blocks: Vec<Block>,
    /// The index of the block of the last page. Parts share it.
    last: Option<usize>,
}

impl Ram {
    /// Reads which blocks there are.
    fn blocks<R: Read>(&mut self, input: &mut Input<R>) -> Result<()> {
        let what = "the list of RAM blocks";
        let at = input.offset;
        let word = input.u64(what)?;
        if word % PAGE != ram::MEM_SIZE {
            return refuse(at, format!("expected {what}, seen a word {word:#x}"));
        }
        let mut left = word - ram::MEM_SIZE;
        while left > 0 {
            let at = input.offset;
            let name = input.name(what)?;
            let length = input.u64(what)?;
            let fits = length % PAGE == 0 && self.blocks.len() < BLOCKS_MAX;
            let Some(rest) = left.checked_sub(length).filter(|_| fits) else {
                return refuse(at, format!("a RAM block {name:?} of {length:#x} bytes"));
            };
            left = rest;
            self.blocks.push(Block { name, length });
        }
        expect_word(input, ram::EOS, what)
    }

    /// Reads pages.
    fn pages<R: Read>(&mut self, input: &mut Input<R>) -> Result<()> {
        loop {
            let at = input.offset;
            let word = input.u64("a word of RAM")?;
            let flags = word % PAGE;
            match flags & !ram::CONTINUE {
                ram::ZERO => {
                    self.page(input, at, word)?;
                    let at = input.offset;
                    let byte = input.u8("a page of zeros")?;
                    if byte != 0 {
                        return refuse(at, format!("a page of bytes {byte:#x}"));
                    }
                }
                ram::PAGE => {
                    self.page(input, at, word)?;
                    input.skip(PAGE, "a page")?;
                }
                ram::EOS if word == ram::EOS => return Ok(()),
                ram::XBZRLE => return refuse(at, "a page that is compressed with XBZRLE"),
                ram::COMPRESS_PAGE => return refuse(at, "a page that is compressed"),
                _ if flags & ram::HOOK != 0 => return refuse(at, "a word of RDMA"),
                _ => return refuse(at, format!("a word {word:#x} of RAM")),
            }
        }
    }

    /// Checks where a page is, and reads the name of its block if that is not the last one's.
    fn page<R: Read>(&mut self, input: &mut Input<R>, at: u64, word: u64) -> Result<()> {
        let index = if word & ram::CONTINUE != 0 {
            self.last
        } else {
            let name = input.name("the name of a RAM block")?;
            self.blocks.iter().position(|block| block.name == name)
        };
        let Some(index) = index else {
            return refuse(at, "a page of no RAM block");
        };
        let (block, address) = (&self.blocks[index], word - word % PAGE);
        if address >= block.length {
            let Block { name, length } = block;
            return refuse(
                at,
                format!("a page at {address:#x} of {name:?}, which has {length:#x} bytes"),
            );
        }
        self.last = Some(index);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::io::Read;

    use super::device_states;
    use super::element;
    use super::flag;
    use super::ram;
    use super::DeviceState;
    use super::Error;
    use super::Result;
    use super::BLOCKS_MAX;
    use super::PAGE;

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

    const CARD: &str = "0000:00:02.0:00.0/vfio";
    const DISK: &str = "0000:00:03.0:00.0/vfio";

    /// What QEMU writes of a VM with two devices up to the first full section: elements in the order
    /// of `qemu_savevm_state_setup()`, `_iterate()` and `_complete_precopy()`.
    fn two_devices() -> Stream {
        Stream::header()
            .uuid()
            .command(1, &[])
            .command(2, &[0, 0, 0, 1])
            .start_ram()
            .start_device(40, CARD)
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
            state(CARD, b"the card, and its end"),
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

    /// A stream of two devices, of which the first one, 40, has ended, and the second one has not.
    fn first_of_two_ended() -> Stream {
        Stream::header()
            .start_device(40, CARD)
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
        let stream = stream.start_device(7, CARD);
        let at = stream.0.len();
        for again in [
            stream.clone().start_device(7, DISK),
            stream.start_device(8, CARD),
        ] {
            again.refused_at(at, "begins twice");
        }
    }

    #[test]
    fn sections_that_cannot_be_walked_are_refused_by_name() {
        let stream = Stream::header();
        let at = stream.0.len();
        for (name, version) in [("block", 1), ("ram", 3), (CARD, 2), ("xvfio", 1)] {
            let bad = stream.clone().start(1, name, version);
            bad.refused_at(at, &format!("{name:?}, version {version}"));
        }
    }

    #[test]
    fn a_footer_is_that_of_its_section() {
        let stream = Stream::header()
            .start(7, CARD, 1)
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
        let stream = Stream::header().start(7, CARD, 1);
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
}
