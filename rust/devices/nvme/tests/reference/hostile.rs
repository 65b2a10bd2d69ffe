// SPDX-License-Identifier: GPL-2.0

//! A guest that does all it can to harm its controller. It may get any status, but the controller
//! neither panics nor loops, and works again after a reset.

use proptest::prelude::*;

use nvme::DeviceModel;

use crate::driver::{
    Driver,
    Setup,
    Sqe, //
};
use crate::memory::Moment;
use crate::spec::*;

/// Entries of the queues under attack.
const ENTRIES: u16 = 6;
/// I/O queues under attack.
const QUEUES: u16 = 3;
/// Pages that commands point to.
const PAGES: usize = 4;

/// A step of a hostile guest.
#[derive(Clone, Debug)]
pub enum Attack {
    Register {
        offset: u64,
        bytes: Vec<u8>,
    },
    Doorbell {
        number: u64,
        value: u32,
    },
    /// Puts an entry somewhere into a queue.
    Entry {
        queue: u16,
        slot: u16,
        entry: Entry,
    },
    /// Puts a pointer into a page that commands use, be it as data or as a list.
    Pointer {
        page: usize,
        slot: u64,
        to: Place,
    },
    /// Puts a number into a page of shadow doorbells.
    Shadow {
        slot: u64,
        value: u32,
    },
    Config {
        offset: u64,
        bytes: Vec<u8>,
    },
    /// Number of accesses that work before one fails.
    Fail(u64),
    Break(Place),
    Repair,
    /// Changes an entry behind the controller's back.
    Ambush {
        queue: u16,
        slot: u16,
        entry: Entry,
    },
    Work(u32),
    Move,
    /// Resets and sets up as a good driver does, to get deep again.
    Behave,
}

/// A place in memory.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    Page(usize, u64),
    Queue(u16),
    Anywhere(u64),
}

/// A submission queue entry.
#[derive(Clone, Debug)]
pub struct Entry {
    opcode: u8,
    flags: u8,
    cid: u16,
    nsid: u32,
    prp1: Place,
    prp2: Place,
    dwords: [u32; 6],
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        6 => (0..PAGES, prop_oneof![3 => Just(0u64), 1 => (0..512u64).prop_map(|at| at * 8), 1 => 0..4096u64])
            .prop_map(|(page, offset)| Place::Page(page, offset)),
        1 => (0..=QUEUES).prop_map(Place::Queue),
        1 => prop_oneof![Just(0), Just(u64::MAX), Just(!0xfff), any::<u64>()]
            .prop_map(Place::Anywhere),
    ]
}

/// Numbers near what matters.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => 0..20u32,
        2 => (0..20u32, 0..20u32).prop_map(|(high, low)| high << 16 | low),
        1 => (0..20u32).prop_map(|by| u32::MAX - by),
        1 => (0..32u32).prop_map(|bit| 1 << bit),
        1 => any::<u32>(),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let opcode = prop_oneof![
        8 => 0..0x0du8,
        1 => Just(ADMIN_DBBUF),
        1 => any::<u8>(),
    ];
    let flags = prop_oneof![9 => Just(0u8), 1 => any::<u8>()];
    let nsid = prop_oneof![6 => Just(1u32), 2 => number()];
    let dwords = [number(), number(), number(), number(), number(), number()];
    (opcode, flags, any::<u16>(), nsid, place(), place(), dwords).prop_map(
        |(opcode, flags, cid, nsid, prp1, prp2, dwords)| Entry {
            opcode,
            flags,
            cid,
            nsid,
            prp1,
            prp2,
            dwords,
        },
    )
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => number().prop_map(|value| value.to_le_bytes().to_vec()),
        1 => any::<u64>().prop_map(|value| value.to_le_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..20),
    ]
}

pub fn attack() -> impl Strategy<Value = Attack> {
    let register = prop_oneof![
        6 => (0..16u64).prop_map(|register| register * 4),
        2 => (0..0x1000u64).prop_map(|slot| slot * 4),
        1 => 0..0x4000u64,
    ];
    let queue = || (0..=QUEUES, 0..ENTRIES);
    prop_oneof![
        2 => (register, bytes()).prop_map(|(offset, bytes)| Attack::Register { offset, bytes }),
        10 => (prop_oneof![8 => 0..8u64, 1 => 0..0x400u64], number())
            .prop_map(|(number, value)| Attack::Doorbell { number, value }),
        16 => (queue(), entry())
            .prop_map(|((queue, slot), entry)| Attack::Entry { queue, slot, entry }),
        4 => (0..PAGES, 0..512u64, place())
            .prop_map(|(page, slot, to)| Attack::Pointer { page, slot, to }),
        3 => (0..40u64, number()).prop_map(|(slot, value)| Attack::Shadow { slot, value }),
        1 => (0..4096u64, bytes()).prop_map(|(offset, bytes)| Attack::Config { offset, bytes }),
        1 => (0..6u64).prop_map(Attack::Fail),
        1 => place().prop_map(Attack::Break),
        2 => Just(Attack::Repair),
        2 => (queue(), entry())
            .prop_map(|((queue, slot), entry)| Attack::Ambush { queue, slot, entry }),
        12 => (0..9u32).prop_map(Attack::Work),
        2 => Just(Attack::Move),
        2 => Just(Attack::Behave),
    ]
}

