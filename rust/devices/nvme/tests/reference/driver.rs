// SPDX-License-Identifier: GPL-2.0

//! A small NVMe driver, which believes nothing: every completion has to be one that it waits for.
//!
//! It looks at a completion queue only after an interrupt said so (unless the queue has none), so a
//! lost interrupt shows as a missing completion.

use std::collections::{
    BTreeMap,
    BTreeSet, //
};

use nvme::{
    DeviceModel,
    Parameters, //
};

use crate::bench::{
    parameters,
    Bench, //
};
use crate::memory::CANARY;
use crate::spec::*;

/// A submission queue entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sqe(pub [u8; SQE_SIZE]);

impl Sqe {
    pub fn new(opcode: u8) -> Self {
        let mut bytes = [0; SQE_SIZE];
        bytes[0] = opcode;
        Self(bytes)
    }

    pub fn flags(mut self, flags: u8) -> Self {
        self.0[1] = flags;
        self
    }

    pub fn cid(mut self, cid: u16) -> Self {
        self.0[2..4].copy_from_slice(&cid.to_le_bytes());
        self
    }

    pub fn nsid(self, nsid: u32) -> Self {
        self.dword(1, nsid)
    }

    pub fn prp(mut self, prp1: u64, prp2: u64) -> Self {
        self.0[24..32].copy_from_slice(&prp1.to_le_bytes());
        self.0[32..40].copy_from_slice(&prp2.to_le_bytes());
        self
    }

    pub fn data(self, buffer: &Buffer) -> Self {
        self.prp(buffer.prp1, buffer.prp2)
    }

    pub fn dword(mut self, number: usize, value: u32) -> Self {
        self.0[number * 4..number * 4 + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    /// Starting block and number of blocks of a command that has them.
    pub fn blocks(self, start: u64, count: u32) -> Self {
        self.dword(10, start as u32)
            .dword(11, (start >> 32) as u32)
            .dword(12, count - 1)
    }

    pub fn get_dword(&self, number: usize) -> u32 {
        let bytes = &self.0[number * 4..number * 4 + 4];
        u32::from_le_bytes(bytes.try_into().expect("a dword has four bytes"))
    }
}

impl std::fmt::Debug for Sqe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sqe[")?;
        for number in 0..16 {
            write!(f, "{:x} ", self.get_dword(number))?;
        }
        write!(f, "]")
    }
}

/// A completion queue entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    pub result: u32,
    pub sq_head: u16,
    pub sq: u16,
    pub cid: u16,
    pub status: Status,
    /// There is an entry about the command in the error log.
    pub more: bool,
    /// Do not retry.
    pub dnr: bool,
}

/// Memory of a command, not contiguous, with its PRP list.
#[derive(Clone, Debug)]
pub struct Buffer {
    pub prp1: u64,
    pub prp2: u64,
    /// Pages of data.
    pub pages: Vec<u64>,
    /// Pages of the PRP list.
    pub lists: Vec<u64>,
    /// Where the data begins in its first page.
    pub offset: usize,
    pub length: usize,
    /// Where each entry of the PRP list is that is for data.
    pub entries: Vec<u64>,
}

#[derive(Clone, Debug)]
pub struct Sq {
    pub base: u64,
    pub entries: u16,
    pub tail: u16,
    /// Tail that the doorbell was written with last.
    pub rung: u16,
    /// Head that the last completion reported (`sqhd`).
    pub head: u16,
    pub cq: u16,
}

impl Sq {
    pub fn full(&self) -> bool {
        (self.tail + 1) % self.entries == self.head
    }
}

#[derive(Clone, Debug)]
pub struct Cq {
    pub base: u64,
    pub entries: u16,
    pub head: u16,
    pub phase: bool,
    /// Without one, the driver polls.
    pub vector: Option<u16>,
}

/// Shadow doorbells and event indexes.
#[derive(Clone, Copy, Debug)]
pub struct Shadow {
    pub doorbells: u64,
    pub events: u64,
}

