// SPDX-License-Identifier: GPL-2.0

//! The cost of the worker, and the events that stop it: accesses of memory, large pages, bus mastering, resets.

use device_model_rig::{
    Undisturbed,
    Whole, //
};
use nvme::{
    BackendError,
    BlockBackend,
    DeviceModel,
    Doorbells,
    GuestMemory,
    LoadError,
    MemoryError,
    Parameters,
    Place,
    PostedWrites,
    ReadStraight,
    Work, //
};

/// A controller with its executor.
type Controller = Whole<nvme::Controller>;

const CAPACITY: usize = 4 << 20;
const MEMORY_SIZE: usize = 8 << 20;

const ADMIN_SQ: u64 = 0x1_0000;
const ADMIN_CQ: u64 = 0x2_0000;
const IO_SQ: u64 = 0x3_0000;
const IO_CQ: u64 = 0x4_0000;
const LIST: u64 = 0x5_0000;
const SHADOW: u64 = 0x6_0000;
const EVENTS: u64 = 0x7_0000;
/// From here on there is data.
const DATA: u64 = 0x10_0000;

const ENTRIES: u16 = 64;

const CC: u64 = 0x14;
const CSTS: u64 = 0x1c;
const CC_ENABLED: u32 = 1 | 6 << 16 | 4 << 20;
const DOORBELLS: u64 = 0x1000;
const COMMAND: u64 = 0x04;
const MEMORY_AND_MASTER: u16 = 0x0006;
/// Device control of the PCI Express capability, which comes after those of 8 and 12 bytes.
const POWER_CONTROL: u64 = 0x40 + 4;
const D0: u16 = 0;
const D3HOT: u16 = 3;
const DEVICE_CONTROL: u64 = 0x54 + 8;
const FUNCTION_RESET: u16 = 1 << 15;

/// A controller with `parameters` that has loaded `state`.
fn from_state(parameters: &Parameters, state: &[u8]) -> Result<Controller, LoadError> {
    let mut controller = Controller::power_on(parameters).expect("the parameters are good");
    controller.load(state)?;
    Ok(controller)
}

/// Memory from address 0 on, which counts how it is accessed.
struct Memory {
    bytes: Vec<u8>,
    reads: Vec<(u64, usize)>,
    writes: Vec<(u64, usize)>,
    /// Number of writes that succeed, if not all do.
    writes_left: Option<usize>,
}

impl Memory {
    fn range(&self, address: u64, length: usize) -> Result<std::ops::Range<usize>, MemoryError> {
        let start = usize::try_from(address).map_err(|_| MemoryError)?;
        let end = start.checked_add(length).ok_or(MemoryError)?;
        (end <= self.bytes.len())
            .then_some(start..end)
            .ok_or(MemoryError)
    }

    fn put(&mut self, address: u64, bytes: &[u8]) {
        self.bytes[address as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn forget(&mut self) {
        self.reads.clear();
        self.writes.clear();
    }
}

impl GuestMemory for Memory {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        let range = self.range(address, into.len())?;
        self.reads.push((address, into.len()));
        into.copy_from_slice(&self.bytes[range]);
        Ok(())
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), MemoryError> {
        let range = self.range(address, from.len())?;
        if let Some(left) = &mut self.writes_left {
            *left = left.checked_sub(1).ok_or(MemoryError)?;
        }
        self.writes.push((address, from.len()));
        self.bytes[range].copy_from_slice(from);
        Ok(())
    }
}

/// A store that lends all its memory at once.
struct Disk {
    bytes: Vec<u8>,
    /// Bytes of a read that it claims to move straight; nothing arrives.
    straight: usize,
    /// Bytes for which it asks for a place at once.
    piece: usize,
    /// The places.
    places: Vec<(u64, usize)>,
}

impl BlockBackend for Disk {
    fn read(
        &mut self,
        offset: u64,
        len: usize,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), MemoryError>,
    ) -> Result<(), BackendError> {
        Ok(sink(&self.bytes[offset as usize..][..len])?)
    }