/// A guest with queues and memory to play with.
pub struct Guest {
    pub driver: Driver,
    /// Where the queues are that a good driver made.
    queues: Vec<u64>,
    pages: Vec<u64>,
}

impl Guest {
    pub fn new() -> Self {
        let setup = Setup {
            admin_entries: ENTRIES,
            admin_completions: ENTRIES,
            ..Setup::default()
        };
        let mut guest = Self {
            driver: Driver::disabled(setup, crate::bench::parameters(9)),
            queues: Vec::new(),
            pages: Vec::new(),
        };
        guest.pages = (0..PAGES).map(|_| guest.driver.page()).collect();
        guest.behave();
        guest
    }

    /// Brings the controller back to life, whatever happened to it.
    pub fn behave(&mut self) {
        let driver = &mut self.driver;
        driver.bench.memory.repair();
        driver.bench.memory.forget();
        driver.bench.write_config16(0x04, 0x0006);
        let at = driver.bench.capability(0x11).expect("there is MSI-X");
        driver.bench.write_config16(at + 2, 1 << 15);
        // It may be in D3.
        if let Some(at) = driver.bench.capability(0x01) {
            driver.bench.write_config16(at + 4, 0);
        }
        // A shutdown or a fatal status ends with a reset; CSTS.NSSRO is the guest's to clear.
        driver.bench.write32(REG_CSTS, CSTS_NSSRO);
        driver.reset();
        driver.enable();
        driver.create_queues(QUEUES, ENTRIES);
        driver.configure_shadow();
        self.queues = (0..=QUEUES).map(|id| driver.sqs[&id].base).collect();
    }

    fn address(&self, place: Place) -> u64 {
        match place {
            Place::Page(page, offset) => self.pages[page] + offset,
            Place::Queue(queue) => self.queues[usize::from(queue)],
            Place::Anywhere(address) => address,
        }
    }

    fn entry(&self, entry: &Entry) -> Sqe {
        let mut sqe = Sqe::new(entry.opcode)
            .flags(entry.flags)
            .cid(entry.cid)
            .nsid(entry.nsid)
            .prp(self.address(entry.prp1), self.address(entry.prp2));
        for (number, &value) in (10..).zip(&entry.dwords) {
            sqe = sqe.dword(number, value);
        }
        sqe
    }

    fn slot(&self, queue: u16, slot: u16) -> u64 {
        self.queues[usize::from(queue)] + u64::from(slot) * SQE_SIZE as u64
    }

    pub fn attack(&mut self, attack: &Attack) {
        match attack {
            Attack::Register { offset, bytes } => {
                let bench = &mut self.driver.bench;
                if !bench.doorbells.post(*offset, bytes) {
                    // It may be refused, but never anything else.
                    let _ = bench.controller.write_bar(0, *offset, bytes);
                }
                let mut seen = vec![0; bytes.len()];
                let _ = bench.controller.read_bar(0, *offset, &mut seen);
            }
            Attack::Doorbell { number, value } => {
                self.driver.bench.write32(REG_DBS + number * 4, *value);
            }
            Attack::Entry { queue, slot, entry } => {
                let sqe = self.entry(entry);
                let at = self.slot(*queue, *slot);
                self.driver.bench.memory.put(at, &sqe.0);
            }
            Attack::Pointer { page, slot, to } => {
                let at = self.pages[*page] + slot * 8;
                let to = self.address(*to);
                self.driver.bench.memory.put(at, &to.to_le_bytes());
            }
            Attack::Shadow { slot, value } => {
                if let Some(shadow) = self.driver.shadow {
                    self.driver
                        .bench
                        .memory
                        .put(shadow.doorbells + slot * 4, &value.to_le_bytes());
                }
            }
            Attack::Config { offset, bytes } => {
                let _ = self.driver.bench.controller.write_config(*offset, bytes);
            }
            Attack::Fail(accesses) => self.driver.bench.memory.fail_after(*accesses),
            Attack::Break(place) => {
                let at = self.address(*place);
                self.driver
                    .bench
                    .memory
                    .break_down(at..at.saturating_add(64));
            }
            Attack::Repair => self.driver.bench.memory.repair(),
            Attack::Ambush { queue, slot, entry } => {
                let sqe = self.entry(entry);
                let at = self.slot(*queue, *slot);
                self.driver.bench.memory.ambush(
                    Moment::AfterRead,
                    at..at + SQE_SIZE as u64,
                    vec![(at, sqe.0.to_vec())],
                );
            }
            Attack::Work(budget) => {
                self.driver.bench.work(*budget);
            }
            Attack::Move => self.driver.bench.relocate(),
            Attack::Behave => self.behave(),
        }
    }

