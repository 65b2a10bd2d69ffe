// SPDX-License-Identifier: GPL-2.0

//! A model of the 82574's registers and of its DMA, written from the data sheet.
//!
//! It is stricter than a chip: what the data sheet forbids, and what may hang or corrupt one, is a fault
//! that the test ends with. Where the data sheet leaves time to the chip, the model takes some. Time
//! passes in [`Registers::delay`] and [`Model::run`] alone.

use std::cell::{
    Cell,
    RefCell, //
};
use std::collections::{
    BTreeSet,
    VecDeque, //
};
use std::rc::Rc;

use device_model::hardware::Registers;
use device_model::{
    GuestMemory,
    MemoryError, //
};

use crate::spec::*;

/// Memory of the guest. Clones are the same memory.
#[derive(Clone)]
pub struct Memory(Rc<RefCell<Inner>>);

struct Inner {
    bytes: Vec<u8>,
    /// Pages that were written by DMA since it was asked last.
    written: BTreeSet<u64>,
}

impl Memory {
    pub fn new(size: usize) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            bytes: vec![0; size],
            written: BTreeSet::new(),
        })))
    }

    pub fn get(&self, address: u64, len: usize) -> Option<Vec<u8>> {
        let at = usize::try_from(address).ok()?;
        let inner = self.0.borrow();
        inner
            .bytes
            .get(at..at.checked_add(len)?)
            .map(<[u8]>::to_vec)
    }

    pub fn put(&self, address: u64, bytes: &[u8]) {
        let at = address as usize;
        self.0.borrow_mut().bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn get64(&self, address: u64) -> u64 {
        u64::from_le_bytes(self.get(address, 8).unwrap().try_into().unwrap())
    }

    pub fn put64(&self, address: u64, value: u64) {
        self.put(address, &value.to_le_bytes());
    }

    /// A write of the device.
    fn dma(&self, address: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.put(address, bytes);
        let last = address + bytes.len() as u64 - 1;
        self.0
            .borrow_mut()
            .written
            .extend(address / PAGE..=last / PAGE);
    }

    /// The pages written by DMA since the last call.
    pub fn take_written(&self) -> BTreeSet<u64> {
        std::mem::take(&mut self.0.borrow_mut().written)
    }
}

impl GuestMemory for Memory {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        into.copy_from_slice(&self.get(address, into.len()).ok_or(MemoryError)?);
        Ok(())
    }

    fn write(&mut self, _address: u64, _from: &[u8]) -> Result<(), MemoryError> {
        panic!("the driver of a card writes nothing to the guest's memory");
    }
}

/// Counts since the beginning, which no read clears.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    pub received: u64,
    pub received_octets: u64,
    pub sent: u64,
    pub sent_octets: u64,
    pub missed: u64,
}

/// Freedoms that the data sheet gives the chip, and mishaps.
#[derive(Clone, Debug)]
pub struct Nature {
    /// Looks at STATUS until requests have ended after GIO Master Disable.
    pub master_polls: u32,
    /// Requests do not end.
    pub master_stuck: bool,
    /// The link partner has paused the transmitter.
    pub paused: bool,
    pub link: bool,
    /// Requests for MDIO that the firmware does not grant.
    pub firmware_polls: u32,
    /// The PHY does not answer.
    pub phy_dead: bool,
    /// The register that does not take what is written.
    pub broken: Option<u32>,
    /// Registers read as all ones.
    pub gone: bool,
    /// The reset does not end.
    pub reset_stuck: bool,
}

impl Default for Nature {
    fn default() -> Self {
        Self {
            master_polls: 3,
            master_stuck: false,
            paused: false,
            link: true,
            firmware_polls: 2,
            phy_dead: false,
            broken: None,
            gone: false,
            reset_stuck: false,
        }
    }
}

const TX_FIFO: usize = 4;
const RX_FIFO: usize = 12;
const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

