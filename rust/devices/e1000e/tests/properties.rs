// SPDX-License-Identifier: GPL-2.0

//! What holds wherever in the life of its queues a card is moved.

use proptest::prelude::*;

use crate::bench::{
    packet,
    Format,
    Guest,
    Host,
    MEMORY, //
};
use crate::model::{
    Memory,
    Truth, //
};
use crate::spec::*;

/// What the guest, the wire or the user does.
#[derive(Clone, Debug)]
enum Step {
    Post(usize, u32, u64),
    Arrive(usize, usize),
    Send(usize, usize, u32, bool),
    Run(u32),
    Reap,
    /// Handles the interrupt.
    Interrupt,
    Statistics,
    /// Writes a register that configures.
    Configure(usize, u32),
    SetUp(usize, u32),
    Phy(u16),
    Migrate,
    /// Stops, saves, and goes on.
    Cancel,
    /// Stops with packets arriving meanwhile.
    Standstill(usize),
}

const FORMATS: [Format; 5] = [
    Format::Legacy(0),
    Format::Extended(0x0002_0000),
    Format::Extended(RCTL_BSEX | 0x0003_0000),
    Format::Extended(0x0800_0000),
    Format::Split,
];

/// Registers with some bits that a guest may set at any time.
const CONFIGURATION: [(u32, u32); 24] = [
    (0x0028, !0),
    (0x002c, 0xffff),
    (0x0030, 0xffff),
    (0x0038, 0xffff),
    (0x0170, 0xffff),
    (LEDCTL, 0xcfcf_cfef),
    (ITR, 0xffff),
    (0x00e8, 0xffff),
    (0x00f8, 0xffff),
    (EIAC, 0x01f0_0000),
    (IAM, !0),
    (IVAR, 0x800f_ffff),
    (0x2160, 0x8000_fff8),
    (0x2168, 0xfff8),
    (RDTR, 0xffff),
    (0x282c, 0xffff),
    (0x5000, 0x33ff),
    (MTA + 124, !0),
    (VFTA + 508, !0),
    (RSSRK + 36, !0),
    (RAL + 8, !0),
    (RAH + 8, 0x8003_ffff),
    (TIPG, 0x3fff_ffff),
    (0x9bf8, !0),
];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2usize, 1..20u32, 0..2048u64).prop_map(|(q, n, s)| Step::Post(q, n, s)),
        6 => (0..2usize, 64..5000usize).prop_map(|(q, n)| Step::Arrive(q, n)),
        6 => (0..2usize, 64..1500usize, 1..4u32, any::<bool>())
            .prop_map(|(q, n, p, c)| Step::Send(q, n, p, c)),
        6 => (1..200u32).prop_map(Step::Run),
        4 => Just(Step::Reap),
        2 => Just(Step::Interrupt),
        2 => Just(Step::Statistics),
        3 => (0..CONFIGURATION.len(), any::<u32>()).prop_map(|(r, v)| Step::Configure(r, v)),
        1 => (0..FORMATS.len(), 2..6u32).prop_map(|(f, n)| Step::SetUp(f, 8 * n)),
        1 => any::<u16>().prop_map(Step::Phy),
        3 => Just(Step::Migrate),
        1 => Just(Step::Cancel),
        1 => (1..5usize).prop_map(Step::Standstill),
    ]
}

/// A guest, the host it is on, and what the hosts before have seen.
struct Journey {
    host: Host,
    guest: Guest,
    /// What came from the wire and was taken, for each queue.
    arrived: [Vec<Vec<u8>>; 2],
    /// Packets sent at hosts before, and what was counted there.
    wire: Vec<Vec<u8>>,
    truth: Truth,
    /// Statistics that the guest has read.
    seen: Truth,
    counter: u32,
}

impl Journey {
    fn new() -> Self {
        let memory = Memory::new(MEMORY);
        let mut host = Host::new(memory.clone());
        let mut guest = Guest::new(memory);
        guest.set_up(&mut host, FORMATS[0], 16, 0);
        Self {
            host,
            guest,
            arrived: [Vec::new(), Vec::new()],
            wire: Vec::new(),
            truth: Truth::default(),
            seen: Truth::default(),
            counter: 0,
        }
    }