    fn write(
        &mut self,
        offset: u64,
        len: usize,
        source: &mut dyn FnMut(&mut [u8]) -> Result<(), MemoryError>,
    ) -> Result<(), BackendError> {
        Ok(source(&mut self.bytes[offset as usize..][..len])?)
    }

    fn write_zeroes(&mut self, offset: u64, len: u64, _: bool) -> Result<(), BackendError> {
        self.bytes[offset as usize..][..len as usize].fill(0);
        Ok(())
    }

    fn deallocate(&mut self, offset: u64, len: u64) -> Result<(), BackendError> {
        self.write_zeroes(offset, len, true)
    }

    fn flush(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    fn write_back(&mut self) -> Result<(), BackendError> {
        Ok(())
    }
}

impl<M> ReadStraight<M> for Disk {
    fn read_straight(
        &mut self,
        _offset: u64,
        len: usize,
        memory: &mut M,
        place: Place<'_, M>,
    ) -> Result<usize, BackendError> {
        let most = self.straight.min(len);
        let mut moved = 0;
        while moved < most {
            let mut piece = self.piece.min(most - moved);
            while piece > 0 {
                let (address, len) = place(memory, piece)?;
                assert!((1..=piece).contains(&len), "{len} of {piece} bytes");
                self.places.push((address, len));
                piece -= len;
                moved += len;
            }
        }
        Ok(moved)
    }
}

struct Machine {
    controller: Controller,
    doorbells: Doorbells,
    memory: Memory,
    disk: Disk,
    admin_tail: u16,
    io_tail: u16,
}

fn command(opcode: u8, prp1: u64, prp2: u64, dwords: [u32; 3]) -> [u8; 64] {
    let mut entry = [0; 64];
    entry[0] = opcode;
    entry[4] = 1;
    entry[24..32].copy_from_slice(&prp1.to_le_bytes());
    entry[32..40].copy_from_slice(&prp2.to_le_bytes());
    for (bytes, dword) in entry[40..52].chunks_exact_mut(4).zip(dwords) {
        bytes.copy_from_slice(&dword.to_le_bytes());
    }
    entry
}

const FLUSH: [u8; 64] = {
    let mut entry = [0; 64];
    entry[4] = 1;
    entry
};

impl Machine {
    /// A machine with an enabled controller in pages of 2 to the power of `12 + mps` bytes, and one
    /// pair of I/O queues.
    fn new(mps: u32) -> Self {
        let parameters = Parameters {
            capacity: CAPACITY as u64,
            lba_shift: 9,
            queue_pairs: 2,
            serial: *b"UNIT                ",
            store: 0,
            others: [None; nvme::NAMESPACES_MAX - 1],
        };
        let mut machine = Self {
            controller: Controller::power_on(&parameters).expect("the parameters are good"),
            doorbells: Doorbells::new(),
            memory: Memory {
                bytes: vec![0; MEMORY_SIZE],
                reads: Vec::new(),
                writes: Vec::new(),
                writes_left: None,
            },
            disk: Disk {
                bytes: vec![0; CAPACITY],
                straight: 0,
                piece: 0x2000,
                places: Vec::new(),
            },
            admin_tail: 0,
            io_tail: 0,
        };
        machine.write_config(COMMAND, MEMORY_AND_MASTER);
        machine.enable(mps);
        machine
    }

    fn enable(&mut self, mps: u32) {
        let last = u32::from(ENTRIES - 1);
        self.write(0x24, &(last << 16 | last).to_le_bytes());
        self.write(0x28, &ADMIN_SQ.to_le_bytes());
        self.write(0x30, &ADMIN_CQ.to_le_bytes());
        self.write(CC, &(CC_ENABLED | mps << 7).to_le_bytes());
        self.settle();
        assert_eq!(self.csts(), 1, "CSTS of an enabled controller");

        let size = last << 16 | 1;
        self.admin(command(0x05, IO_CQ, 0, [size, 3, 0]));
        self.admin(command(0x01, IO_SQ, 0, [size, 1 << 16 | 1, 0]));
        self.memory.forget();
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.controller
            .write_bar(0, offset, bytes)
            .expect("it is in the BAR");
    }