pub struct Model {
    registers: Vec<u32>,
    pub memory: Memory,
    pub nature: Nature,
    pub bus_master: bool,
    /// What the data sheet forbids, and was done.
    pub faults: Vec<String>,
    pub truth: Truth,
    /// Packets sent, in order.
    pub wire: Vec<Vec<u8>>,
    /// Resets through CTRL.RST.
    pub resets: u32,
    pub phy_resets: u32,
    /// How many pages have been pinned by now, and had been when RDT was written.
    pub pins: Rc<Cell<usize>>,
    pub pins_at_tail: Vec<usize>,
    /// Number of accesses.
    pub accesses: u32,
    /// Writes, in order.
    pub log: Vec<(u32, u32)>,
    pub phy: [u16; 32],
    phy_page: u16,
    icr: u32,
    ims: u32,
    now: u64,
    reset_at: Option<u64>,
    auto_read_at: u64,
    mdic_at: u64,
    eerd_at: u64,
    master_polls: u32,
    receiver_was_enabled: bool,
    transmitter_was_enabled: bool,
    rx_fifo: VecDeque<Vec<u8>>,
    tx_fifo: VecDeque<Vec<u8>>,
    /// Data of descriptors fetched of a packet whose last was not.
    partial: [Vec<u8>; 2],
    /// Write-backs that have not been done.
    write_backs: Vec<(u64, Vec<u8>)>,
}

impl Model {
    pub fn new(memory: Memory) -> Self {
        let mut phy = [0; 32];
        phy[0] = 0x1140;
        phy[1] = 0x796d;
        phy[2] = 0x0141;
        phy[3] = 0x0cb1;
        phy[4] = 0x0de1;
        phy[9] = 0x0e00;
        phy[16] = 0x0060;
        phy[20] = 0x0c60;
        let mut model = Self {
            registers: vec![0; (REGISTER_SPACE / 4) as usize],
            memory,
            nature: Nature::default(),
            bus_master: true,
            faults: Vec::new(),
            truth: Truth::default(),
            wire: Vec::new(),
            resets: 0,
            phy_resets: 0,
            pins: Rc::default(),
            pins_at_tail: Vec::new(),
            accesses: 0,
            log: Vec::new(),
            phy,
            phy_page: 0,
            icr: 0,
            ims: 0,
            now: 1_000_000,
            reset_at: None,
            auto_read_at: 0,
            mdic_at: 0,
            eerd_at: 0,
            master_polls: 0,
            receiver_was_enabled: false,
            transmitter_was_enabled: false,
            rx_fifo: VecDeque::new(),
            tx_fifo: VecDeque::new(),
            partial: [Vec::new(), Vec::new()],
            write_backs: Vec::new(),
        };
        model.defaults();
        model
    }

    /// A register as the chip has it, without the effect of a read.
    pub fn peek(&self, offset: u32) -> u32 {
        match offset {
            IMS => self.ims,
            ICR => self.icr,
            _ => self.registers[(offset / 4) as usize],
        }
    }

    /// Whether the interrupt is asserted.
    pub fn interrupt(&self) -> bool {
        self.icr & self.ims != 0
    }

    /// Packets that were received and are not in memory.
    pub fn rx_fifo(&self) -> usize {
        self.rx_fifo.len()
    }

    /// These packets, oldest first.
    pub fn in_fifo(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.rx_fifo.iter().cloned()
    }

    /// Microseconds since some time before the power-on.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// A packet arrives. Returns whether the chip takes it.
    pub fn arrive(&mut self, packet: &[u8]) -> bool {
        if self.get(RCTL) & RCTL_EN == 0 || !self.nature.link {
            return false;
        }
        if self.rx_fifo.len() == RX_FIFO {
            self.truth.missed += 1;
            self.count(MPC, 1);
            return false;
        }
        self.receive(packet);
        true
    }

    /// Lets time pass.
    pub fn run(&mut self, microseconds: u32) {
        self.now += u64::from(microseconds);
        for _ in 0..microseconds.div_ceil(10).min(400) {
            if !self.step() {
                break;
            }
        }
    }

