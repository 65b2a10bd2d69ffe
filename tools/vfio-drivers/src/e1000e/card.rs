// SPDX-License-Identifier: GPL-2.0

//! An 82574L: its registers, its reset, and a queue of each direction.

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use vfio_bindings::bindings::vfio;
use vfio_client::Device;
use vfio_client::Error;
use vfio_client::GuestMemory;
use vfio_client::Region;
use vfio_client::Result;

use super::frame::Frame;
use super::frame::Mac;
use super::ring::Ring;
use super::ring::BUFFER;
use super::spec::register;
use super::spec::CTRL_1000;
use super::spec::CTRL_FORCE_DUPLEX;
use super::spec::CTRL_FORCE_SPEED;
use super::spec::CTRL_FULL_DUPLEX;
use super::spec::CTRL_MASTER_DISABLE;
use super::spec::CTRL_RESET;
use super::spec::CTRL_SET_LINK_UP;
use super::spec::EECD_AUTO_READ;
use super::spec::RAH_VALID;
use super::spec::RCTL_BROADCAST;
use super::spec::RCTL_ENABLE;
use super::spec::RCTL_MAC_LOOPBACK;
use super::spec::RCTL_STRIP_CRC;
use super::spec::STATUS_LINK_UP;
use super::spec::STATUS_MASTER_ENABLE;
use super::spec::TCTL_COLLISIONS;
use super::spec::TCTL_ENABLE;
use super::spec::TCTL_PAD;

/// How long to wait for the card. Emulated machines are slow.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest ring, in descriptors.
const LONGEST: u64 = 32;
/// Where the rings are in memory, a page for each.
const RECEIVE: u64 = 0;
const TRANSMIT: u64 = 0x1000;
/// Where the buffers are.
const RECEIVE_BUFFERS: u64 = 0x1_0000;
const TRANSMIT_BUFFERS: u64 = RECEIVE_BUFFERS + LONGEST * BUFFER;

/// How much memory the driver of a card needs, in bytes.
pub const MEMORY_SIZE: usize = (TRANSMIT_BUFFERS + LONGEST * BUFFER) as usize;

/// The offset of COMMAND in configuration space.
const COMMAND: u64 = 0x04;
/// COMMAND: decode memory, and be a bus master.
const MEMORY_AND_MASTER: u16 = 0x0006;

/// Where the frames of a card go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plug {
    /// Back to its own receiver.
    Loopback,
    /// To the network.
    Network,
}

/// A card, with a receive queue and a transmit queue, whose driver polls.
#[derive(Debug)]
pub struct Card {
    bar: Region,
    space: Region,
    memory: GuestMemory,
    receive: Ring,
    transmit: Ring,
    /// Buffers that the receive ring gets in turn for those in which frames were received.
    spares: VecDeque<u64>,
}

impl Card {
    /// Takes the card of an open device. Its memory has [`MEMORY_SIZE`] bytes.
    ///
    /// # Errors
    ///
    /// What the kernel answers, also in the other methods.
    pub fn new(device: &Device, memory: &GuestMemory) -> Result<Self> {
        Ok(Card {
            bar: device.region(vfio::VFIO_PCI_BAR0_REGION_INDEX)?,
            space: device.region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?,
            memory: memory.clone(),
            receive: Card::ring(memory, RECEIVE, RECEIVE_BUFFERS, 8),
            transmit: Card::ring(memory, TRANSMIT, TRANSMIT_BUFFERS, 8),
            spares: VecDeque::new(),
        })
    }

    fn ring(memory: &GuestMemory, at: u64, buffers: u64, len: u64) -> Ring {
        Ring::new(memory, memory.start() + at, memory.start() + buffers, len)
    }

    /// Takes another card, to which the state and the memory of this one have moved.
    ///
    /// # Errors
    ///
    /// As [`Card::new`].
    pub fn moved_to(self, device: &Device) -> Result<Self> {
        Ok(Card {
            bar: device.region(vfio::VFIO_PCI_BAR0_REGION_INDEX)?,
            space: device.region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?,
            ..self
        })
    }

