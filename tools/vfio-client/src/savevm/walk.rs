// SPDX-License-Identifier: GPL-2.0

//! The walk from element to element of the stream, `migration/savevm.c`.

use std::io::Read;

use super::device;
use super::input::Input;
use super::ram::Ram;
use super::refuse;
use super::DeviceState;
use super::Result;

/// What the stream begins with, `QEMU_VM_FILE_MAGIC`.
const MAGIC: u32 = u32::from_be_bytes(*b"QEVM");
/// `QEMU_VM_FILE_VERSION`.
const VERSION: u32 = 3;

/// What an element of the stream is, `QEMU_VM_*`.
pub mod element {
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

/// The longest name of a machine type, in bytes.
const MACHINE_MAX: u32 = 255;
/// The most sections that give their state piece by piece.
const SECTIONS_MAX: usize = 256;

/// The phases of a section, in order.
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
    /// The device's state so far.
    Device(Vec<u8>),
}

pub struct Walk<R> {
    input: Input<R>,
    sections: Vec<Section>,
    /// A section has ended, so the other sections can only end, too.
    completing: bool,
    /// The most bytes of state that may follow.
    left: usize,
}

impl<R: Read> Walk<R> {
    /// Starts a walk that takes at most `limit` bytes of state.
    pub fn new(input: Input<R>, limit: usize) -> Self {
        Walk {
            input,
            sections: Vec::new(),
            completing: false,
            left: limit,
        }
    }

    /// Returns the states of the devices, in the order in which their sections begin.
    pub fn into_states(self) -> Vec<DeviceState> {
        self.sections
            .into_iter()
            .filter_map(|section| match section.content {
                Content::Ram(_) => None,
                Content::Device(bytes) => Some(DeviceState {
                    name: section.name,
                    instance: section.instance,
                    bytes,
                }),
            })
            .collect()
    }

    /// Reads what comes before the first element: magic number, version, configuration.
    pub fn header(&mut self) -> Result<()> {
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
    pub fn elements(&mut self) -> Result<()> {
        // Only the configuration has subsections.
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
            Content::Device(_) if phase == Phase::Start => device::setup(&mut self.input)?,
            Content::Device(bytes) => device::data(&mut self.input, bytes, &mut self.left)?,
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