    /// Without link, fetches descriptors until the FIFO is full, and then all of the next packet but its
    /// last descriptor: the prefetch of the chip does not care where packets end.
    pub fn fetch_partly(&mut self) {
        let offset = 0;
        while (self.get(TDH + offset) + 1) % (self.get(TDLEN + offset) / 16)
            != self.get(TDT + offset)
        {
            let fifo = std::mem::take(&mut self.tx_fifo);
            let fetched = self.step_fetch(0);
            let added = std::mem::replace(&mut self.tx_fifo, fifo);
            self.tx_fifo.extend(added);
            if !fetched {
                break;
            }
        }
    }

    fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    fn get(&self, offset: u32) -> u32 {
        self.registers[(offset / 4) as usize]
    }

    fn set(&mut self, offset: u32, value: u32) {
        self.registers[(offset / 4) as usize] = value;
    }

    fn queue(&self, register: u32, queue: usize) -> u32 {
        self.get(register + QUEUE * queue as u32)
    }

    fn count(&mut self, offset: u32, by: u64) {
        if matches!(offset, GORCL | GOTCL | TORL | TOTL) {
            let sum = u64::from(self.get(offset + 4)) << 32 | u64::from(self.get(offset));
            let sum = sum.saturating_add(by);
            self.set(offset, sum as u32);
            self.set(offset + 4, (sum >> 32) as u32);
        } else {
            let sum = self.get(offset).saturating_add(by as u32);
            self.set(offset, sum);
        }
    }

    fn receive(&mut self, packet: &[u8]) {
        let octets = packet.len() as u64 + 4;

        self.truth.received += 1;
        self.truth.received_octets += octets;
        self.count(GPRC, 1);
        self.count(GORCL, octets);
        self.count(TORL, octets);
        self.rx_fifo.push_back(packet.to_vec());
    }

    fn raise(&mut self, causes: u32) {
        self.icr |= causes;
    }

    /// Registers after a reset. Filters and statistics are not promised.
    fn defaults(&mut self) {
        let filters = |offset: u32| {
            (MTA..MTA + 0x200).contains(&offset)
                || (VFTA..VFTA + 0x200).contains(&offset)
                || (RETA..RETA + 0x80).contains(&offset)
                || (RSSRK..RSSRK + 40).contains(&offset)
                || (STATISTICS..STATISTICS_END).contains(&offset)
        };
        for offset in (0..REGISTER_SPACE).step_by(4) {
            if !filters(offset) {
                self.set(offset, 0);
            }
        }
        self.set(CTRL, 0x0010_0249);
        self.set(CTRL_EXT, 0x0001_0000);
        self.set(PBA, 0x0014_0014);
        self.set(TIPG, 0x0060_2006);
        self.set(TARC, 3 | TARC_ENABLE);
        self.set(TARC + QUEUE, 3 | TARC_ENABLE);
        self.set(LEDCTL, 0x0706_8302);
        self.set(RAL, u32::from_le_bytes([MAC[0], MAC[1], MAC[2], MAC[3]]));
        self.set(
            RAH,
            0x8000_0000 | u32::from(MAC[4]) | u32::from(MAC[5]) << 8,
        );
        self.icr = 0;
        self.ims = 0;
        self.receiver_was_enabled = false;
        self.transmitter_was_enabled = false;
        self.rx_fifo.clear();
        self.tx_fifo.clear();
        self.partial = [Vec::new(), Vec::new()];
        self.write_backs.clear();
        self.master_polls = 0;
    }

    fn masters(&self) -> bool {
        self.bus_master && (self.get(CTRL) & CTRL_GIO_MASTER_DISABLE == 0 || self.master_polls > 0)
    }

    /// Does one thing. Returns whether there was one.
    fn step(&mut self) -> bool {
        let received = self.step_receive();
        let sent = self.step_send();
        let fetched = self.step_fetch(0) | self.step_fetch(1);
        received | sent | fetched
    }

