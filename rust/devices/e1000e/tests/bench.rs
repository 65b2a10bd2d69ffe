// SPDX-License-Identifier: GPL-2.0

//! A host with a card, and the driver of the guest that has it.

use std::cell::Cell;
use std::collections::{
    BTreeMap,
    BTreeSet,
    VecDeque, //
};
use std::rc::Rc;

use device_model::hardware::{
    Context,
    Failure,
    FollowDma,
    Hardware,
    Pin,
    PinError,
    Pins,
    Registers, //
};
use e1000e::{
    Controller,
    Error,
    Following,
    Identity,
    Slot, //
};

use crate::model::{
    Memory,
    Model, //
};
use crate::spec::*;

/// Bytes of the guest's memory.
pub const MEMORY: usize = 8 << 20;
/// Descriptors that a follower has room for.
pub const SLOTS: usize = 256;

pub fn identity() -> Identity {
    Identity {
        device: 0x10d3,
        subsystem_vendor: 0x8086,
        subsystem: 0xa01f,
        revision: 0,
        bars: [0x2_0000, 0x2_0000, 0x20, 0x4000, 0, 0],
        config_space: 0x1234_5678,
    }
}

/// The dirty bitmap of type1, for pages that are pinned.
#[derive(Default)]
pub struct Bitmap {
    pub pinned: BTreeMap<u64, u32>,
    dirty: BTreeSet<u64>,
    /// Pages with nothing mapped.
    pub unmapped: BTreeSet<u64>,
    /// Pins that are left until one fails.
    pub until_failure: Option<u32>,
    /// How many pages were ever pinned; the model has it, too.
    pub count: Rc<Cell<usize>>,
}

impl Bitmap {
    /// What a reading of the bitmap gives.
    pub fn take(&mut self) -> BTreeSet<u64> {
        let pinned = self.pinned.keys().copied().collect();
        std::mem::replace(&mut self.dirty, pinned)
    }
}

impl Pins for Bitmap {
    fn pin(&mut self, page: u64) -> Result<Pin, PinError> {
        if let Some(left) = &mut self.until_failure {
            *left = left.checked_sub(1).ok_or(PinError)?;
        }
        if self.unmapped.contains(&page) || page >= MEMORY as u64 / PAGE {
            return Ok(Pin::NotMapped);
        }
        *self.pinned.entry(page).or_default() += 1;
        self.dirty.insert(page);
        self.count.set(self.count.get() + 1);
        Ok(Pin::Pinned)
    }

    fn unpin(&mut self, page: u64) {
        let count = self
            .pinned
            .get_mut(&page)
            .unwrap_or_else(|| panic!("page {page:#x} is unpinned and is not pinned"));
        *count -= 1;
        if *count == 0 {
            self.pinned.remove(&page);
        }
    }
}

/// A host with a card that a guest has.
pub struct Host {
    pub model: Model,
    pub controller: Controller<Vec<Slot>>,
    pub bitmap: Bitmap,
    pub memory: Memory,
    /// The guest's command register has the bus master bit.
    pub bus_master: bool,
}

impl Host {
    pub fn new(memory: Memory) -> Self {
        Self::with(memory, identity(), Following::ReceiveTrapped)
    }

    pub fn with(memory: Memory, identity: Identity, following: Following) -> Self {
        let slots = || vec![Slot::default(); SLOTS];
        let mut host = Self {
            model: Model::new(memory.clone()),
            controller: Controller::new(identity, following, [slots(), slots()]),
            bitmap: Bitmap::default(),
            memory,
            bus_master: true,
        };
        host.model.pins = host.bitmap.count.clone();
        host.run(|controller, context| controller.reset(context))
            .expect("a reset works");
        host
    }