    fn write_config(&mut self, offset: u64, value: u16) {
        self.controller
            .write_config(offset, &value.to_le_bytes())
            .expect("it is in configuration space");
    }

    fn csts(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.controller
            .read_bar(0, CSTS, &mut bytes)
            .expect("CSTS is readable");
        u32::from_le_bytes(bytes)
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            let work = self.controller.work(|executor| {
                executor.serve(
                    &Undisturbed,
                    &self.doorbells,
                    &mut self.memory,
                    &mut self.disk,
                    64,
                )
            });
            if work == Work::Idle {
                return;
            }
        }
        panic!("the controller has nothing left to do after 1000 rounds");
    }

    #[track_caller]
    fn admin(&mut self, entry: [u8; 64]) {
        let slot = u64::from(self.admin_tail);
        self.memory.put(ADMIN_SQ + 64 * slot, &entry);
        self.admin_tail += 1;
        assert!(
            self.doorbells
                .post(DOORBELLS, &u32::from(self.admin_tail).to_le_bytes()),
            "it is a doorbell"
        );
        self.settle();
        assert_eq!(self.status(ADMIN_CQ, slot), 0, "status of an admin command");
    }

    /// Rings for `entries` in the I/O queue.
    fn submit(&mut self, entries: &[[u8; 64]]) {
        for entry in entries {
            let slot = u64::from(self.io_tail);
            self.memory.put(IO_SQ + 64 * slot, entry);
            self.io_tail += 1;
        }
        self.doorbells
            .post(DOORBELLS + 8, &u32::from(self.io_tail).to_le_bytes());
    }

    /// Status field of a completion, without the phase.
    fn status(&self, queue: u64, slot: u64) -> u16 {
        let at = (queue + 16 * slot) as usize + 14;
        let field = u16::from_le_bytes([self.memory.bytes[at], self.memory.bytes[at + 1]]);
        assert_eq!(field & 1, 1, "phase of completion {slot}");
        field >> 1
    }

    /// Accesses of memory other than those of the queues.
    fn data(accesses: &[(u64, usize)]) -> Vec<(u64, usize)> {
        accesses
            .iter()
            .copied()
            .filter(|(address, _)| *address >= DATA)
            .collect()
    }
}

/// 512 KiB that is different everywhere.
fn pattern() -> Vec<u8> {
    (0u32..512 << 10)
        .map(|at| (at ^ at >> 8 ^ at >> 16) as u8)
        .collect()
}

/// Blocks of 512 KiB, less one, in dword 12.
const ALL_BLOCKS: u32 = 1023;

#[test]
fn eight_commands_cost_one_fetch_and_two_writes() {
    let mut machine = Machine::new(0);
    machine.submit(&[FLUSH; 8]);
    machine.settle();
    assert_eq!(machine.memory.reads, [(IO_SQ, 8 * 64)], "the commands");
    assert_eq!(
        machine.memory.writes,
        [(IO_CQ, 8 * 16), (IO_CQ + 12, 4)],
        "the completions, and the phase of the first"
    );
    for slot in 0..8 {
        assert_eq!(machine.status(IO_CQ, slot), 0, "completion {slot}");
    }
}

#[test]
fn no_completion_is_valid_before_all_of_it_is_there() {
    let mut machine = Machine::new(0);
    // A guest may see the bytes of a write in any order, so the phase is in a write of its own.
    machine.memory.writes_left = Some(1);
    machine.submit(&[FLUSH; 3]);
    machine.settle();
    assert_eq!(
        machine.memory.bytes[IO_CQ as usize + 14] & 1,
        0,
        "the phase of the first completion after the first write"
    );
}