    fn step_receive(&mut self) -> bool {
        let Some(packet) = self.rx_fifo.front() else {
            return false;
        };
        if !self.masters() {
            return false;
        }
        let queue = if self.get(MRQC) & 3 == 1 {
            let entry = u32::from(packet[0] & 0x7f);
            (self.get(RETA + (entry & !3)) >> (8 * (entry % 4)) >> 7 & 1) as usize
        } else {
            0
        };
        let packet = packet.clone();
        if self.place(queue, &packet) {
            self.rx_fifo.pop_front();
            self.raise(if queue == 0 {
                CAUSE_RXT0 | CAUSE_RXQ0
            } else {
                CAUSE_RXT0 | CAUSE_RXQ0 << 1
            });
            return true;
        }
        false
    }

    /// Writes a packet to memory, if there are enough descriptors for it.
    fn place(&mut self, queue: usize, packet: &[u8]) -> bool {
        let split = self.get(RCTL) & RCTL_DTYP_SPLIT != 0;
        let extended = split || self.get(RFCTL) & RFCTL_EXTENDED != 0;
        let units = self.queue(RDLEN, queue) / 16;
        let base =
            u64::from(self.queue(RDBAH, queue)) << 32 | u64::from(self.queue(RDBAL, queue) & !0xf);
        let mut head = self.queue(RDH, queue);
        let tail = self.queue(RDT, queue);
        let mut rest = packet;
        let mut writes = Vec::new();
        let mut first = true;

        if units == 0 {
            return false;
        }
        while !rest.is_empty() || first {
            if head == tail {
                return false;
            }
            let at = base + 16 * u64::from(head);
            let Some(_) = self.memory.get(at, 16) else {
                self.fault("receive descriptor out of memory");
                return false;
            };
            let word = |index: u64| {
                self.memory
                    .get64(base + (16 * u64::from(head) + 8 * index) % (16 * u64::from(units)))
            };
            let mut taken = 0;
            if split {
                let sizes = self.get(PSRCTL);
                let sizes = [
                    (sizes & 0x7f) as usize * 128,
                    (sizes >> 8 & 0x3f) as usize * 1024,
                    (sizes >> 16 & 0x3f) as usize * 1024,
                    (sizes >> 24 & 0x3f) as usize * 1024,
                ];
                for (index, size) in sizes.into_iter().enumerate() {
                    let address = word(index as u64);
                    if address == u64::MAX || size == 0 {
                        continue;
                    }
                    // The header has 14 bytes here.
                    let limit = if index == 0 { 14 } else { size };
                    let len = (rest.len() - taken).min(limit);
                    writes.push((address, rest[taken..taken + len].to_vec()));
                    taken += len;
                }
            } else {
                let address = word(0);
                if address != 0 {
                    taken = rest.len().min(self.buffer_size());
                    writes.push((address, rest[..taken].to_vec()));
                }
            }
            let chunk = taken;
            rest = &rest[taken..];
            let status = RX_DONE | if rest.is_empty() { RX_END_OF_PACKET } else { 0 };
            let mut back = self.memory.get(at, 16).unwrap();
            if extended {
                back[0..8].copy_from_slice(&0xdead_beef_0000_0001_u64.to_le_bytes());
                back[8..12].copy_from_slice(&u32::from(status).to_le_bytes());
                back[12..14].copy_from_slice(&(chunk as u16).to_le_bytes());
            } else {
                back[8..10].copy_from_slice(&(chunk as u16).to_le_bytes());
                back[12] = status;
            }
            writes.push((at, back));
            head = (head + if split { 2 } else { 1 }) % units;
            first = false;
        }
        for (address, bytes) in writes {
            if self.memory.get(address, bytes.len()).is_none() {
                self.fault(format!("receive buffer {address:#x} out of memory"));
                continue;
            }
            self.memory.dma(address, &bytes);
        }
        self.set(RDH + QUEUE * queue as u32, head);
        true
    }

    fn buffer_size(&self) -> usize {
        let control = self.get(RCTL);
        let flexible = control >> 27 & 0xf;
        let size = 2048 >> (control >> 16 & 3);
        match (flexible, control & RCTL_BSEX) {
            (0, 0) => size,
            (0, _) => size * 16,
            (flexible, _) => flexible as usize * 1024,
        }
    }

