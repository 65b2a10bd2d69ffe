// SPDX-License-Identifier: GPL-2.0

//! What holds for any sequence of commands, and for any moment of a move.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::disk::Concurrent;
use crate::driver::{
    Driver,
    Setup,
    Sqe, //
};
use crate::reference::{
    Command,
    Flaw,
    Kind,
    Reference, //
};
use crate::spec::*;
use crate::whole::{
    Execute,
    Timer, //
};

/// Most I/O queue pairs of a run.
const PAIRS: u16 = 4;

/// A step of a driver.
#[derive(Clone, Debug)]
pub enum Step {
    /// Submits commands to a queue and tells the controller once.
    Submit(u16, Vec<Command>),
    Work(u32),
    Interrupts,
    Pump,
    Move,
    Admin(Admin),
    /// Deletes and creates a queue pair with this number of entries.
    Recreate(u16, u16),
    Reset,
}

/// A command of the admin queue.
#[derive(Clone, Copy, Debug)]
pub enum Admin {
    Identify,
    Smart,
    Feature(u8),
    /// Asks for an event, and causes one.
    Event,
    Abort(u8),
    Unknown,
}

/// How a run begins.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    lba_shift: u8,
    msix: bool,
    shadow: bool,
    pairs: u16,
    entries: u16,
    budget: u32,
    page_shift: u32,
    /// The disk executes this number of requests while the controller goes on, and a seed says which is done first.
    concurrent: Option<(usize, u64)>,
    /// Completions are announced together: threshold and time.
    coalescing: Option<u16>,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        6 => Just(Kind::Read),
        6 => Just(Kind::Write),
        2 => any::<bool>().prop_map(|equal| Kind::Compare { equal }),
        2 => any::<bool>().prop_map(|deallocate| Kind::WriteZeroes { deallocate }),
        2 => prop::collection::vec((0..40u8, 0..20u8), 1..20).prop_map(Kind::Deallocate),
        1 => Just(Kind::Flush),
        1 => Just(Kind::Unknown),
    ]
}

fn flaw() -> impl Strategy<Value = Flaw> {
    prop_oneof![
        prop_oneof![Just(0), Just(2), Just(NSID_ALL), 2..u32::MAX].prop_map(Flaw::Namespace),
        prop_oneof![
            Just(FLAG_FUSE_FIRST),
            Just(FLAG_FUSE_SECOND),
            Just(FLAG_SGL_METABUF),
            Just(FLAG_SGL_METASEG)
        ]
        .prop_map(Flaw::Flags),
        any::<u64>().prop_map(Flaw::PastEnd),
        any::<u64>().prop_map(Flaw::FarAway),
        Just(Flaw::TooLong),
        any::<u8>().prop_map(Flaw::Misaligned),
        any::<u8>().prop_map(Flaw::Unmapped),
        Just(Flaw::ListUnmapped),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    (
        kind(),
        // Few places, so that commands meet.
        prop_oneof![4 => 0..64u16, 1 => any::<u16>()],
        prop_oneof![4 => 1..9u8, 1 => 9..100u8],
        prop_oneof![2 => Just(0u16), 1 => 0..1024u16],
        prop_oneof![2 => Just(0u16), 1 => 505..512u16],
        any::<u8>(),
        prop::option::weighted(0.25, flaw()),
    )
        .prop_map(
            |(kind, start, count, offset, list_offset, seed, flaw)| Command {
                kind,
                start,
                count,
                offset,
                list_offset,
                seed,
                flaw,
            },
        )
}

fn admin() -> impl Strategy<Value = Admin> {
    prop_oneof![
        Just(Admin::Identify),
        Just(Admin::Smart),
        any::<u8>().prop_map(Admin::Feature),
        Just(Admin::Event),
        any::<u8>().prop_map(Admin::Abort),
        Just(Admin::Unknown),
    ]
}

pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1..=PAIRS, prop::collection::vec(command(), 1..5))
            .prop_map(|(queue, commands)| Step::Submit(queue, commands)),
        6 => (1..5u32).prop_map(Step::Work),
        4 => Just(Step::Interrupts),
        2 => Just(Step::Pump),
        4 => Just(Step::Move),
        2 => admin().prop_map(Step::Admin),
        1 => (1..=PAIRS, 2..20u16).prop_map(|(queue, entries)| Step::Recreate(queue, entries)),
    ]
}