#[test]
fn contiguous_pages_become_few_accesses() {
    let mut machine = Machine::new(0);
    let pages = DATA + 0x1000..DATA + 0x8_0000;
    for (index, page) in pages.step_by(0x1000).enumerate() {
        machine
            .memory
            .put(LIST + 8 * index as u64, &page.to_le_bytes());
    }
    machine.memory.put(DATA, &pattern());
    machine.submit(&[command(0x01, DATA, LIST, [0, 0, ALL_BLOCKS])]);
    machine.settle();
    assert_eq!(machine.status(IO_CQ, 0), 0, "status of the write");
    assert_eq!(
        machine.disk.bytes[..512 << 10],
        pattern(),
        "what was written"
    );
    let accesses = Machine::data(&machine.memory.reads);
    // The list is read in pieces of 64 entries, so the data is accessed in as many.
    assert!(
        accesses.len() <= 3,
        "512 KiB in a row are at most 3 accesses, not {}",
        accesses.len()
    );
}

#[test]
fn pages_may_have_64_kib() {
    let mut machine = Machine::new(4);
    let page = 0x1_0000u64;
    // The first page begins in its middle; the others come in reverse order.
    let first = DATA + 20 * page + 0x8000;
    let mut pages = vec![(first, 0x8000)];
    for index in 0..8 {
        let address = DATA + (16 - 2 * index) * page;
        let length = if index == 7 { 0x8000 } else { page as usize };
        machine.memory.put(LIST + 8 * index, &address.to_le_bytes());
        pages.push((address, length));
    }
    let bytes = pattern();
    let mut done = 0;
    for (address, length) in &pages {
        machine.memory.put(*address, &bytes[done..done + length]);
        done += length;
    }
    machine.submit(&[command(0x01, first, LIST, [0, 0, ALL_BLOCKS])]);
    machine.settle();
    assert_eq!(machine.status(IO_CQ, 0), 0, "status of the write");
    assert_eq!(machine.disk.bytes[..512 << 10], bytes, "what was written");
    assert_eq!(
        Machine::data(&machine.memory.reads),
        pages,
        "one access for each page"
    );

    // What would be a page of 4 KiB is not one of 64 KiB.
    machine.memory.put(LIST, &(DATA + 0x1000).to_le_bytes());
    machine.submit(&[command(0x02, first, LIST, [0, 0, ALL_BLOCKS])]);
    machine.settle();
    assert_eq!(machine.status(IO_CQ, 1) & 0x7ff, 0x13, "PRP Offset Invalid");
}

/// A list of pages that follow each other but for every fourth, which is left out. The first one
/// begins in its middle.
fn scattered(machine: &mut Machine, pages: u64) -> Vec<(u64, usize)> {
    let mut places = vec![(DATA + 0x800, 0x800)];
    for index in 0..pages {
        let page = DATA + 0x1000 * (1 + index + index / 3);
        machine.memory.put(LIST + 8 * index, &page.to_le_bytes());
        places.push((page, 0x1000));
    }
    places
}

/// The single bytes of places.
fn bytes_of(places: &[(u64, usize)]) -> Vec<u64> {
    places
        .iter()
        .flat_map(|(address, len)| *address..address + *len as u64)
        .collect()
}

/// Blocks of 64 KiB, less one, in dword 12.
const SOME_BLOCKS: u32 = 127;