    fn step_fetch(&mut self, queue: usize) -> bool {
        let offset = QUEUE * queue as u32;
        let units = self.get(TDLEN + offset) / 16;
        let head = self.get(TDH + offset);
        let enabled = self.get(TCTL) & TCTL_EN != 0 && self.get(TARC + offset) & TARC_ENABLE != 0;

        if units == 0
            || !enabled
            || !self.masters()
            || head == self.get(TDT + offset)
            || self.tx_fifo.len() == TX_FIFO
        {
            return false;
        }
        let base = u64::from(self.get(TDBAH + offset)) << 32 | u64::from(self.get(TDBAL + offset));
        let at = base + 16 * u64::from(head);
        let Some(descriptor) = self.memory.get(at, 16) else {
            self.fault("transmit descriptor out of memory");
            return false;
        };
        let address = u64::from_le_bytes(descriptor[..8].try_into().unwrap());
        let command = u32::from_le_bytes(descriptor[8..12].try_into().unwrap());
        let context = command & TX_EXTENDED != 0 && command & 0x00f0_0000 == 0;

        if !context {
            let len = if command & TX_EXTENDED != 0 {
                command & 0x000f_ffff
            } else {
                command & 0xffff
            };
            match self.memory.get(address, len as usize) {
                Some(bytes) => self.partial[queue].extend(bytes),
                None => self.fault("transmit buffer out of memory"),
            }
            if command & TX_END_OF_PACKET != 0 {
                let packet = std::mem::take(&mut self.partial[queue]);
                self.tx_fifo.push_back(packet);
            }
        }
        if command & TX_REPORT_STATUS != 0 {
            let mut back = descriptor;
            back[12] |= TX_DONE;
            self.write_backs.push((at, back));
            let threshold = self.get(TXDCTL + offset) >> 16 & 0x3f;
            if self.write_backs.len() >= threshold.max(1) as usize {
                self.flush();
            }
        }
        self.set(TDH + offset, (head + 1) % units);
        true
    }

    fn flush(&mut self) {
        if !self.masters() {
            return;
        }
        for (address, bytes) in std::mem::take(&mut self.write_backs) {
            self.memory.dma(address, &bytes);
            self.raise(CAUSE_TXDW | CAUSE_TXQ0);
        }
    }

    fn step_send(&mut self) -> bool {
        let loopback = self.get(RCTL) & RCTL_LBM_MAC != 0;
        let can =
            self.get(TCTL) & TCTL_EN != 0 && !self.nature.paused && (self.nature.link || loopback);
        if !can {
            return false;
        }
        let Some(packet) = self.tx_fifo.pop_front() else {
            return false;
        };
        let octets = packet.len() as u64 + 4;
        self.truth.sent += 1;
        self.truth.sent_octets += octets;
        self.count(GPTC, 1);
        self.count(GOTCL, octets);
        self.count(TOTL, octets);
        if loopback && self.get(RCTL) & RCTL_EN != 0 {
            self.receive(&packet);
        }
        self.wire.push(packet);
        true
    }

    fn reset(&mut self) {
        self.resets += 1;
        self.defaults();
        self.reset_at = Some(self.now);
        self.auto_read_at = self.now + 3_000;
        self.set(CTRL, self.get(CTRL) | CTRL_RST);
    }

    fn check_access(&mut self, offset: u32) {
        self.accesses += 1;
        if let Some(at) = self.reset_at {
            if self.now < at + 500 {
                self.fault(format!("access to {offset:#x} during reset"));
            }
            let phy = matches!(offset, MDIC | EERD);
            if phy && self.now < at + 20_000 {
                self.fault(format!(
                    "access to {offset:#x} before the PHY is configured"
                ));
            }
        }
    }

    fn enabled(&self, offset: u32) -> bool {
        if offset < 0x3000 {
            self.get(RCTL) & RCTL_EN != 0
        } else {
            self.get(TCTL) & TCTL_EN != 0
        }
    }