pub fn start() -> impl Strategy<Value = Start> {
    (
        prop_oneof![Just(9u8), Just(12u8)],
        any::<bool>(),
        any::<bool>(),
        1..=PAIRS,
        2..17u16,
        prop_oneof![Just(1u32), 1..20u32],
        prop_oneof![4 => Just(0u32), 1 => 1..=4u32],
        prop::option::of((prop_oneof![Just(1usize), 1..100usize], any::<u64>())),
        prop::option::of(prop_oneof![(0x101..0x106u16), any::<u16>()]),
    )
        .prop_map(
            |(
                lba_shift,
                msix,
                shadow,
                pairs,
                entries,
                budget,
                page_shift,
                concurrent,
                coalescing,
            )| Start {
                lba_shift,
                msix,
                shadow,
                pairs,
                entries,
                budget,
                page_shift,
                concurrent,
                coalescing,
            },
        )
}

/// A driver, and its expectations.
struct Run {
    driver: Driver,
    reference: Reference,
    pairs: u16,
    shadow: bool,
    entries: u16,
    /// Moves are made, not skipped.
    moves: bool,
    admin: BTreeMap<u16, Vec<Status>>,
}

impl Run {
    fn new(start: Start) -> Self {
        let setup = Setup {
            lba_shift: start.lba_shift,
            msix: start.msix,
            page_shift: start.page_shift,
            ..Setup::default()
        };
        let mut driver = Driver::with_queues(setup, start.pairs, start.entries);
        if start.shadow {
            driver.configure_shadow();
        }
        driver.bench.budget = start.budget;
        driver.bench.disk.concurrent = start
            .concurrent
            .map(|(room, seed)| Concurrent::new(room, seed));
        if let Some(coalescing) = start.coalescing {
            driver.bench.timer = Some(Timer::default());
            let set = driver.set_feature(FEAT_IRQ_COALESCE, coalescing.into());
            assert_eq!(set.status, SUCCESS);
        }
        let reference = Reference::new(&driver);
        Self {
            driver,
            reference,
            pairs: start.pairs,
            shadow: start.shadow,
            entries: start.entries,
            moves: true,
            admin: BTreeMap::new(),
        }
    }

    /// Looks at the completions that are there.
    fn collect(&mut self) {
        self.reference.collect(&mut self.driver);
        let done: Vec<(u16, u16)> = self.driver.done.keys().copied().collect();
        for (sq, cid) in done {
            let status = self.driver.take(sq, cid).expect("it is there").status;
            let expected = self.admin.remove(&cid).expect("it was submitted");
            assert!(
                expected.contains(&status),
                "admin command {cid} should get one of {expected:?}, not {status:?}"
            );
        }
    }

