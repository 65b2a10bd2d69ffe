// SPDX-License-Identifier: GPL-2.0

//! The numbered, checksummed datagrams of a flow, and their judge.
//!
//! A datagram is the sender's side, its number, the number after the highest one that the sender has received, filler bytes
//! that follow from side and number, and the CRC-32C of all before. Numbers are little-endian. A datagram can be rebuilt, so
//! that the judge compares every byte.

use serde::Deserialize;
use serde::Serialize;

use crate::line::Faults;
use crate::sequence;
use crate::sequence::Place;
use crate::sequence::Sequence;

/// Bytes before the filler, and after it.
const HEAD: usize = 17;
const TAIL: usize = 4;

/// The largest datagram in bytes whose packet fits into a frame of 1,500 bytes, and one that fits into a jumbo frame of
/// 9,000 bytes.
pub const ORDINARY: usize = 1500 - 28;
pub const JUMBO: usize = 9000 - 28;

/// An end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Guest = 1,
    Host = 2,
}

impl Side {
    /// The other end.
    pub fn other(self) -> Self {
        match self {
            Self::Guest => Self::Host,
            Self::Host => Self::Guest,
        }
    }
}

/// The datagram `number` of `side`, of at most `longest` bytes, with the acknowledgement `ack`.
pub fn build(side: Side, longest: usize, number: u64, ack: u64) -> Vec<u8> {
    let mut datagram = vec![side as u8];
    datagram.extend(number.to_le_bytes());
    datagram.extend(ack.to_le_bytes());
    let mut next = sequence::generator(number << 8 | side as u64);
    let filler = longest.saturating_sub(HEAD + TAIL);
    // Every fourth datagram is as long as it can be.
    let length = match number % 4 {
        0 => filler,
        _ => next() as usize % (filler + 1),
    };
    while datagram.len() < HEAD + length {
        datagram.extend(next().to_le_bytes());
    }
    datagram.truncate(HEAD + length);
    datagram.extend(crc32c::crc32c(&datagram).to_le_bytes());
    datagram
}

/// The number and the acknowledgement of a datagram that `side` has sent, or nothing if it is not as it was built.
fn parse(side: Side, longest: usize, datagram: &[u8]) -> Option<(u64, u64)> {
    let number = |at: usize| {
        let bytes = datagram.get(at..at + 8)?.try_into().ok()?;
        Some(u64::from_le_bytes(bytes))
    };
    let (number, ack) = (number(1)?, number(9)?);
    (build(side, longest, number, ack) == datagram).then_some((number, ack))
}

/// Datagrams that a port may keep for a card whose receiver is disabled, and give the card when it is enabled, while the
/// bridge still gives later ones to the card that the guest has left.
const KEPT: u64 = 16;

/// What one end of a flow has sent and received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Datagrams sent.
    pub sent: u64,
    /// Good datagrams received.
    pub received: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Faults of the received datagrams.
    pub faults: Faults,
    /// Runs of lost datagrams without a received one between them, as the first number and the one after the last.
    pub gaps: Vec<(u64, u64)>,
}

impl Tally {
    /// Whether nothing was doubled, reordered or changed, and what was lost was lost in no more than `standstills`
    /// standstills of the receiver.
    pub fn good(&self, standstills: usize) -> bool {
        let faults = Faults {
            lost: 0,
            ..self.faults.clone()
        };
        faults.none() && self.standstills() <= standstills
    }

    /// The number of times that the receiver stood still. A gap that follows another one after no more than [`KEPT`]
    /// datagrams is of the same time.
    fn standstills(&self) -> usize {
        let apart = |pair: &&[(u64, u64)]| match pair {
            [(_, end), (start, _)] => start.saturating_sub(*end) > KEPT,
            _ => false,
        };
        match self.gaps.len() {
            0 => 0,
            _ => 1 + self.gaps.windows(2).filter(apart).count(),
        }
    }
}

/// Judges the datagrams that one end receives.
#[derive(Debug)]
pub struct Judge {
    side: Side,
    longest: usize,
    sequence: Sequence,
    pub tally: Tally,
    /// The highest acknowledgement so far.
    pub acknowledged: u64,
}

impl Judge {
    /// A judge at `side`, which the other end sends datagrams of at most `longest` bytes.
    pub fn new(side: Side, longest: usize) -> Self {
        Self {
            side,
            longest,
            sequence: Sequence::default(),
            tally: Tally::default(),
            acknowledged: 0,
        }
    }

    /// The number after the highest one so far.
    pub fn expected(&self) -> u64 {
        self.sequence.expected()
    }