/// How a driver uses its controller.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub lba_shift: u8,
    pub msix: bool,
    pub admin_entries: u16,
    pub admin_completions: u16,
    /// CC.MPS: memory pages have 4 KiB times 2 to the power of this.
    pub page_shift: u32,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            lba_shift: 9,
            msix: true,
            admin_entries: 32,
            admin_completions: 32,
            page_shift: 0,
        }
    }
}

pub struct Driver {
    pub bench: Bench,
    pub sqs: BTreeMap<u16, Sq>,
    pub cqs: BTreeMap<u16, Cq>,
    pub shadow: Option<Shadow>,
    /// Interrupts are messages; otherwise they are the pin.
    pub msix: bool,
    /// Look at all completion queues, whatever was raised.
    pub polls: bool,
    /// Commands that the controller owes a completion.
    pub outstanding: BTreeSet<(u16, u16)>,
    /// Completions that no test has taken yet.
    pub done: BTreeMap<(u16, u16), Completion>,
    /// Writes to doorbell registers.
    pub traps: usize,
    admin_entries: u16,
    admin_completions: u16,
    page_shift: u32,
    next_cid: u16,
    next_address: u64,
}

impl Driver {
    /// A driver with an enabled controller that has no I/O queues.
    pub fn new(setup: Setup) -> Self {
        Self::with_parameters(setup, parameters(setup.lba_shift))
    }

    pub fn with_parameters(setup: Setup, parameters: Parameters) -> Self {
        let mut driver = Self::disabled(setup, parameters);
        driver.enable();
        driver
    }

    /// A driver with a controller as it comes from power-on.
    pub fn disabled(setup: Setup, parameters: Parameters) -> Self {
        let mut bench = Bench::new(parameters);
        // Memory space and bus mastering.
        bench.write_config16(0x04, 0x0006);
        if setup.msix {
            let at = bench.capability(0x11).expect("there is MSI-X");
            bench.write_config16(at + 2, 1 << 15);
        }
        Self {
            bench,
            sqs: BTreeMap::new(),
            cqs: BTreeMap::new(),
            shadow: None,
            msix: setup.msix,
            polls: false,
            outstanding: BTreeSet::new(),
            done: BTreeMap::new(),
            traps: 0,
            admin_entries: setup.admin_entries,
            admin_completions: setup.admin_completions,
            page_shift: setup.page_shift,
            next_cid: 1,
            next_address: 1 << 16,
        }
    }

    /// A driver with `pairs` queue pairs of `entries` entries each.
    pub fn with_queues(setup: Setup, pairs: u16, entries: u16) -> Self {
        let mut driver = Self::new(setup);
        driver.create_queues(pairs, entries);
        driver
    }

    /// A driver with one queue pair, for tests of commands.
    pub fn ready() -> Self {
        Self::with_queues(Setup::default(), 1, 16)
    }

    /// Sets up the admin queue and enables the controller.
    pub fn enable(&mut self) {
        let (entries, completions) = (self.admin_entries, self.admin_completions);
        let sq = self.ring_memory(entries, SQE_SIZE);
        let cq = self.ring_memory(completions, CQE_SIZE);
        let bench = &mut self.bench;
        bench.write32(
            REG_AQA,
            u32::from(completions - 1) << 16 | u32::from(entries - 1),
        );
        bench.write64(REG_ASQ, sq);
        bench.write64(REG_ACQ, cq);
        bench.write32(REG_CC, CC_USUAL | self.page_shift << CC_MPS_SHIFT);
        bench.settle();
        assert_eq!(
            bench.read32(REG_CSTS),
            CSTS_RDY,
            "an enabled controller is ready"
        );
        self.know_cq(0, cq, completions, Some(0));
        self.know_sq(0, sq, entries, 0);
    }

    /// Resets the controller, and drops the driver's record of it.
    pub fn reset(&mut self) {
        let cc = self.bench.read32(REG_CC);
        self.bench.write32(REG_CC, cc & !(CC_ENABLE | CC_SHN_MASK));
        self.bench.settle();
        assert_eq!(
            self.bench.read32(REG_CSTS),
            0,
            "a disabled controller is not ready"
        );
        self.forget();
    }

    /// Forgets queues and commands.
    pub fn forget(&mut self) {
        self.bench.raised = 0;
        self.sqs.clear();
        self.cqs.clear();
        self.outstanding.clear();
        self.done.clear();
        self.shadow = None;
    }