    fn admin(&mut self, sqe: Sqe, expected: &[Status]) {
        if self.driver.sqs[&0].full() {
            self.driver.pump();
            self.collect();
        }
        let cid = self.driver.submit(0, sqe);
        self.admin.insert(cid, expected.to_vec());
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Submit(queue, commands) => {
                let queue = (queue - 1) % self.pairs + 1;
                for command in commands {
                    self.reference.enqueue(&mut self.driver, queue, command);
                }
                self.driver.ring_sq(queue);
            }
            Step::Work(budget) => {
                for _ in 0..*budget {
                    self.driver.bench.advance();
                }
                if self.driver.bench.kicked {
                    self.driver.bench.work(*budget);
                }
            }
            Step::Interrupts => {
                self.driver.interrupts();
            }
            Step::Pump => self.driver.pump(),
            Step::Move => {
                let bench = &mut self.driver.bench;
                if self.moves {
                    bench.relocate();
                } else {
                    // The visible effect of a move: doorbells that are wrong twice before the
                    // controller takes them count once.
                    bench.controller.drain(&bench.doorbells);
                    bench.kicked = true;
                }
            }
            Step::Admin(admin) => self.administrate(*admin),
            Step::Recreate(queue, entries) => {
                let queue = (queue - 1) % self.pairs + 1;
                self.finish();
                assert_eq!(self.driver.delete_sq(queue), SUCCESS);
                assert_eq!(self.driver.delete_cq(queue), SUCCESS);
                if let Some(shadow) = self.driver.shadow {
                    let at = u64::from(queue) * 8;
                    self.driver.bench.memory.put(shadow.doorbells + at, &[0; 8]);
                    self.driver.bench.memory.put(shadow.events + at, &[0; 8]);
                }
                assert_eq!(self.driver.create_cq(queue, *entries, Some(queue)), SUCCESS);
                assert_eq!(self.driver.create_sq(queue, *entries, queue), SUCCESS);
            }
            Step::Reset => {
                self.driver.reset();
                self.reference.abandon(&mut self.driver);
                self.admin.clear();
                self.driver.enable();
                self.driver.create_queues(self.pairs, self.entries);
                if self.shadow {
                    self.driver.configure_shadow();
                }
            }
        }
        self.collect();
    }

    fn administrate(&mut self, admin: Admin) {
        match admin {
            Admin::Identify => {
                let buffer = self.driver.buffer(PAGE, 0);
                let sqe = Sqe::new(ADMIN_IDENTIFY).data(&buffer).dword(10, CNS_CTRL);
                self.admin(sqe, &[SUCCESS]);
            }
            Admin::Smart => {
                let buffer = self.driver.buffer(512, 0);
                let sqe = crate::driver::log_page(&buffer, LOG_SMART, false);
                self.admin(sqe, &[SUCCESS]);
            }
            Admin::Feature(value) => {
                let sqe = Sqe::new(ADMIN_SET_FEATURES)
                    .dword(10, FEAT_TEMP_THRESH.into())
                    .dword(11, 0x100 | u32::from(value));
                self.admin(sqe, &[SUCCESS]);
            }
            Admin::Event => {
                let sqe = Sqe::new(ADMIN_ASYNC_EVENT);
                self.admin(sqe, &[SUCCESS, ASYNC_LIMIT]);
                self.driver.bench.write32(REG_DBS + 15 * 8, 1);
            }
            Admin::Abort(number) => {
                if let Some((sq, cid)) = self.reference.condemn(usize::from(number)) {
                    let sqe = Sqe::new(ADMIN_ABORT).dword(10, u32::from(cid) << 16 | u32::from(sq));
                    self.admin(sqe, &[SUCCESS]);
                }
            }
            Admin::Unknown => self.admin(Sqe::new(ADMIN_VENDOR), &[INVALID_OPCODE]),
        }
    }

    /// Has all commands completed but the requests for events.
    fn finish(&mut self) {
        self.driver.ring_all();
        self.driver.pump();
        self.collect();
        assert!(!self.reference.is_busy(), "every command completes");
        assert_eq!(
            self.driver.bench.read32(REG_CSTS),
            CSTS_RDY,
            "the controller is well"
        );
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn commands_do_and_get_what_the_reference_says(
        start in start(),
        steps in prop::collection::vec(
            prop_oneof![40 => step(), 1 => Just(Step::Reset)],
            1..60,
        ),
    ) {
        let mut run = Run::new(start);
        for step in &steps {
            run.take(step);
        }
        run.finish();
        run.reference.check_all(&mut run.driver, 1);
    }

    #[test]
    fn moves_are_invisible_to_the_driver(
        start in start(),
        steps in prop::collection::vec(step(), 1..40),
        all in any::<bool>(),
    ) {
        // A move waits for the commands in flight, which changes the order of completions.
        let start = Start {
            concurrent: None,
            coalescing: None,
            ..start
        };
        let mut stays = Run::new(start);
        let mut moves = Run::new(start);
        stays.moves = false;
        moves.driver.bench.moving = all;
        // A moved controller may interrupt once too often, which must not change what comes then.
        for run in [&mut stays, &mut moves] {
            run.driver.polls = true;
        }
        for step in &steps {
            stays.take(step);
            moves.take(step);
        }
        stays.finish();
        moves.finish();

        let disks = (&stays.driver.bench.disk.bytes, &moves.driver.bench.disk.bytes);
        prop_assert!(disks.0 == disks.1, "the disks are the same");
        let memories = (
            stays.driver.bench.memory.pages(),
            moves.driver.bench.memory.pages(),
        );
        for ((address, stayed), (other, moved)) in memories.0.iter().zip(memories.1) {
            prop_assert_eq!(address, other, "both have the same pages");
            prop_assert!(stayed == moved, "the page at {:#x} is the same", address);
        }
        for register in (0..0x40).step_by(4) {
            prop_assert_eq!(
                stays.driver.bench.read32(register),
                moves.driver.bench.read32(register),
                "register {:#x}", register
            );
        }
    }
}

#[test]
fn the_random_commands_get_each_status_that_they_are_to_test() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::new();
    for _ in 0..16 {
        let (start, steps) = (start(), prop::collection::vec(step(), 60))
            .new_tree(&mut runner)
            .expect("steps are always possible")
            .current();
        let mut run = Run::new(start);
        for step in &steps {
            run.take(step);
        }
        run.finish();
        for (status, count) in run.reference.seen {
            *seen.entry(status).or_insert(0) += count;
        }
    }
    for status in [
        SUCCESS,
        INVALID_OPCODE,
        INVALID_FIELD,
        DATA_XFER_ERROR,
        INVALID_NS,
        PRP_OFFSET_INVALID,
        LBA_RANGE,
        COMPARE_FAILED,
    ] {
        assert!(
            seen.contains_key(&status),
            "{status:?} should be among {seen:?}"
        );
    }
}