    /// Calls the controller.
    pub fn run<R>(
        &mut self,
        call: impl FnOnce(&mut Controller<Vec<Slot>>, &mut Context<'_>) -> R,
    ) -> R {
        self.model.bus_master = self.bus_master;
        call(
            &mut self.controller,
            &mut Context {
                registers: &mut self.model,
                memory: &mut self.memory.clone(),
                pins: &mut self.bitmap,
                bus_master: self.bus_master,
            },
        )
    }

    fn trapped(&self, bar: u32, offset: u64) -> bool {
        self.controller
            .traps()
            .iter()
            .any(|trap| trap.bar == bar && (trap.offset..trap.offset + trap.len).contains(&offset))
    }

    /// A read by the guest.
    pub fn read(&mut self, offset: u32) -> u32 {
        if !self.trapped(0, offset.into()) {
            return self.model.read32(offset);
        }
        self.read_bar(0, offset.into())
    }

    pub fn read_bar(&mut self, bar: u32, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        self.run(|controller, context| controller.read(context, bar, offset, &mut bytes))
            .expect("a trapped register can be read");
        u32::from_le_bytes(bytes)
    }

    /// A write by the guest.
    pub fn write(&mut self, offset: u32, value: u32) {
        if !self.trapped(0, offset.into()) {
            return self.model.write32(offset, value);
        }
        self.write_bar(0, offset.into(), value);
    }

    pub fn write_bar(&mut self, bar: u32, offset: u64, value: u32) {
        self.run(|controller, context| {
            controller.write(context, bar, offset, &value.to_le_bytes())
        })
        .expect("a trapped register can be written");
    }

    pub fn quiesce(&mut self) -> Result<(), Failure<Error>> {
        self.run(|controller, context| controller.quiesce(context))
    }

    pub fn resume(&mut self) -> Result<(), Failure<Error>> {
        self.run(|controller, context| controller.resume(context))
    }

    pub fn save(&mut self) -> Result<Vec<u8>, Error> {
        let mut state = vec![0xee; self.controller.state_size()];
        let len = self.run(|controller, context| controller.save(context, &mut state))?;
        state.truncate(len);
        Ok(state)
    }

    /// Parses and applies a state. The function must be stopped.
    pub fn apply(&mut self, state: &[u8]) -> Result<(), Failure<Error>> {
        self.run(|controller, context| {
            let state = controller
                .parse(state)
                .map_err(|error| Failure::Undone(Error::State(error)))?;
            controller.apply(context, &state)
        })
    }

    /// Moves the guest to another host with a new card, whose memory is the same.
    pub fn migrate(&mut self) -> Self {
        self.quiesce().expect("the source stops");
        let state = self.save().expect("the source is saved");
        let mut other = Self::with(self.memory.clone(), identity(), Following::ReceiveTrapped);
        other.bus_master = self.bus_master;
        // Now and then a card that somebody has used, and that has to be reset first.
        if self.model.log.len() % 2 == 1 {
            other.write(RCTL, RCTL_EN);
        }
        other.quiesce().expect("the destination stops");
        other.apply(&state).expect("the state is applied");
        other
    }

    pub fn follow(&mut self) {
        self.run(|controller, context| controller.follow(context))
            .expect("DMA can be followed");
    }

    #[track_caller]
    pub fn expect_no_faults(&self) {
        assert_eq!(
            self.model.faults,
            Vec::<String>::new(),
            "what the data sheet forbids"
        );
        assert_eq!(self.controller.lost(), None, "pages missed");
    }
}

/// How the guest's driver has receive descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Legacy, with the code of the size of buffers in RCTL.
    Legacy(u32),
    Extended(u32),
    Split,
}

/// A receive ring of the guest.
pub struct RxRing {
    pub base: u64,
    pub units: u32,
    next: u32,
    clean: u32,
    /// The buffers of what was posted last with each descriptor.
    pub buffers: BTreeMap<u32, Vec<(u64, u32)>>,
    /// Bytes of a packet whose last descriptor has not come.
    partial: Vec<u8>,
}