    /// Registers that the guest can read without an effect, as it sees them.
    fn registers(&self) -> Vec<(u32, u32)> {
        let volatile = |offset: u32| {
            // What a chip counts or tells on its own, and what leads to the EEPROM or the PHY.
            matches!(offset, STATUS | EECD | EERD | MDIC | EXTCNF_CTRL | ICR)
                || (STATISTICS..STATISTICS_END).contains(&offset)
        };
        (0..REGISTER_SPACE)
            .step_by(4)
            .filter(|&offset| !volatile(offset))
            .map(|offset| (offset, self.host.model.peek(offset)))
            .collect()
    }

    fn retire(&mut self) {
        let model = &mut self.host.model;
        self.wire.append(&mut model.wire);
        let truth = std::mem::take(&mut model.truth);
        self.truth.received += truth.received;
        self.truth.received_octets += truth.received_octets;
        self.truth.sent += truth.sent;
        self.truth.sent_octets += truth.sent_octets;
        self.truth.missed += truth.missed;
    }

    fn migrate(&mut self) {
        let mut other = self.host.migrate();
        // Packets without a buffer stay in the FIFO, and are lost.
        let lost = self.host.model.rx_fifo();
        self.forget_newest(lost);
        self.host.expect_no_faults();
        let before = {
            // What the guest had before the stop, which the state has.
            let mut registers = self.registers();
            registers.retain(|&(offset, _)| !matches!(offset, CTRL | RCTL | TCTL | IMS));
            registers
        };
        self.retire();
        let phy = self.host.model.phy;
        other.resume().expect("the destination runs");
        self.host = other;
        let after = self.registers();
        for (offset, value) in before {
            let now = after[after.partition_point(|&(at, _)| at < offset)].1;
            assert_eq!(now, value, "register {offset:#x} at the destination");
        }
        assert_eq!(self.host.model.phy, phy, "the PHY");
    }

    /// Takes the newest packets, which the card has and will not give, away from what arrived.
    fn forget_newest(&mut self, count: usize) {
        let mut newest: Vec<_> = self.host.model.in_fifo().collect();
        assert_eq!(newest.len(), count);
        while let Some(packet) = newest.pop() {
            let queue = usize::from(packet[0] & 1);
            let taken = self.arrived[queue].pop();
            assert_eq!(
                taken.as_deref(),
                Some(packet.as_slice()),
                "the newest packet"
            );
        }
    }

    fn statistics(&mut self) {
        let mut wide = |offset| {
            let low = self.host.read(offset);
            let high = self.host.read(offset + 4);
            u64::from(high) << 32 | u64::from(low)
        };
        let (received, sent) = (wide(GORCL), wide(GOTCL));
        self.seen.received_octets += received;
        self.seen.sent_octets += sent;
        self.seen.received += u64::from(self.host.read(GPRC));
        self.seen.sent += u64::from(self.host.read(GPTC));
        self.seen.missed += u64::from(self.host.read(MPC));
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Post(queue, count, shift) => {
                self.guest.post(&mut self.host, queue, count, shift);
            }
            Step::Arrive(queue, len) => {
                self.counter += 1;
                let packet = packet(self.counter, queue, len);
                if self.host.model.arrive(&packet) {
                    self.arrived[queue].push(packet);
                }
            }
            Step::Send(queue, len, parts, context) => {
                self.guest.send(&mut self.host, queue, len, parts, context);
            }
            Step::Run(time) => self.host.model.run(time),
            Step::Reap => self.guest.reap(),
            Step::Interrupt => {
                if self.host.model.interrupt() {
                    let causes = self.host.read(ICR);
                    assert_ne!(causes & INT_ASSERTED, 0);
                    assert!(!self.host.model.interrupt(), "a read of ICR acknowledges");
                }
                self.guest.reap();
            }
            Step::Statistics => self.statistics(),
            Step::Configure(index, value) => {
                let (register, mask) = CONFIGURATION[index];
                self.host.write(register, value & mask);
            }
            Step::SetUp(format, units) => {
                // The driver waits until its packets are sent, and gives up what it has not been given.
                self.host.model.run(100_000);
                self.guest.reap();
                let lost = self.host.model.rx_fifo();
                self.forget_newest(lost);
                self.guest.set_up(&mut self.host, FORMATS[format], units, 0);
            }
            Step::Phy(value) => self.host.model.phy[18] = value,
            Step::Migrate => self.migrate(),
            Step::Cancel => {
                let before = self.registers();
                self.host.quiesce().expect("the device stops");
                self.host.save().expect("the device is saved");
                self.host.resume().expect("the device goes on");
                for (seen, expected) in self.registers().into_iter().zip(before) {
                    // Time goes on during the stop: heads move.
                    if !matches!(expected.0 & !QUEUE, RDH | TDH) {
                        assert_eq!(
                            seen, expected,
                            "a register after the migration was cancelled"
                        );
                    }
                }
            }
            Step::Standstill(packets) => {
                self.host.quiesce().expect("the device stops");
                for _ in 0..packets {
                    self.counter += 1;
                    let taken = self.host.model.arrive(&packet(self.counter, 0, 100));
                    assert!(!taken, "what arrives during the standstill is lost");
                }
                self.host.resume().expect("the device goes on");
            }
        }
    }

    /// Lets the rest arrive.
    fn finish(&mut self) {
        for _ in 0..20 {
            self.host.model.run(10_000);
            self.guest.reap();
            self.guest.post(&mut self.host, 0, 40, 0);
            self.guest.post(&mut self.host, 1, 40, 0);
        }
        self.statistics();
        self.retire();
    }
}