    /// Attacks, and then checks that the controller can still be used.
    pub fn survive(&mut self, attacks: &[Attack]) {
        for attack in attacks {
            self.attack(attack);
        }
        // Whatever is left to do ends.
        self.driver.bench.settle();
        self.behave();
        self.driver.write(1, 5, &[0x17; 512]);
        assert_eq!(
            self.driver.read(2, 5, 1),
            [0x17; 512],
            "the controller works after a reset"
        );
    }
}

/// Attacks that are always the same.
pub fn some_attacks(count: usize) -> Vec<Attack> {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    (0..count)
        .map(|_| {
            attack()
                .new_tree(&mut runner)
                .expect("an attack is always possible")
                .current()
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(128)
    })]

    #[test]
    fn a_hostile_guest_harms_only_itself(
        attacks in prop::collection::vec(attack(), 1..150),
    ) {
        Guest::new().survive(&attacks);
    }
}

#[test]
fn every_opcode_with_extreme_fields_gets_a_status() {
    for queue in [0u16, 1] {
        let mut guest = Guest::new();
        for opcode in 0..=u8::MAX {
            for value in [0, 1, 0x0001_0001, 0x7fff_ffff, u32::MAX] {
                // A driver that deletes its own queues has to start anew.
                let mut sqe = Sqe::new(opcode).nsid(1);
                for number in 10..16 {
                    sqe = sqe.dword(number, value);
                }
                let page = guest.pages[0];
                guest.driver.submit(queue, sqe.prp(page, page));
                guest.driver.bench.settle();
                if guest.driver.bench.read32(REG_CSTS) != CSTS_RDY {
                    panic!("{sqe:?} is not worth a fatal status");
                }
                guest.behave();
            }
        }
    }
}

#[test]
fn every_failing_access_leaves_a_controller_that_can_be_reset() {
    for access in 0..64 {
        let mut guest = Guest::new();
        let driver = &mut guest.driver;
        let buffer = driver.buffer_with_list(20 << 10, 512, 4072);
        for opcode in [CMD_WRITE, CMD_READ, CMD_COMPARE] {
            driver.enqueue(1, Sqe::new(opcode).nsid(1).data(&buffer).blocks(0, 40));
        }
        driver.enqueue(
            2,
            Sqe::new(CMD_DSM)
                .nsid(1)
                .data(&buffer)
                .dword(10, 3)
                .dword(11, DSM_AD),
        );
        driver.ring_sq(1);
        driver.ring_sq(2);
        driver.bench.memory.fail_after(access);
        driver.bench.settle();
        guest.survive(&[]);
    }
}

#[test]
fn a_failing_access_fails_the_command_or_the_controller() {
    for opcode in [CMD_WRITE, CMD_READ, CMD_COMPARE, CMD_DSM] {
        let mut failed = 0;
        loop {
            let mut driver = Driver::ready();
            let length = if opcode == CMD_DSM { 16 } else { 20 << 10 };
            let buffer = driver.buffer_with_list(length, 512, 4072);
            driver.fill(&buffer, &vec![0; length]);
            let mut sqe = Sqe::new(opcode).nsid(1).data(&buffer);
            sqe = match opcode {
                // One range of no blocks.
                CMD_DSM => sqe.dword(10, 0).dword(11, DSM_AD),
                _ => sqe.blocks(0, 40),
            };
            driver.bench.memory.forget();
            driver.bench.memory.fail_after(failed);
            let cid = driver.submit(1, sqe);
            driver.pump();
            let log = driver.bench.memory.log().to_vec();
            let access = log[failed as usize];

            let page = access.address & !0xfff;
            if [driver.sqs[&1].base, driver.cqs[&1].base].contains(&page) {
                assert_eq!(
                    driver.bench.read32(REG_CSTS) & CSTS_CFS,
                    CSTS_CFS,
                    "{access:x?} of a queue cannot fail otherwise"
                );
                assert_eq!(
                    log.len() as u64,
                    failed + 1,
                    "a failed controller leaves memory alone"
                );
            } else {
                let completion = driver.take(1, cid).expect("the command completes");
                assert_eq!(completion.status, DATA_XFER_ERROR, "{access:x?} failed");
                assert_eq!(driver.bench.read32(REG_CSTS), CSTS_RDY, "it is well");
            }
            let last = page == driver.cqs[&1].base;
            driver.revive();
            if last {
                break;
            }
            failed += 1;
        }
        assert!(failed > 1, "{opcode} has {failed} accesses before the last");
    }
}