pub struct TxRing {
    pub base: u64,
    pub units: u32,
    next: u32,
    /// The oldest descriptor that the driver has not taken back.
    clean: u32,
    /// The last descriptor of each packet that it has not taken back.
    last: VecDeque<u32>,
}

impl TxRing {
    /// Takes back the descriptors of packets whose last one was written back. The head may be ahead of that: a descriptor
    /// that is written over before the card writes it back is lost.
    fn reap(&mut self, memory: &Memory) {
        while let Some(&last) = self.last.front() {
            let status = memory.get(self.base + 16 * u64::from(last) + 12, 1);
            if status.expect("a ring is in memory")[0] & TX_DONE == 0 {
                return;
            }
            self.last.pop_front();
            self.clean = (last + 1) % self.units;
        }
    }
}

/// The driver of the guest.
pub struct Guest {
    pub memory: Memory,
    pub format: Format,
    pub rx: [RxRing; 2],
    pub tx: [TxRing; 2],
    free: Vec<u64>,
    /// Packets received, for each queue.
    pub received: [Vec<Vec<u8>>; 2],
    /// Packets given to the card, for each queue.
    pub sent: [Vec<Vec<u8>>; 2],
    counter: u32,
}

/// Bytes between two places for buffers.
const PLACE: u64 = 20 << 10;

impl Guest {
    pub fn new(memory: Memory) -> Self {
        let mut guest = Self {
            memory,
            format: Format::Legacy(0),
            rx: [0x1_0000, 0x1_4f80].map(|base| RxRing {
                base,
                units: 16,
                next: 0,
                clean: 0,
                buffers: BTreeMap::new(),
                partial: Vec::new(),
            }),
            tx: [0x2_0000, 0x2_4fc0].map(|base| TxRing {
                base,
                units: 16,
                next: 0,
                clean: 0,
                last: VecDeque::new(),
            }),
            free: Vec::new(),
            received: [Vec::new(), Vec::new()],
            sent: [Vec::new(), Vec::new()],
            counter: 0,
        };
        guest.free = (0..300).map(|index| (1 << 20) + index * PLACE).collect();
        guest
    }

    /// Resets the card and sets it up.
    pub fn set_up(&mut self, host: &mut Host, format: Format, units: u32, shift: u64) {
        host.write(IMC, u32::MAX);
        host.write(RCTL, 0);
        host.write(TCTL, 0);
        host.model.run(100);
        let control = host.read(CTRL);
        host.write(CTRL, control | CTRL_RST);
        host.model.run(30_000);
        while host.read(CTRL) & CTRL_RST != 0 {
            host.model.run(100);
        }
        host.write(IMC, u32::MAX);
        host.read(ICR);

        self.format = format;
        let mut control = CTRL_ONE | CTRL_SLU | 0x0010_0001;
        control |= host.read(CTRL) & 0x300;
        host.write(CTRL, control);
        for (index, ring) in self.rx.iter_mut().enumerate() {
            ring.base = 0x1_0000 + 0x8000 * index as u64 + shift;
            ring.units = units;
            ring.next = 0;
            ring.clean = 0;
            ring.partial.clear();
            ring.buffers.clear();
        }
        self.free = (0..300).map(|index| (1 << 20) + index * PLACE).collect();
        for (index, ring) in self.tx.iter_mut().enumerate() {
            ring.base = 0x4_0000 + 0x8000 * index as u64 + shift;
            ring.units = units;
            ring.next = 0;
            ring.clean = 0;
            ring.last.clear();
        }
        let rings = self.rx.iter().map(|ring| (RDBAL, ring.base, ring.units));
        let rings: Vec<_> = rings
            .chain(self.tx.iter().map(|ring| (TDBAL, ring.base, ring.units)))
            .collect();
        for (index, (register, base, units)) in rings.into_iter().enumerate() {
            let first = register + QUEUE * (index as u32 % 2);
            self.memory.put(base, &vec![0; 16 * units as usize]);
            host.write(first, base as u32);
            host.write(first + 4, (base >> 32) as u32);
            host.write(first + 8, 16 * units);
            host.write(first + 0x10, 0);
            host.write(first + 0x18, 0);
        }
        let receive = match format {
            Format::Legacy(size) | Format::Extended(size) => size,
            Format::Split => RCTL_DTYP_SPLIT,
        };
        if !matches!(format, Format::Legacy(_)) {
            host.write(RFCTL, RFCTL_EXTENDED);
        }
        // A header of 256 bytes, buffers of 4 and 2 KiB, and none.
        host.write(PSRCTL, 0x0002_0402);
        // Packets go to the queue that the lowest bit of their first byte names.
        host.write(MRQC, 1);
        for index in 0..32 {
            host.write(RETA + 4 * index, 0x8000_8000);
        }
        host.write(RXDCTL, 0x0001_0000);
        host.write(TXDCTL, 0x0002_0000);
        host.write(TXDCTL + QUEUE, 0x0002_0000);
        host.write(TCTL, 0x0003_f0fa);
        host.write(RCTL, receive | RCTL_BAM | RCTL_EN);
        host.write(IMS, 0x01f0_0085);
    }