    pub fn know_sq(&mut self, id: u16, base: u64, entries: u16, cq: u16) {
        let sq = Sq {
            base,
            entries,
            tail: 0,
            rung: 0,
            head: 0,
            cq,
        };
        self.sqs.insert(id, sq);
    }

    pub fn know_cq(&mut self, id: u16, base: u64, entries: u16, vector: Option<u16>) {
        let cq = Cq {
            base,
            entries,
            head: 0,
            phase: true,
            vector,
        };
        self.cqs.insert(id, cq);
    }

    /// Bytes of a memory page.
    pub fn page_size(&self) -> usize {
        PAGE << self.page_shift
    }

    /// Maps contiguous memory that begins with a page and has no neighbours.
    fn map(&mut self, size: usize) -> u64 {
        let address = (self.next_address + 1).next_multiple_of(self.page_size() as u64);
        let pages = size.div_ceil(PAGE) as u64;
        for page in 0..pages {
            self.bench.memory.map(address + page * PAGE as u64);
        }
        self.next_address = address + pages * PAGE as u64;
        address
    }

    /// Maps a page, sometimes above 4 GiB.
    pub fn page(&mut self) -> u64 {
        const HIGH: u64 = 5 << 32;

        self.next_address ^= HIGH;
        self.map(self.page_size())
    }

    /// Maps contiguous memory for a queue, all zeros.
    pub fn ring_memory(&mut self, entries: u16, size: usize) -> u64 {
        let length = usize::from(entries) * size;
        let base = self.map(length);
        self.bench.memory.put(base, &vec![0; length]);
        base
    }

    /// Memory for `length` bytes that begin at `offset` in their page.
    pub fn buffer(&mut self, length: usize, offset: usize) -> Buffer {
        self.buffer_with_list(length, offset, 0)
    }

    /// Memory whose PRP list, if it needs one, begins at `list_offset` in its page.
    pub fn buffer_with_list(&mut self, length: usize, offset: usize, list_offset: usize) -> Buffer {
        let page_size = self.page_size();
        let count = (offset + length).div_ceil(page_size).max(1);
        // Never in order of their addresses.
        let mut pages: Vec<u64> = (0..count).map(|_| self.page()).collect();
        pages.reverse();

        let mut lists = Vec::new();
        let mut entries = Vec::new();
        let prp2 = match count {
            1 => 0,
            2 => pages[1],
            _ => {
                let mut list = self.page();
                let mut at = list_offset;
                lists.push(list);
                let first = list + list_offset as u64;
                for (index, &page) in pages.iter().enumerate().skip(1) {
                    let last_slot = at + 8 == page_size;
                    if last_slot && index + 1 < count {
                        let next = self.page();
                        self.bench.memory.put(list + at as u64, &next.to_le_bytes());
                        list = next;
                        lists.push(list);
                        at = 0;
                    }
                    let entry = list + at as u64;
                    self.bench.memory.put(entry, &page.to_le_bytes());
                    entries.push(entry);
                    at += 8;
                }
                first
            }
        };
        Buffer {
            prp1: pages[0] + offset as u64,
            prp2,
            pages,
            lists,
            offset,
            length,
            entries,
        }
    }

    /// Unmaps the memory of a command.
    pub fn free(&mut self, buffer: &Buffer) {
        let page_size = self.page_size() as u64;
        for &page in buffer.pages.iter().chain(&buffer.lists) {
            for address in (page..page + page_size).step_by(PAGE) {
                self.bench.memory.unmap(address);
            }
        }
    }

    /// Where each piece of a buffer is, in order.
    fn pieces(&self, buffer: &Buffer) -> Vec<(u64, usize)> {
        let mut left = buffer.length;
        let mut offset = buffer.offset;
        let mut pieces = Vec::new();
        for &page in &buffer.pages {
            let length = left.min(self.page_size() - offset);
            pieces.push((page + offset as u64, length));
            left -= length;
            offset = 0;
        }
        pieces
    }