    fn mdic(&mut self, value: u32) {
        if self.get(EXTCNF_CTRL) & EXTCNF_MDIO_SOFTWARE == 0 {
            self.fault("MDIC is used without MDIO being owned");
        }
        if self.now < self.mdic_at {
            self.fault("MDIC is written while an operation is under way");
        }
        let register = (value >> 16 & 0x1f) as usize;
        let mut result = value & !(MDIC_READY | MDIC_ERROR);
        if value >> 21 & 0x1f != 1 {
            result |= MDIC_ERROR;
        } else if value >> 26 & 3 == 2 {
            let read = if register == 22 {
                self.phy_page
            } else if self.phy_page == 0 {
                self.phy[register]
            } else {
                0x5a5a
            };
            result = result & !0xffff | u32::from(read);
        } else if register == 22 {
            self.phy_page = value as u16;
        } else if self.phy_page == 0 {
            self.phy[register] = value as u16;
            if register == 0 && value & 0x8000 != 0 {
                self.phy[0] &= !0x8000;
                self.phy_resets += 1;
            }
        } else {
            self.fault("a page of the PHY other than 0 is written");
        }
        self.set(MDIC, result);
        self.mdic_at = self.now + 64;
    }
}

impl Registers for Model {
    fn read32(&mut self, offset: u32) -> u32 {
        if self.nature.gone {
            return u32::MAX;
        }
        self.check_access(offset);
        match offset {
            CTRL => {
                let done = self.reset_at.is_none_or(|at| self.now >= at + 1_000);
                if done && !self.nature.reset_stuck {
                    let value = self.get(CTRL) & !CTRL_RST;
                    self.set(CTRL, value);
                }
                self.get(CTRL)
            }
            STATUS => {
                let mut value = STATUS_FD;
                if self.nature.link {
                    value |= STATUS_LU;
                }
                if self.nature.paused {
                    value |= STATUS_TXOFF;
                }
                if self.master_polls > 0 {
                    // A request that was under way.
                    self.step();
                    if !self.nature.master_stuck {
                        self.master_polls -= 1;
                    }
                }
                if self.get(CTRL) & CTRL_GIO_MASTER_DISABLE == 0 || self.master_polls > 0 {
                    value |= STATUS_GIO_MASTER_ENABLE;
                }
                value
            }
            EECD => {
                let done = self.now >= self.auto_read_at && !self.nature.reset_stuck;
                EECD_PRESENT | if done { EECD_AUTO_READ_DONE } else { 0 }
            }
            EERD => {
                let value = self.get(EERD);
                if value & 1 != 0 && self.now >= self.eerd_at {
                    let address = value >> 2 & 0x3fff;
                    self.set(EERD, 2 | value & 0xfffc | (address ^ 0xbaba) << 16);
                }
                self.get(EERD)
            }
            MDIC => {
                if self.get(MDIC) != 0 && self.now >= self.mdic_at && !self.nature.phy_dead {
                    let value = self.get(MDIC) | MDIC_READY;
                    self.set(MDIC, value);
                }
                self.get(MDIC)
            }
            ICR => {
                // 10.2.4.1: cleared if nothing is unmasked, or if the interrupt is asserted.
                let asserted = self.interrupt();
                let value = self.icr | if asserted { INT_ASSERTED } else { 0 };
                if self.ims == 0 || asserted {
                    self.icr = 0;
                }
                value
            }
            IMS => self.ims,
            ICS | IMC => {
                self.fault(format!("{offset:#x} is write only"));
                0
            }
            SWSM => {
                self.fault("a read of SWSM takes the semaphore");
                1
            }
            RXSTMPH | TXSTMPH => {
                self.fault("a time stamp is unlocked");
                0
            }
            RDFPC => self.rx_fifo.len() as u32,
            TDFPC => self.tx_fifo.len() as u32,
            _ if (STATISTICS..STATISTICS_END).contains(&offset) => {
                let value = self.get(offset);
                match offset {
                    GORCL | GOTCL | TORL | TOTL => {}
                    _ if matches!(offset - 4, GORCL | GOTCL | TORL | TOTL) => {
                        self.set(offset, 0);
                        self.set(offset - 4, 0);
                    }
                    _ => self.set(offset, 0),
                }
                value
            }
            _ if offset & 3 == 0 && offset < REGISTER_SPACE => self.get(offset),
            _ => {
                self.fault(format!("read of {offset:#x}"));
                0
            }
        }
    }