    /// Takes a datagram.
    pub fn take(&mut self, datagram: &[u8]) {
        let tally = &mut self.tally;
        let Some((number, ack)) = parse(self.side.other(), self.longest, datagram) else {
            tally.faults.corrupt += 1;
            return;
        };
        tally.received += 1;
        tally.bytes += datagram.len() as u64;
        self.acknowledged = self.acknowledged.max(ack);
        match self.sequence.take(number) {
            Place::Next => {}
            Place::AfterGap { from } => {
                tally.faults.lost += number - from;
                tally.gaps.push((from, number));
            }
            Place::Late => {
                tally.faults.lost -= 1;
                tally.faults.reordered += 1;
            }
            Place::Doubled => tally.faults.doubled += 1,
        }
    }

    /// Ends the flow, in which the other end has sent `sent` datagrams. Those that are missing at the end are lost.
    pub fn end(&mut self, sent: u64) {
        let missing = sent.saturating_sub(self.expected());
        if missing > 0 {
            self.tally.faults.lost += missing;
            self.tally.gaps.push((self.sequence.expected(), sent));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(datagrams: &[Vec<u8>]) -> Judge {
        let mut judge = Judge::new(Side::Host, ORDINARY);
        for datagram in datagrams {
            judge.take(datagram);
        }
        judge
    }

    fn datagram(number: u64) -> Vec<u8> {
        build(Side::Guest, ORDINARY, number, 7)
    }

    #[test]
    fn datagrams_have_all_lengths_and_no_faults() {
        let all: Vec<_> = (0..500).map(datagram).collect();
        assert_eq!(all.iter().map(Vec::len).max(), Some(ORDINARY));
        assert!(all.iter().any(|datagram| datagram.len() < 100));
        let judge = judged(&all);
        let bytes = all.iter().map(|datagram| datagram.len() as u64).sum();
        let expected = Tally {
            received: 500,
            bytes,
            ..Tally::default()
        };
        assert_eq!(judge.tally, expected);
        assert_eq!(judge.acknowledged, 7);
        assert!(judge.tally.good(0));
    }

    #[test]
    fn every_single_bit_flip_is_seen() {
        let good = build(Side::Guest, 64, 3, 0);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let mut judge = Judge::new(Side::Host, 64);
            judge.take(&bad);
            assert_eq!(judge.tally.faults.corrupt, 1, "bit {bit}");
        }
    }

    #[test]
    fn what_one_has_sent_oneself_is_corrupt() {
        let judge = judged(&[build(Side::Host, ORDINARY, 0, 0)]);
        assert_eq!(judge.tally.faults.corrupt, 1);
    }

    #[test]
    fn gaps_are_counted_and_a_late_datagram_is_no_lost_one() {
        let mut judge = judged(&[0, 3, 4, 6, 5].map(datagram));
        let faults = Faults {
            lost: 2,
            reordered: 1,
            ..Faults::default()
        };
        assert_eq!(judge.tally.faults, faults);
        assert_eq!(judge.tally.gaps, [(1, 3), (5, 6)]);
        assert!(!judge.tally.good(2), "a reordered datagram is a fault");
        judge.end(10);
        assert_eq!(judge.tally.faults.lost, 5);
        assert_eq!(judge.tally.gaps, [(1, 3), (5, 6), (7, 10)]);
    }

    #[test]
    fn only_gaps_for_which_there_is_a_reason_are_good() {
        let mut judge = judged(&[0, 3].map(datagram));
        judge.end(4);
        assert!(judge.tally.good(1) && !judge.tally.good(0));
    }

    #[test]
    fn gaps_of_one_standstill_are_told_from_those_of_two() {
        let numbers = |gaps: [(u64, u64); 2]| {
            let lost =
                move |number: &u64| gaps.iter().any(|(from, to)| (*from..*to).contains(number));
            (0..100).filter(move |number| !lost(number))
        };
        let tally = |gaps| {
            let datagrams: Vec<_> = numbers(gaps).map(datagram).collect();
            judged(&datagrams).tally
        };
        assert!(tally([(10, 13), (17, 25)]).good(1));
        assert!(tally([(10, 13), (13 + KEPT, 40)]).good(1));
        let two = tally([(10, 13), (14 + KEPT, 40)]);
        assert!(!two.good(1) && two.good(2));
    }

    #[test]
    fn a_doubled_datagram_is_told() {
        let judge = judged(&[0, 1, 1].map(datagram));
        assert_eq!(judge.tally.faults.doubled, 1);
    }
}