    /// Bytes of a buffer.
    fn size(&self) -> u32 {
        match self.format {
            Format::Legacy(code) | Format::Extended(code) => {
                let size = 2048 >> (code >> 16 & 3);
                match code >> 27 & 0xf {
                    0 => size << if code & RCTL_BSEX != 0 { 4 } else { 0 },
                    flexible => flexible * 1024,
                }
            }
            Format::Split => 0,
        }
    }

    fn step(&self) -> u32 {
        if self.format == Format::Split {
            2
        } else {
            1
        }
    }

    /// Posts up to `count` receive descriptors with buffers `shift` bytes into their places.
    pub fn post(&mut self, host: &mut Host, queue: usize, count: u32, shift: u64) {
        let step = self.step();
        let mut posted = false;
        for _ in 0..count {
            let size = self.size();
            let ring = &mut self.rx[queue];
            if (ring.next + step) % ring.units == ring.clean {
                break;
            }
            let Some(place) = self.free.pop() else {
                break;
            };
            let at = ring.base + 16 * u64::from(ring.next);
            // In packet split the lowest bit of the second address is DD.
            let place = place + (shift % 2048) / 2 * 2;
            let buffers = if self.format == Format::Split {
                let parts = vec![(place, 256), (place + 5000, 4096), (place + 11000, 2048)];
                for (index, &(address, _)) in parts.iter().enumerate() {
                    self.memory.put64(at + 8 * index as u64, address);
                }
                self.memory.put64(at + 24, u64::MAX);
                parts
            } else {
                self.memory.put64(at, place);
                self.memory.put64(at + 8, 0);
                vec![(place, size)]
            };
            ring.buffers.insert(ring.next, buffers);
            ring.next = (ring.next + step) % ring.units;
            posted = true;
        }
        if posted {
            host.write(RDT + QUEUE * queue as u32, self.rx[queue].next);
        }
    }

    /// Takes what has been received.
    pub fn reap(&mut self) {
        let step = self.step();
        for queue in 0..2 {
            loop {
                let ring = &mut self.rx[queue];
                if ring.clean == ring.next {
                    break;
                }
                let at = ring.base + 16 * u64::from(ring.clean);
                let back = self.memory.get(at, 16).unwrap();
                let (status, len) = match self.format {
                    Format::Legacy(_) => (back[12], u16::from_le_bytes([back[8], back[9]])),
                    _ => (back[8], u16::from_le_bytes([back[12], back[13]])),
                };
                if status & RX_DONE == 0 {
                    break;
                }
                let buffers = &ring.buffers[&ring.clean];
                let mut rest = len as usize;
                for (index, &(address, size)) in buffers.iter().enumerate() {
                    let limit = if self.format == Format::Split && index == 0 {
                        14
                    } else {
                        size as usize
                    };
                    let len = rest.min(limit);
                    ring.partial.extend(self.memory.get(address, len).unwrap());
                    rest -= len;
                }
                let place = buffers[0].0;
                let place = (1 << 20) + (place - (1 << 20)) / PLACE * PLACE;
                self.free.insert(0, place);
                if status & RX_END_OF_PACKET != 0 {
                    self.received[queue].push(std::mem::take(&mut ring.partial));
                }
                ring.clean = (ring.clean + step) % ring.units;
            }
        }
    }