    fn write32(&mut self, offset: u32, value: u32) {
        if self.nature.gone {
            return;
        }
        self.check_access(offset);
        self.log.push((offset, value));
        if self.nature.broken == Some(offset) {
            return;
        }
        match offset {
            CTRL => {
                if value & CTRL_ONE == 0 {
                    self.fault("a reserved bit of CTRL is cleared");
                }
                if value & CTRL_PHY_RST != 0 {
                    self.phy_resets += 1;
                }
                if value & CTRL_RST != 0 {
                    if self.get(RCTL) & RCTL_EN != 0 || self.get(TCTL) & TCTL_EN != 0 {
                        self.fault("reset of an enabled function");
                    }
                    self.reset();
                    return;
                }
                let before = self.get(CTRL);
                // Only a function that was enabled since the reset can have requests under way.
                let used = self.receiver_was_enabled || self.transmitter_was_enabled;
                if value & !before & CTRL_GIO_MASTER_DISABLE != 0 && used {
                    self.master_polls = self.nature.master_polls;
                }
                if value & CTRL_GIO_MASTER_DISABLE == 0 {
                    self.master_polls = 0;
                }
                self.set(CTRL, value & !CTRL_PHY_RST);
            }
            STATUS | ICR | RDFPC | TDFPC => self.fault(format!("{offset:#x} is read only")),
            EECD | FLA | EEWR | FLSWCTL | FLSWDATA | SWSM | FWSM => {
                self.fault(format!("EEPROM, flash or semaphore written: {offset:#x}"));
            }
            EERD => {
                self.set(EERD, value & 0xfffc | value & 1);
                self.eerd_at = self.now + 300;
            }
            MDIC => self.mdic(value),
            EXTCNF_CTRL => {
                let mut value = value;
                if value & EXTCNF_MDIO_SOFTWARE != 0 && self.nature.firmware_polls > 0 {
                    self.nature.firmware_polls -= 1;
                    value &= !EXTCNF_MDIO_SOFTWARE;
                }
                self.set(EXTCNF_CTRL, value);
            }
            ICS => self.icr |= value & !INT_ASSERTED,
            IMS => self.ims |= value,
            IMC => self.ims &= !value,
            RCTL => {
                self.receiver_was_enabled |= value & RCTL_EN != 0;
                self.set(RCTL, value);
            }
            TCTL => {
                if value & 1 << 22 != 0 {
                    self.fault("TCTL.SWXOFF sends a packet");
                }
                self.transmitter_was_enabled |= value & TCTL_EN != 0;
                self.set(TCTL, value);
            }
            TIDV | RDTR => {
                if value & FLUSH != 0 {
                    self.flush();
                }
                self.set(offset, value & 0xffff);
            }
            CTRL_EXT if value & 0x3000 != 0 => self.fault("CTRL_EXT starts an operation"),
            _ => {
                let queue = if matches!(offset & 0xfff, 0x900..=0x93f) {
                    offset - QUEUE
                } else {
                    offset
                };
                if queue == RDT {
                    self.pins_at_tail.push(self.pins.get());
                }
                match queue {
                    RDBAL | RDBAH | RDLEN | TDBAL | TDBAH | TDLEN if self.enabled(offset) => {
                        self.fault(format!("ring register {offset:#x} written while enabled"));
                    }
                    RDH if self.receiver_was_enabled => {
                        self.fault("RDH written without a reset before");
                    }
                    TDH if self.transmitter_was_enabled => {
                        self.fault("TDH written without a reset before");
                    }
                    _ => {}
                }
                let mask = match queue {
                    RDBAL | TDBAL => !0xf,
                    RDLEN | TDLEN => 0xf_ff80,
                    RDH | RDT | TDH | TDT => 0xffff,
                    _ => u32::MAX,
                };
                if (STATISTICS..STATISTICS_END).contains(&offset) {
                    return;
                }
                self.set(offset, value & mask);
            }
        }
    }

    fn delay(&mut self, microseconds: u32) {
        self.run(microseconds);
    }
}