    pub fn fill(&mut self, buffer: &Buffer, bytes: &[u8]) {
        assert_eq!(bytes.len(), buffer.length, "bytes for all of the buffer");
        let mut done = 0;
        for (address, length) in self.pieces(buffer) {
            self.bench.memory.put(address, &bytes[done..done + length]);
            done += length;
        }
    }

    /// A buffer that contains `bytes`.
    pub fn filled(&mut self, bytes: &[u8], offset: usize) -> Buffer {
        let buffer = self.buffer(bytes.len(), offset);
        self.fill(&buffer, bytes);
        buffer
    }

    /// Content of a buffer, after a check that nothing around it was touched.
    #[track_caller]
    pub fn content(&self, buffer: &Buffer) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(buffer.length);
        for ((address, length), &page) in self.pieces(buffer).into_iter().zip(&buffer.pages) {
            bytes.extend(self.bench.memory.get(address, length));
            let whole = self.bench.memory.get(page, self.page_size());
            let start = (address - page) as usize;
            let around = whole[..start].iter().chain(&whole[start + length..]);
            assert!(
                around.copied().all(|byte| byte == CANARY),
                "the page at {page:#x} is touched only where the buffer is, from {start} on"
            );
        }
        bytes
    }

    fn doorbell(id: u16, completion: bool) -> u64 {
        (u64::from(id) * 2 + u64::from(completion)) * 4
    }

    /// Tells the controller about a queue, as `nvme_write_sq_db` and `nvme_ring_cq_doorbell` do.
    pub fn ring(&mut self, id: u16, completion: bool, old: u16, new: u16) {
        let at = Self::doorbell(id, completion);
        if let (Some(shadow), true) = (self.shadow, id > 0) {
            let memory = &mut self.bench.memory;
            memory.put(shadow.doorbells + at, &u32::from(new).to_le_bytes());
            let event = memory.get_u32(shadow.events + at) as u16;
            if new.wrapping_sub(event).wrapping_sub(1) >= new.wrapping_sub(old) {
                return;
            }
        }
        self.traps += 1;
        self.bench.write32(REG_DBS + at, u32::from(new));
    }

    /// Writes an entry with a new command identifier, without telling the controller.
    #[track_caller]
    pub fn enqueue(&mut self, sq_id: u16, sqe: Sqe) -> u16 {
        while self.outstanding.contains(&(sq_id, self.next_cid))
            || self.done.contains_key(&(sq_id, self.next_cid))
        {
            self.next_cid = self.next_cid.wrapping_add(1);
        }
        let cid = self.next_cid;
        self.next_cid = self.next_cid.wrapping_add(1);

        let sq = self.sqs.get_mut(&sq_id).expect("the queue exists");
        assert!(!sq.full(), "there is room in queue {sq_id}");
        let at = sq.base + u64::from(sq.tail) * SQE_SIZE as u64;
        self.bench.memory.put(at, &sqe.cid(cid).0);
        sq.tail = (sq.tail + 1) % sq.entries;
        self.outstanding.insert((sq_id, cid));
        cid
    }

    /// Tells the controller about all entries of a queue.
    pub fn ring_sq(&mut self, sq_id: u16) {
        let sq = self.sqs.get_mut(&sq_id).expect("the queue exists");
        let (old, new) = (sq.rung, sq.tail);
        sq.rung = new;
        if old != new {
            self.ring(sq_id, false, old, new);
        }
    }

    pub fn ring_all(&mut self) {
        let ids: Vec<u16> = self.sqs.keys().copied().collect();
        for id in ids {
            self.ring_sq(id);
        }
    }

    #[track_caller]
    pub fn submit(&mut self, sq_id: u16, sqe: Sqe) -> u16 {
        let cid = self.enqueue(sq_id, sqe);
        self.ring_sq(sq_id);
        cid
    }

    /// Takes at most `most` completions, without telling the controller. Returns how many.
    #[track_caller]
    pub fn peel(&mut self, cq_id: u16, most: usize) -> usize {
        let mut taken = 0;
        while taken < most {
            let cq = &self.cqs[&cq_id];
            let at = cq.base + u64::from(cq.head) * CQE_SIZE as u64;
            let cqe = self.bench.memory.get(at, CQE_SIZE);
            let word = |at: usize| u16::from_le_bytes([cqe[at], cqe[at + 1]]);
            let status = word(14);
            if (status & 1 != 0) != cq.phase {
                break;
            }
            let completion = Completion {
                result: u32::from(word(0)) | u32::from(word(2)) << 16,
                sq_head: word(8),
                sq: word(10),
                cid: word(12),
                status: Status::from_cqe(status),
                more: status & CQE_MORE != 0,
                dnr: status >> 15 != 0,
            };
            assert_eq!((word(4), word(6)), (0, 0), "dword 1 is reserved");
            self.accept(cq_id, completion);

            let cq = self.cqs.get_mut(&cq_id).expect("the queue exists");
            cq.head = (cq.head + 1) % cq.entries;
            cq.phase ^= cq.head == 0;
            taken += 1;
        }
        taken
    }

    #[track_caller]
    fn accept(&mut self, cq_id: u16, completion: Completion) {
        let key = (completion.sq, completion.cid);
        assert!(
            self.outstanding.remove(&key),
            "queue {cq_id} got a completion that nobody waits for: {completion:?}"
        );
        // A deleted queue may still have completions in its completion queue.
        if let Some(sq) = self.sqs.get_mut(&completion.sq) {
            assert_eq!(sq.cq, cq_id, "{completion:?} is in its queue");
            assert!(
                completion.sq_head < sq.entries,
                "the head is in queue {}: {completion:?}",
                completion.sq
            );
            let ahead = |from: u16, to: u16| (to + sq.entries - from) % sq.entries;
            assert!(
                ahead(sq.head, completion.sq_head) <= ahead(sq.head, sq.tail),
                "the head is between {} and {}: {completion:?}",
                sq.head,
                sq.tail
            );
            sq.head = completion.sq_head;
        }
        if completion.status == SUCCESS {
            assert!(
                !completion.dnr,
                "success is nothing to retry: {completion:?}"
            );
        }
        self.done.insert(key, completion);
    }

    /// Takes all completions of a queue. Returns how many.
    #[track_caller]
    pub fn reap(&mut self, cq_id: u16) -> usize {
        let old = self.cqs[&cq_id].head;
        let taken = self.peel(cq_id, usize::MAX);
        if taken > 0 {
            let new = self.cqs[&cq_id].head;
            self.ring(cq_id, true, old, new);
        }
        taken
    }

    /// Handles the interrupts that are pending. Returns whether there were any completions.
    #[track_caller]
    pub fn interrupts(&mut self) -> bool {
        let raised = std::mem::take(&mut self.bench.raised);
        let pin = self.bench.controller.intx_asserted();
        let due: Vec<u16> = self
            .cqs
            .iter()
            .filter(|(_, cq)| match cq.vector {
                _ if self.polls => true,
                Some(vector) if self.msix => raised >> vector & 1 != 0,
                Some(_) => pin,
                None => true,
            })
            .map(|(&id, _)| id)
            .collect();
        let mut any = false;
        for id in due {
            any |= self.reap(id) > 0;
        }
        any
    }

    /// Lets controller and driver work until neither has anything left to do.
    #[track_caller]
    pub fn pump(&mut self) {
        loop {
            self.bench.settle();
            if !self.interrupts() {
                break;
            }
        }
    }

    /// Lets the controller work, and looks at the admin queue only.
    #[track_caller]
    pub fn pump_admin(&mut self) {
        loop {
            self.bench.settle();
            if self.reap(0) == 0 {
                break;
            }
        }
    }

    /// One round of work, if there is a reason for it, and one look at the interrupts.
    #[track_caller]
    pub fn step(&mut self, budget: u32) {
        if self.bench.kicked {
            self.bench.work(budget);
        }
        self.interrupts();
    }

    /// The completion of a command, if it is there.
    pub fn take(&mut self, sq_id: u16, cid: u16) -> Option<Completion> {
        self.done.remove(&(sq_id, cid))
    }

    /// Executes a command.
    #[track_caller]
    pub fn call(&mut self, sq_id: u16, sqe: Sqe) -> Completion {
        let cid = self.submit(sq_id, sqe);
        self.pump();
        self.take(sq_id, cid).unwrap_or_else(|| {
            panic!(
                "{sqe:?} in queue {sq_id} completes; CSTS is {:#x}",
                self.bench.read32(REG_CSTS)
            )
        })
    }

    #[track_caller]
    pub fn admin(&mut self, sqe: Sqe) -> Completion {
        self.call(0, sqe)
    }

    /// Executes a command that has to work, and returns its result.
    #[track_caller]
    pub fn good(&mut self, sq_id: u16, sqe: Sqe) -> u32 {
        let completion = self.call(sq_id, sqe);
        assert_eq!(completion.status, SUCCESS, "{sqe:?} works");
        completion.result
    }

    /// Executes a command that has to fail with one of `expected`.
    #[track_caller]
    pub fn bad(&mut self, sq_id: u16, sqe: Sqe, expected: &[Status]) {
        let seen = self.call(sq_id, sqe).status;
        assert!(
            expected.contains(&seen),
            "{sqe:?} should fail with {expected:?}, not {seen:?}"
        );
    }

    /// Creates a completion queue and tells which status it got.
    #[track_caller]
    pub fn create_cq(&mut self, id: u16, entries: u16, vector: Option<u16>) -> Status {
        let base = self.ring_memory(entries, CQE_SIZE);
        // The pin has no other vector.
        let vector = vector.map(|vector| if self.msix { vector } else { 0 });
        let interrupt = vector.map_or(0, |vector| CQ_IRQ_ENABLED | u32::from(vector) << 16);
        let sqe = Sqe::new(ADMIN_CREATE_CQ)
            .prp(base, 0)
            .dword(10, u32::from(entries.wrapping_sub(1)) << 16 | u32::from(id))
            .dword(11, QUEUE_PHYS_CONTIG | interrupt);
        let status = self.admin(sqe).status;
        if status == SUCCESS {
            self.know_cq(id, base, entries, vector);
        }
        status
    }

    /// Creates a submission queue and tells which status it got.
    #[track_caller]
    pub fn create_sq(&mut self, id: u16, entries: u16, cq: u16) -> Status {
        let base = self.ring_memory(entries, SQE_SIZE);
        let sqe = Sqe::new(ADMIN_CREATE_SQ)
            .prp(base, 0)
            .dword(10, u32::from(entries.wrapping_sub(1)) << 16 | u32::from(id))
            .dword(11, QUEUE_PHYS_CONTIG | u32::from(cq) << 16);
        let status = self.admin(sqe).status;
        if status == SUCCESS {
            self.know_sq(id, base, entries, cq);
        }
        status
    }

    #[track_caller]
    pub fn delete_sq(&mut self, id: u16) -> Status {
        let status = self
            .admin(Sqe::new(ADMIN_DELETE_SQ).dword(10, u32::from(id)))
            .status;
        if status == SUCCESS {
            self.sqs.remove(&id);
        }
        status
    }

    #[track_caller]
    pub fn delete_cq(&mut self, id: u16) -> Status {
        let status = self
            .admin(Sqe::new(ADMIN_DELETE_CQ).dword(10, u32::from(id)))
            .status;
        if status == SUCCESS {
            self.cqs.remove(&id);
        }
        status
    }

    #[track_caller]
    pub fn create_queues(&mut self, pairs: u16, entries: u16) {
        let wanted = u32::from(pairs - 1);
        self.good(
            0,
            Sqe::new(ADMIN_SET_FEATURES)
                .dword(10, FEAT_NUM_QUEUES.into())
                .dword(11, wanted << 16 | wanted),
        );
        for id in 1..=pairs {
            assert_eq!(
                self.create_cq(id, entries, Some(id)),
                SUCCESS,
                "completion queue {id} is created"
            );
            assert_eq!(
                self.create_sq(id, entries, id),
                SUCCESS,
                "submission queue {id} is created"
            );
        }
    }

    /// Gives the controller shadow doorbells that agree with the state of the queues.
    #[track_caller]
    pub fn configure_shadow(&mut self) {
        let shadow = Shadow {
            doorbells: self.page(),
            events: self.page(),
        };
        let memory = &mut self.bench.memory;
        memory.put(shadow.doorbells, &[0; PAGE]);
        memory.put(shadow.events, &[0; PAGE]);
        for (&id, sq) in &self.sqs {
            let at = Self::doorbell(id, false);
            memory.put(shadow.doorbells + at, &u32::from(sq.rung).to_le_bytes());
        }
        for (&id, cq) in &self.cqs {
            let at = Self::doorbell(id, true);
            memory.put(shadow.doorbells + at, &u32::from(cq.head).to_le_bytes());
        }
        self.good(
            0,
            Sqe::new(ADMIN_DBBUF).prp(shadow.doorbells, shadow.events),
        );
        self.shadow = Some(shadow);
    }

    /// Bytes of a logical block.
    pub fn block(&self) -> usize {
        self.bench.disk.block
    }

    #[track_caller]
    pub fn write(&mut self, sq_id: u16, start: u64, bytes: &[u8]) {
        let count = (bytes.len() / self.block()) as u32;
        let buffer = self.filled(bytes, 0);
        self.good(
            sq_id,
            Sqe::new(CMD_WRITE)
                .nsid(1)
                .data(&buffer)
                .blocks(start, count),
        );
        self.free(&buffer);
    }

    #[track_caller]
    pub fn read(&mut self, sq_id: u16, start: u64, count: u32) -> Vec<u8> {
        let buffer = self.buffer(count as usize * self.block(), 0);
        self.good(
            sq_id,
            Sqe::new(CMD_READ)
                .nsid(1)
                .data(&buffer)
                .blocks(start, count),
        );
        let bytes = self.content(&buffer);
        self.free(&buffer);
        bytes
    }

    /// Identify with 4 KiB of data.
    #[track_caller]
    pub fn identify(&mut self, cns: u32, nsid: u32) -> Vec<u8> {
        let buffer = self.buffer(PAGE, 0);
        self.good(
            0,
            Sqe::new(ADMIN_IDENTIFY)
                .nsid(nsid)
                .data(&buffer)
                .dword(10, cns),
        );
        self.content(&buffer)
    }

    #[track_caller]
    pub fn log_page(&mut self, id: u8, length: usize, retain: bool) -> Vec<u8> {
        let buffer = self.buffer(length, 0);
        self.good(0, log_page(&buffer, id, retain));
        self.content(&buffer)
    }

    pub fn set_feature(&mut self, id: u8, value: u32) -> Completion {
        self.admin(feature(ADMIN_SET_FEATURES, id).dword(11, value))
    }

    pub fn get_feature(&mut self, id: u8, value: u32) -> Completion {
        self.admin(feature(ADMIN_GET_FEATURES, id).dword(11, value))
    }

    /// Checks that the controller still works: it executes commands after a reset.
    #[track_caller]
    pub fn revive(&mut self) {
        self.bench.memory.repair();
        self.bench.disk.trouble = None;
        self.reset();
        self.enable();
        assert_eq!(
            self.identify(CNS_CTRL, 0)[24..28].len(),
            4,
            "a controller that was reset identifies itself"
        );
        self.create_queues(2, 8);
        let block = self.block();
        self.write(2, 3, &vec![0x42; block]);
        assert_eq!(
            self.read(1, 3, 1),
            vec![0x42; block],
            "a controller that was reset reads what it wrote"
        );
    }
}

/// A command about a feature, of the namespace where each has its own.
fn feature(opcode: u8, id: u8) -> Sqe {
    let nsid = u32::from(id == FEAT_ERR_RECOVERY);
    Sqe::new(opcode).nsid(nsid).dword(10, id.into())
}

/// Get Log Page with as many dwords as a buffer has.
pub fn log_page(buffer: &Buffer, id: u8, retain: bool) -> Sqe {
    let dwords = (buffer.length / 4 - 1) as u32;
    Sqe::new(ADMIN_GET_LOG_PAGE)
        .nsid(NSID_ALL)
        .data(buffer)
        .dword(
            10,
            (dwords & 0xffff) << 16 | if retain { LOG_RAE } else { 0 } | u32::from(id),
        )
        .dword(11, dwords >> 16)
}

/// Bytes that differ from block to block and from test to test.
pub fn pattern(seed: u8, length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] ^ seed)
        .collect()
}