fn queue(packets: &[Vec<u8>], queue: u8) -> Vec<Vec<u8>> {
    packets
        .iter()
        .filter(|packet| packet[0] == queue)
        .cloned()
        .collect()
}

/// Which packet is the first that differs, as its content is too long to be read.
fn difference(seen: &[Vec<u8>], expected: &[Vec<u8>]) -> Option<usize> {
    if seen == expected {
        return None;
    }
    let differs = seen.iter().zip(expected).position(|(a, b)| a != b);
    Some(differs.unwrap_or(seen.len().min(expected.len())))
}

/// Takes `steps`, and compares what came of them with what the guest and the wire gave.
fn check(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut journey = Journey::new();
    for step in steps {
        journey.take(step);
    }
    journey.finish();

    prop_assert_eq!(&journey.host.model.faults, &Vec::<String>::new());
    for index in 0..2 {
        let sent = queue(&journey.wire, index as u8);
        prop_assert_eq!(
            difference(&sent, &journey.guest.sent[index]),
            None,
            "queue {}: {} packets on the wire, {} given to the card",
            index,
            sent.len(),
            journey.guest.sent[index].len()
        );
        prop_assert_eq!(
            difference(&journey.guest.received[index], &journey.arrived[index]),
            None,
            "queue {}: {} packets received, {} taken from the wire",
            index,
            journey.guest.received[index].len(),
            journey.arrived[index].len()
        );
    }
    prop_assert_eq!(&journey.seen, &journey.truth, "statistics");
    Ok(())
}

#[test]
fn a_descriptor_that_is_fetched_is_the_cards_until_it_is_written_back() {
    // The ring goes round while the card has yet to write its first descriptors back.
    let steps = [
        Step::Send(1, 64, 3, true),
        Step::Send(1, 64, 3, false),
        Step::Run(51),
        Step::Send(1, 64, 1, false),
        Step::Send(1, 64, 1, true),
        Step::Send(1, 64, 3, true),
        Step::Send(1, 64, 3, false),
        Step::Send(1, 64, 2, true),
    ];
    check(&steps).expect("each packet is sent once, as it is");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn wherever_it_is_moved_nothing_is_lost_twice_or_changed(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        check(&steps)?;
    }

    #[test]
    fn an_interrupt_that_was_pending_is_asserted_again(
        causes in any::<u32>(),
        mask in any::<u32>(),
    ) {
        let causes = causes & 0x01f7_92df;
        let mask = mask & 0x01f7_92df;
        let mut journey = Journey::new();
        journey.host.write(IMC, !0);
        journey.host.read(ICR);
        journey.host.write(ICS, causes);
        journey.host.write(IMS, mask);
        journey.migrate();
        prop_assert_eq!(journey.host.read(IMS), mask, "the mask is the guest's");
        let seen = journey.host.model.peek(ICR);
        prop_assert_eq!(seen & causes, causes, "what was pending is pending");
        prop_assert_eq!(seen & !causes & !mask, 0, "and no cause that the guest has masked");
        let look = CAUSE_TXDW | CAUSE_LSC | CAUSE_RXT0 | CAUSE_RXQ0 | CAUSE_TXQ0;
        prop_assert_eq!(seen & look, (causes | mask) & look, "the guest looks at rings and link");
    }
}