#[test]
fn a_store_may_move_any_part_of_a_read_by_itself() {
    const LEN: usize = 64 << 10;
    let bytes = &pattern()[..LEN];
    for piece in [0x200, 0x1000, 0x6200, LEN] {
        for straight in [0, 0x200, 0x800, 0x1000, 0x5600, LEN - 0x200, LEN, 2 * LEN] {
            let mut machine = Machine::new(0);
            let pages = scattered(&mut machine, 16);
            let expected = &bytes_of(&pages)[..LEN];
            machine.disk.bytes[..LEN].copy_from_slice(bytes);
            (machine.disk.straight, machine.disk.piece) = (straight, piece);
            machine.submit(&[command(0x02, DATA + 0x800, LIST, [0, 0, SOME_BLOCKS])]);
            machine.settle();
            assert_eq!(machine.status(IO_CQ, 0), 0, "status of the read");

            let moved = straight.min(LEN);
            assert_eq!(
                bytes_of(&machine.disk.places),
                expected[..moved],
                "places of the first {straight:#x} bytes in pieces of {piece:#x}"
            );
            for (index, address) in expected.iter().enumerate() {
                let seen = machine.memory.bytes[*address as usize];
                let lent = if index < moved { 0 } else { bytes[index] };
                assert_eq!(seen, lent, "byte {index} with {straight:#x} moved");
            }
        }
    }
}

#[test]
fn a_store_finds_pages_in_a_row_to_be_one_place() {
    let mut machine = Machine::new(0);
    scattered(&mut machine, 16);
    (machine.disk.straight, machine.disk.piece) = (64 << 10, 64 << 10);
    machine.submit(&[command(0x02, DATA + 0x800, LIST, [0, 0, SOME_BLOCKS])]);
    machine.settle();
    assert_eq!(machine.status(IO_CQ, 0), 0, "status of the read");
    let mut expected = vec![(DATA + 0x800, 0x800)];
    expected.extend((0..5).map(|run| (DATA + 0x1000 + run * 0x4000, 0x3000)));
    expected.push((DATA + 0x1000 + 5 * 0x4000, 0x800));
    assert_eq!(machine.disk.places, expected);
}

#[test]
fn a_place_that_is_none_ends_a_read_as_any_other() {
    // The third page is not aligned, the list is not there, the guest's memory has it twice.
    for (change, status) in [
        (Some((LIST + 8, DATA + 4)), 0x13),
        (None, 0x04),
        (Some((LIST + 8, DATA + 0x1000)), 0),
    ] {
        let mut machine = Machine::new(0);
        scattered(&mut machine, 16);
        machine.disk.straight = 64 << 10;
        let list = match change {
            Some((entry, page)) => {
                machine.memory.put(entry, &page.to_le_bytes());
                LIST
            }
            None => MEMORY_SIZE as u64,
        };
        machine.submit(&[command(0x02, DATA + 0x800, list, [0, 0, SOME_BLOCKS])]);
        machine.settle();
        assert_eq!(machine.status(IO_CQ, 0) & 0x7ff, status, "{change:x?}");
    }
}

#[test]
fn without_bus_mastering_memory_is_left_alone() {
    let mut machine = Machine::new(0);
    machine.write_config(COMMAND, MEMORY_AND_MASTER & !0x4);
    machine.submit(&[FLUSH]);
    machine.settle();
    assert_eq!(machine.memory.reads, [], "reads without bus mastering");
    assert_eq!(machine.memory.writes, [], "writes without bus mastering");

    machine.write_config(COMMAND, MEMORY_AND_MASTER);
    machine.settle();
    assert_eq!(machine.status(IO_CQ, 0), 0, "the command was not lost");
}

#[test]
fn in_d3hot_memory_is_left_alone() {
    let mut machine = Machine::new(0);
    machine.write_config(POWER_CONTROL, D3HOT);
    machine.submit(&[FLUSH]);
    machine.settle();
    assert_eq!(machine.memory.reads, [], "reads in D3hot");
    assert_eq!(machine.memory.writes, [], "writes in D3hot");

    machine.write_config(POWER_CONTROL, D0);
    machine.settle();
    assert_eq!(machine.status(IO_CQ, 0), 0, "the command was not lost");
}

