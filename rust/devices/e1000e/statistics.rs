// SPDX-License-Identifier: GPL-2.0

//! The statistics registers, without loss across a migration.
//!
//! Mirrors section 10.2.7 of the data sheet. A statistics register is cleared when it is read, a pair
//! of 64 bits when its upper half is read, and none can be written: what the source has counted
//! since the guest's last read cannot be put into the destination's registers. So the page of these
//! registers is trapped. What was counted before is kept here, and a read by the guest gives the sum of
//! both and clears both.

use device_model::hardware::Registers;

use crate::registers::Register;

/// Offsets of the registers of 32 bits, which stick at their largest value.
const NARROW: [u16; 59] = [
    0x4000, // CRCERRS
    0x4004, // ALGNERRC
    0x4008, // SYMERRS
    0x400c, // RXERRC
    0x4010, // MPC
    0x4014, // SCC
    0x4018, // ECOL
    0x401c, // MCC
    0x4020, // LATECOL
    0x4028, // COLC
    0x4030, // DC
    0x4034, // TNCRS
    0x4038, // SEC
    0x403c, // CEXTERR
    0x4040, // RLEC
    0x4048, // XONRXC
    0x404c, // XONTXC
    0x4050, // XOFFRXC
    0x4054, // XOFFTXC
    0x4058, // FCRUC
    0x405c, // PRC64
    0x4060, // PRC127
    0x4064, // PRC255
    0x4068, // PRC511
    0x406c, // PRC1023
    0x4070, // PRC1522
    0x4074, // GPRC
    0x4078, // BPRC
    0x407c, // MPRC
    0x4080, // GPTC
    0x40a0, // RNBC
    0x40a4, // RUC
    0x40a8, // RFC
    0x40ac, // ROC
    0x40b0, // RJC
    0x40b4, // MNGPRC
    0x40b8, // MPDC
    0x40bc, // MNGPTC
    0x40d0, // TPR
    0x40d4, // TPT
    0x40d8, // PTC64
    0x40dc, // PTC127
    0x40e0, // PTC255
    0x40e4, // PTC511
    0x40e8, // PTC1023
    0x40ec, // PTC1522
    0x40f0, // MPTC
    0x40f4, // BPTC
    0x40f8, // TSCTC
    0x40fc, // TSCTFC
    0x4100, // IAC
    0x4104, // ICRXPTC
    0x4108, // ICRXATC
    0x410c, // ICTXPTC
    0x4110, // ICTXATC
    0x4118, // ICTXQEC
    0x411c, // ICTXQMTC
    0x4120, // ICRXDMTC
    0x4124, // ICRXOC
];

/// Offsets of the lower halves of the pairs of 64 bits.
const WIDE: [u16; 4] = [
    0x4088, // GORC
    0x4090, // GOTC
    0x40c0, // TOR
    0x40c8, // TOT
];

/// Number of registers of 32 bits.
pub(crate) const NARROWS: usize = NARROW.len();
/// Number of pairs of 64 bits.
pub(crate) const WIDES: usize = WIDE.len();

/// What was counted and has not been read by the guest, less what the registers have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statistics {
    pub(crate) narrow: [u32; NARROWS],
    pub(crate) wide: [u64; WIDES],
    /// The value whose lower half the guest has read. The upper half is still to be read, and the read
    /// takes the value away.
    pub(crate) halved: [Option<u64>; WIDES],
}

impl Statistics {
    /// Nothing counted.
    pub(crate) const fn new() -> Self {
        Self {
            narrow: [0; NARROWS],
            wide: [0; WIDES],
            halved: [None; WIDES],
        }
    }

    /// Takes over what the registers have counted, which clears them.
    pub(crate) fn absorb(&mut self, registers: &mut dyn Registers) {
        for (sum, &offset) in self.narrow.iter_mut().zip(&NARROW) {
            *sum = sum.saturating_add(registers.read32(offset.into()));
        }
        for (sum, &offset) in self.wide.iter_mut().zip(&WIDE) {
            *sum = sum.saturating_add(counted(registers, offset));
        }
    }

    /// Forgets what was counted, in the registers as well.
    pub(crate) fn clear(&mut self, registers: &mut dyn Registers) {
        self.absorb(registers);
        *self = Self::new();
    }

    /// What the guest reads at `offset`, if a statistics register is there.
    pub(crate) fn read(&mut self, registers: &mut dyn Registers, offset: u32) -> Option<u32> {
        let narrow = NARROW
            .iter()
            .position(|&narrow| u32::from(narrow) == offset);
        if let Some(sum) = narrow.and_then(|index| self.narrow.get_mut(index)) {
            return Some(core::mem::take(sum).saturating_add(registers.read32(offset)));
        }

        let index = WIDE
            .iter()
            .position(|&wide| u32::from(wide) == offset & !4)?;
        let sum = self.wide.get_mut(index)?;
        let halved = self.halved.get_mut(index)?;
        let low = u32::from(*WIDE.get(index)?) == offset;

        if low || halved.is_none() {
            *sum = sum.saturating_add(counted(registers, *WIDE.get(index)?));
            *halved = Some(*sum);
        }
        let value = (*halved)?;
        if low {
            return Some(value as u32);
        }
        // What was counted since the lower half was read stays for the next time.
        *sum = sum.saturating_sub(value);
        *halved = None;
        Some((value >> 32) as u32)
    }
}

/// Whether the trapped page of these registers has `offset`.
pub(crate) const fn page_has(offset: u32) -> bool {
    offset & !0xfff == Register::STATISTICS.0
}

/// Reads the pair at `offset`. The upper half comes last: reading it clears both.
fn counted(registers: &mut dyn Registers, offset: u16) -> u64 {
    let low = registers.read32(offset.into());
    let high = registers.read32(u32::from(offset) | 4);

    u64::from(high) << 32 | u64::from(low)
}
