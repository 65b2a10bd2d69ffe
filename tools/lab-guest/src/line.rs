// SPDX-License-Identifier: GPL-2.0

//! The numbered, checksummed lines that travel through a serial port, and their judge.
//!
//! A line is `<port> <number> <filler> <crc>\n`: the port's name, the line's number in decimal,
//! filler bytes that follow from port and number (any byte but newline), and the CRC-32C of all
//! before the last space as eight hexadecimal digits. A line can be rebuilt from its number, so
//! that the judge compares every byte and needs no copy of what was sent.

use serde::Deserialize;
use serde::Serialize;

use crate::sequence;
use crate::sequence::Place;
use crate::sequence::Sequence;

/// Shortest and longest filler in bytes; lines of many lengths fill a FIFO in many ways.
const FILLER: std::ops::Range<u64> = 8..88;

/// The largest length of a line in bytes. A longer line is damaged.
const LONGEST_LINE: usize = 256;

/// The line `number` of `port`, with its newline.
pub fn build(port: &str, number: u64) -> Vec<u8> {
    let mut line = format!("{port} {number} ").into_bytes();
    let mut next = sequence::generator(crc32c::crc32c(&line) as u64 | (number << 32));
    let length = FILLER.start + next() % (FILLER.end - FILLER.start);
    for _ in 0..length {
        let byte = (next() >> 24) as u8;
        line.push(if byte == b'\n' { b'.' } else { byte });
    }
    let crc = crc32c::crc32c(&line);
    line.extend_from_slice(format!(" {crc:08x}\n").as_bytes());
    line
}

/// The faults of the received lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// Lines that were never received.
    pub lost: u64,
    /// Lines that were received more than once.
    pub doubled: u64,
    /// Lines that were received after one with a higher number.
    pub reordered: u64,
    /// Lines whose bytes are not the ones that were sent.
    pub corrupt: u64,
}

impl Faults {
    /// Whether there is no fault.
    pub fn none(&self) -> bool {
        *self == Self::default()
    }
}

/// Reads the bytes that come back through one port and judges them.
#[derive(Debug)]
pub struct Judge {
    port: String,
    partial: Vec<u8>,
    sequence: Sequence,
    /// Good lines so far.
    pub received: u64,
    /// All bytes so far.
    pub bytes: u64,
    /// Faults so far.
    pub faults: Faults,
}

impl Judge {
    /// A judge of `port`, which expects line 0.
    pub fn new(port: &str) -> Self {
        Self {
            port: port.to_owned(),
            partial: Vec::new(),
            sequence: Sequence::default(),
            received: 0,
            bytes: 0,
            faults: Faults::default(),
        }
    }

    /// Bytes of a line whose end has not been received yet.
    pub fn partial(&self) -> usize {
        self.partial.len()
    }

    /// Takes the next bytes and describes every fault found in them.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        self.bytes += bytes.len() as u64;
        for &byte in bytes {
            self.partial.push(byte);
            if byte == b'\n' || self.partial.len() > LONGEST_LINE {
                let line = std::mem::take(&mut self.partial);
                if let Some(fault) = self.judge(&line) {
                    found.push(fault);
                }
            }
        }
        found
    }

    fn judge(&mut self, line: &[u8]) -> Option<String> {
        let number = std::str::from_utf8(line.split(|&byte| byte == b' ').nth(1).unwrap_or(b""))
            .ok()
            .and_then(|digits| digits.parse::<u64>().ok())
            .filter(|&number| build(&self.port, number) == line);
        let Some(number) = number else {
            self.faults.corrupt += 1;
            return Some(format!(
                "{}: corrupt: expected line {}, got {} bytes: \"{}\"",
                self.port,
                self.sequence.expected(),
                line.len(),
                line.escape_ascii()
            ));
        };
        self.received += 1;
        let last = self.sequence.expected().saturating_sub(1);
        match self.sequence.take(number) {
            Place::Next => None,
            Place::AfterGap { from } => {
                self.faults.lost += number - from;
                Some(format!(
                    "{}: lost: expected line {from}, got {number}",
                    self.port
                ))
            }
            Place::Late => {
                self.faults.lost -= 1;
                self.faults.reordered += 1;
                Some(format!(
                    "{}: reordered: line {number} after {last}",
                    self.port
                ))
            }
            Place::Doubled => {
                self.faults.doubled += 1;
                Some(format!(
                    "{}: doubled: line {number} again, after {last}",
                    self.port
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(lines: &[Vec<u8>]) -> Judge {
        let mut judge = Judge::new("ttyS4");
        for line in lines {
            judge.take(line);
        }
        judge
    }

    #[test]
    fn an_unharmed_stream_has_no_faults_however_it_is_cut() {
        let stream: Vec<u8> = (0..200).flat_map(|number| build("ttyS4", number)).collect();
        for cut in [1, 3, 7, 16, 64, 1000] {
            let mut judge = Judge::new("ttyS4");
            for part in stream.chunks(cut) {
                let faults = judge.take(part);
                assert!(
                    faults.is_empty(),
                    "cut {cut}: expected no fault, saw {faults:?}"
                );
            }
            assert_eq!((judge.received, judge.partial()), (200, 0), "cut {cut}");
        }
    }

    #[test]
    fn every_single_bit_flip_is_seen() {
        let good = build("ttyS4", 0);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let judge = judged(&[bad, build("ttyS4", 1)]);
            assert!(
                !judge.faults.none(),
                "bit {bit}: expected a fault, saw none"
            );
        }
    }

    #[test]
    fn a_dropped_byte_is_seen() {
        let good = build("ttyS4", 0);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad.remove(at);
            let judge = judged(&[bad, build("ttyS4", 1)]);
            assert!(
                !judge.faults.none(),
                "byte {at}: expected a fault, saw none"
            );
        }
    }

    #[test]
    fn lost_doubled_and_reordered_lines_are_told_apart() {
        let line = |number| build("ttyS4", number);
        let lost = judged(&[line(0), line(2)]);
        assert_eq!(
            lost.faults,
            Faults {
                lost: 1,
                ..Faults::default()
            }
        );
        let doubled = judged(&[line(0), line(1), line(1)]);
        assert_eq!(
            doubled.faults,
            Faults {
                doubled: 1,
                ..Faults::default()
            }
        );
        let reordered = judged(&[line(0), line(2), line(1)]);
        assert_eq!(
            reordered.faults,
            Faults {
                reordered: 1,
                ..Faults::default()
            }
        );
    }

    #[test]
    fn a_line_of_another_port_is_corrupt() {
        let judge = judged(&[build("ttyS5", 0)]);
        assert_eq!(
            judge.faults,
            Faults {
                corrupt: 1,
                ..Faults::default()
            }
        );
    }
}