    /// Sends a packet of `len` bytes in `parts` descriptors, behind a context descriptor if `context`.
    pub fn send(&mut self, host: &mut Host, queue: usize, len: usize, parts: u32, context: bool) {
        let ring = &mut self.tx[queue];
        ring.reap(&self.memory);
        let used = (ring.next + ring.units - ring.clean) % ring.units;
        let needed = parts + u32::from(context);
        if used + needed >= ring.units {
            return;
        }
        let mut packet = vec![0; len.max(14)];
        packet[0] = queue as u8;
        packet[4..8].copy_from_slice(&self.counter.to_le_bytes());
        for (index, byte) in packet.iter_mut().enumerate().skip(8) {
            *byte = (self.counter as usize * 7 + index) as u8;
        }
        // Packets of a ring have their places by their descriptors.
        let buffer = 0x10_0000 - 0x8_0000 + 0x4_0000 * queue as u64 + 2048 * u64::from(ring.next);
        self.memory.put(buffer, &packet);
        if context {
            let at = ring.base + 16 * u64::from(ring.next);
            self.memory.put64(at, 0x1234);
            // Bit 24 tells TCP here.
            self.memory
                .put64(at + 8, u64::from(TX_EXTENDED | 0x0100_0000));
            ring.next = (ring.next + 1) % ring.units;
        }
        let mut done = 0;
        for part in 0..parts {
            let last = part + 1 == parts;
            let size = if last {
                packet.len() - done
            } else {
                packet.len() / parts as usize
            };
            let at = ring.base + 16 * u64::from(ring.next);
            let mut command = size as u32;
            if context {
                command |= TX_EXTENDED | TX_DATA;
            }
            if last {
                command |= TX_END_OF_PACKET | TX_REPORT_STATUS;
            }
            self.memory.put64(at, buffer + done as u64);
            self.memory.put64(at + 8, command.into());
            done += size;
            if last {
                ring.last.push_back(ring.next);
            }
            ring.next = (ring.next + 1) % ring.units;
        }
        host.write(TDT + QUEUE * queue as u32, ring.next);
        self.sent[queue].push(packet);
        self.counter += 1;
    }

    /// The pages that the card may write to.
    pub fn writable(&self, receive_only: bool) -> BTreeSet<u64> {
        let mut pages = BTreeSet::new();
        let mut add = |address: u64, size: u64| {
            if size > 0 {
                pages.extend(address / PAGE..=(address + size - 1) / PAGE);
            }
        };
        for ring in &self.rx {
            add(ring.base, 16 * u64::from(ring.units));
            for &(address, size) in ring.buffers.values().flatten() {
                add(address, size.into());
            }
        }
        if !receive_only {
            for ring in &self.tx {
                add(ring.base, 16 * u64::from(ring.units));
            }
        }
        pages
    }
}

/// The packet with number `counter` that comes from the wire.
pub fn packet(counter: u32, queue: usize, len: usize) -> Vec<u8> {
    let mut packet = vec![0; len.max(64)];
    packet[0] = queue as u8;
    packet[4..8].copy_from_slice(&counter.to_le_bytes());
    for (index, byte) in packet.iter_mut().enumerate().skip(8) {
        *byte = (counter as usize * 13 + index) as u8;
    }
    packet
}
