// SPDX-License-Identifier: GPL-2.0

//! Entries of submission and completion queues (sections 4.2 and 4.6).

use super::spec::Status;

/// A submission queue entry.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Command {
    /// The sixteen words.
    pub words: [u32; 16],
}

impl Command {
    /// The size in bytes.
    pub const SIZE: usize = 64;

    /// Makes a command with an opcode and nothing else.
    pub fn new(opcode: u8) -> Self {
        Command::default().word(0, opcode.into())
    }

    /// Sets the namespace.
    pub fn namespace(self, id: u32) -> Self {
        self.word(1, id)
    }

    /// Sets both PRP entries.
    pub fn prp(self, first: u64, second: u64) -> Self {
        self.word(6, first as u32)
            .word(7, (first >> 32) as u32)
            .word(8, second as u32)
            .word(9, (second >> 32) as u32)
    }

    /// Sets one of the sixteen words.
    pub fn word(mut self, index: usize, value: u32) -> Self {
        self.words[index] = value;
        self
    }

    /// Sets the range of logical blocks: `slba` and the 0's based `nlb`.
    pub fn blocks(self, first: u64, count: u32) -> Self {
        let control = self.words[12] & 0xffff_0000;
        self.word(10, first as u32)
            .word(11, (first >> 32) as u32)
            .word(12, control | (count.wrapping_sub(1) & 0xffff))
    }

    /// Sets the command's id.
    pub fn id(self, id: u16) -> Self {
        let rest = self.words[0] & 0xffff;
        self.word(0, rest | u32::from(id) << 16)
    }

    /// Returns the entry's bytes.
    pub fn bytes(&self) -> [u8; Command::SIZE] {
        let mut bytes = [0; Command::SIZE];
        for (piece, word) in bytes.chunks_exact_mut(4).zip(self.words) {
            piece.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// A completion queue entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Completion {
    /// The command's own result, dword 0.
    pub result: u32,
    /// `sqhd`: the head of the submission queue.
    pub head: u16,
    /// `sqid`: the submission queue.
    pub queue: u16,
    /// `cid`: the command's id.
    pub id: u16,
    /// The status field, without phase and hints.
    pub status: Status,
}

impl Completion {
    /// The size in bytes.
    pub const SIZE: usize = 16;

    pub(super) fn parse(low: u64, high: u64) -> Self {
        Completion {
            result: low as u32,
            head: high as u16,
            queue: (high >> 16) as u16,
            id: (high >> 32) as u16,
            status: Status((high >> 49) as u16 & 0x7ff),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Command;
    use super::Completion;
    use super::Status;

    #[test]
    fn a_command_has_its_fields_where_the_specification_has_them() {
        let command = Command::new(2)
            .namespace(1)
            .prp(0x1122_3344_5566_7788, 0x99)
            .blocks(0x1_0000_0005, 8)
            .id(0xabcd);
        let bytes = command.bytes();
        assert_eq!(bytes[..8], [2, 0, 0xcd, 0xab, 1, 0, 0, 0]);
        assert_eq!(
            bytes[24..34],
            [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x99, 0]
        );
        assert_eq!(bytes[40..50], [5, 0, 0, 0, 1, 0, 0, 0, 7, 0]);
    }

    #[test]
    fn a_completion_is_taken_apart_without_phase_and_hints() {
        let seen = Completion::parse(0x1111_1111_0000_0042, 0xc285_0007_0001_0003);
        let expected = Completion {
            result: 0x42,
            head: 3,
            queue: 1,
            id: 7,
            status: Status(0x142),
        };
        assert_eq!(seen, expected);
    }
}