    /// Reads a register.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn read(&self, register: u64) -> Result<u32> {
        self.bar.read_u32(register)
    }

    /// Writes a register.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn write(&self, register: u64, value: u32) -> Result<()> {
        self.bar.write(register, &value.to_le_bytes())
    }

    fn malformed(&self, why: String) -> Error {
        Error::malformed(format!("{}: 82574L", self.bar.device().name()), why)
    }

    /// Waits until some bits of a register have a value.
    fn wait(&self, name: &str, register: u64, mask: u32, value: u32) -> Result<()> {
        let start = Instant::now();
        loop {
            let seen = self.read(register)?;
            if seen & mask == value {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                return Err(self.malformed(format!(
                    "{name} & {mask:#x} is not {value:#x} after {PATIENCE:?}: {seen:#x}"
                )));
            }
            thread::yield_now();
        }
    }

    /// Sets COMMAND.MEMORY and COMMAND.MASTER.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn decode(&self) -> Result<()> {
        let command = self.space.read_u16(COMMAND)? | MEMORY_AND_MASTER;
        self.space.write(COMMAND, &command.to_le_bytes())
    }

    /// Resets the card as section 4.6.1 of the data sheet wants it, and clears its statistics.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when it does not come back.
    pub fn reset(&self) -> Result<()> {
        self.decode()?;
        self.write(register::IMC, u32::MAX)?;
        self.write(register::RCTL, 0)?;
        self.write(register::TCTL, TCTL_PAD)?;
        let ctrl = self.read(register::CTRL)?;
        self.write(register::CTRL, ctrl | CTRL_MASTER_DISABLE)?;
        self.wait("STATUS", register::STATUS, STATUS_MASTER_ENABLE, 0)?;
        self.write(register::CTRL, ctrl | CTRL_RESET)?;
        // No access for a microsecond; the PHY is configured for 25 ms.
        thread::sleep(Duration::from_millis(25));
        self.wait("CTRL", register::CTRL, CTRL_RESET, 0)?;
        self.wait("EECD", register::EECD, EECD_AUTO_READ, EECD_AUTO_READ)?;
        self.write(register::IMC, u32::MAX)?;
        self.read(register::ICR)?;
        for at in (register::STATISTICS..=register::STATISTICS_END).step_by(4) {
            self.read(at)?;
        }
        Ok(())
    }

    /// Sets both queues up with rings of `len` descriptors, a multiple of 8 up to 32, and starts the card, which
    /// has been reset. All receive descriptors but one are posted.
    ///
    /// # Errors
    ///
    /// As [`Card::reset`], when there is no link.
    pub fn start(&mut self, plug: Plug, len: u64) -> Result<()> {
        self.receive = Card::ring(&self.memory, RECEIVE, RECEIVE_BUFFERS, len);
        self.transmit = Card::ring(&self.memory, TRANSMIT, TRANSMIT_BUFFERS, len);
        self.receive.clear();
        self.transmit.clear();
        self.write(register::RDBAL, self.receive.start as u32)?;
        self.write(register::RDBAH, (self.receive.start >> 32) as u32)?;
        self.write(register::RDLEN, self.receive.size())?;
        self.write(register::TDBAL, self.transmit.start as u32)?;
        self.write(register::TDBAH, (self.transmit.start >> 32) as u32)?;
        self.write(register::TDLEN, self.transmit.size())?;
        for head in [register::RDH, register::RDT, register::TDH, register::TDT] {
            self.write(head, 0)?;
        }
        let speed = match plug {
            // The PHY, which may have no link, is not asked.
            Plug::Loopback => CTRL_FULL_DUPLEX | CTRL_FORCE_SPEED | CTRL_FORCE_DUPLEX | CTRL_1000,
            Plug::Network => 0,
        };
        self.write(register::CTRL, CTRL_SET_LINK_UP | speed)?;
        self.wait("STATUS", register::STATUS, STATUS_LINK_UP, STATUS_LINK_UP)?;
        self.write(register::TCTL, TCTL_ENABLE | TCTL_PAD | TCTL_COLLISIONS)?;
        let plug = match plug {
            Plug::Loopback => RCTL_MAC_LOOPBACK,
            Plug::Network => RCTL_BROADCAST,
        };
        self.write(register::RCTL, RCTL_ENABLE | RCTL_STRIP_CRC | plug)?;
        for index in 0..len - 1 {
            self.receive.post(index);
        }
        self.write(register::RDT, len as u32 - 1)
    }

    /// Has the card receive frames for a station, by an entry of its table from 0 to 14.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn set_mac(&self, entry: u64, mac: Mac) -> Result<()> {
        let [a, b, c, d, e, f] = mac;
        let high = u32::from(u16::from_le_bytes([e, f]));
        self.write(register::RAL + 8 * entry, u32::from_le_bytes([a, b, c, d]))?;
        self.write(register::RAH + 8 * entry, high | RAH_VALID)
    }

    /// Returns the station of an entry, `None` if the entry is not valid.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn mac(&self, entry: u64) -> Result<Option<Mac>> {
        let low = self.read(register::RAL + 8 * entry)?.to_le_bytes();
        let high = self.read(register::RAH + 8 * entry)?;
        let [a, b, c, d] = low;
        let [e, f, ..] = high.to_le_bytes();
        Ok((high & RAH_VALID != 0).then_some([a, b, c, d, e, f]))
    }

    /// Posts a frame, and does not wait until it is sent.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn submit(&mut self, frame: &Frame) -> Result<()> {
        self.transmit.fill(self.transmit.next, frame.bytes());
        self.transmit.next += 1;
        let tail = self.transmit.next % self.transmit.len;
        self.write(register::TDT, tail as u32)
    }

    /// Waits until the card has sent all that was posted.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when it does not.
    pub fn flush(&self) -> Result<()> {
        let last = self.transmit.next.saturating_sub(1);
        self.until("no report of a frame that was sent", || {
            Ok((self.transmit.next == 0 || self.transmit.is_done(last)).then_some(()))
        })
    }

    /// Sends a frame.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the card does not report that it was sent.
    pub fn send(&mut self, frame: &Frame) -> Result<()> {
        self.submit(frame)?;
        self.flush()
    }

    fn until<T>(&self, what: &str, mut poll: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let start = Instant::now();
        loop {
            if let Some(found) = poll()? {
                return Ok(found);
            }
            if start.elapsed() > PATIENCE {
                return Err(self.malformed(format!(
                    "{what} after {PATIENCE:?}: RDH {} RDT {} TDH {} TDT {} STATUS {:#x}",
                    self.read(register::RDH)?,
                    self.read(register::RDT)?,
                    self.read(register::TDH)?,
                    self.read(register::TDT)?,
                    self.read(register::STATUS)?
                )));
            }
            thread::yield_now();
        }
    }

    /// Takes a frame, if one has been received, and posts its buffer again.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn poll(&mut self) -> Result<Option<Frame>> {
        let at = self.receive.next;
        if !self.receive.is_done(at) {
            return Ok(None);
        }
        let frame = Frame::of(self.receive.received(at));
        self.receive.next += 1;
        if let Some(spare) = self.spares.pop_front() {
            let used = self.receive.exchange(at, spare);
            self.spares.push_back(used);
        }
        // The descriptor that was left out until now.
        self.receive.post(at + self.receive.len - 1);
        let tail = (at + self.receive.len) % self.receive.len;
        self.write(register::RDT, tail as u32)?;
        Ok(Some(frame))
    }

    /// Waits for a frame of [`Frame::new`]; frames of other programs are passed over.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when none comes.
    pub fn receive(&mut self) -> Result<Frame> {
        let start = Instant::now();
        loop {
            match self.poll()? {
                Some(frame) if frame.is_ours() => return Ok(frame),
                _ if start.elapsed() > PATIENCE => {
                    return self.until("no frame", || Ok(None));
                }
                _ => thread::yield_now(),
            }
        }
    }

    /// Has a received frame's buffer replaced by another one, as Linux's driver does. The ring, which the card has
    /// been started with, has at most half of the descriptors that it may have.
    pub fn replace_buffers(&mut self) {
        let first = self.memory.start() + RECEIVE_BUFFERS + LONGEST / 2 * BUFFER;
        self.spares = (0..LONGEST / 2)
            .map(|index| first + index * BUFFER)
            .collect();
    }

    /// Returns the pages that the card may write: those of rings, and of buffers in which nothing was received.
    pub fn writable(&self) -> Vec<u64> {
        let rings = [self.receive.start, self.transmit.start];
        let posted = self.receive.next..self.receive.next + self.receive.len - 1;
        let buffers = posted.map(|index| self.receive.buffer(index));
        rings.into_iter().chain(buffers).collect()
    }

    /// Returns the pages of all buffers in which frames are received at one time or another.
    pub fn receive_buffers(&self) -> Vec<u64> {
        let ring = 0..self.receive.len;
        let ring = ring.map(|index| self.receive.buffer(index));
        ring.chain(self.spares.iter().copied()).collect()
    }

    /// Returns the memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }
}