#[test]
fn a_function_level_reset_resets_all() {
    let mut machine = Machine::new(0);
    machine.submit(&[FLUSH]);
    machine.write_config(DEVICE_CONTROL, FUNCTION_RESET);
    assert_eq!(machine.csts(), 0, "CSTS at once");
    let mut command = [0; 2];
    machine
        .controller
        .read_config(COMMAND, &mut command)
        .expect("it is readable");
    assert_eq!(command, [0; 2], "the command is as after power-on");

    machine.write_config(COMMAND, MEMORY_AND_MASTER);
    machine.settle();
    assert_eq!(machine.memory.reads, [], "the queues are gone");
    machine.memory.put(ADMIN_CQ, &[0; 64 * 16]);
    (machine.admin_tail, machine.io_tail) = (0, 0);
    machine.enable(0);
    machine.submit(&[FLUSH]);
    machine.settle();
    assert_eq!(machine.status(IO_CQ, 0), 0, "it works again");
}

#[test]
fn one_command_with_shadow_doorbells_costs_seven_accesses() {
    let mut machine = Machine::new(0);
    machine.admin(command(0x7c, SHADOW, EVENTS, [0; 3]));
    machine.memory.forget();
    machine.memory.put(SHADOW + 8, &1u32.to_le_bytes());
    machine.submit(&[command(0x02, DATA, 0, [0, 0, 0])]);
    machine.settle();
    assert_eq!(machine.status(IO_CQ, 0), 0, "status of the read");
    assert_eq!(
        machine.memory.reads,
        [(SHADOW + 8, 8), (IO_SQ, 64), (SHADOW + 8, 8)],
        "the doorbells, the command, and the doorbells once more"
    );
    assert_eq!(
        machine.memory.writes,
        [(DATA, 512), (IO_CQ, 16), (IO_CQ + 12, 4), (EVENTS + 8, 8)],
        "the data, the completion, its phase, and the event indexes"
    );
}

#[test]
fn doorbells_of_another_width_do_nothing() {
    let mut machine = Machine::new(0);
    machine.memory.put(IO_SQ, &FLUSH);
    for bytes in [&[1u8][..], &[1, 0], &[1, 0, 0, 0, 0, 0]] {
        assert!(
            machine.doorbells.post(DOORBELLS + 8, bytes),
            "{} bytes are taken",
            bytes.len()
        );
    }
    assert!(
        machine.doorbells.post(DOORBELLS + 9, &[1, 0, 0, 0]),
        "a word that is not aligned is taken"
    );
    assert!(!machine.doorbells.is_posted(), "but they ring nothing");
    machine.settle();
    assert_eq!(machine.memory.reads, [], "nothing is fetched");
}

#[test]
fn vectors_of_the_msix_table_are_kept_and_masked_at_first() {
    let mut machine = Machine::new(0);
    let entry = |controller: &Controller, vector: u64| {
        let mut bytes = [0; 16];
        controller
            .peek_bar(0, 0x2000 + 16 * vector, &mut bytes)
            .expect("the table is readable");
        bytes
    };
    let masked = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    for vector in 0..17 {
        assert_eq!(
            entry(&machine.controller, vector),
            masked,
            "vector {vector}"
        );
    }
    assert_eq!(entry(&machine.controller, 17), [0; 16], "there are 17");

    let filled = [7; 16];
    machine.write(0x2000 + 16 * 16, &filled);
    machine.write(0x2000 + 17 * 16, &filled);
    assert_eq!(entry(&machine.controller, 16), filled, "the last vector");
    assert_eq!(entry(&machine.controller, 17), [0; 16], "not a vector");

    let mut state = vec![0; nvme::Controller::STATE_SIZE];
    machine.controller.save(&mut state).expect("there is room");
    let loaded = from_state(machine.controller.parameters(), &state);
    let loaded = loaded.expect("what was saved can be loaded");
    assert_eq!(entry(&loaded, 16), filled, "the vector moves");
}
