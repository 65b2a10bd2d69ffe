// SPDX-License-Identifier: GPL-2.0

//! The registers that a state has, with the bits that each may have.
//!
//! One table drives saving, checking and applying: a register that is not here is in no state, and a
//! bit that is not in its mask is refused in a stream and never written from one. No register here
//! changes when it is read, and no bit in a mask starts an operation.

use crate::registers::{
    cause,
    ctrl,
    delay,
    rctl,
    tctl,
    Register,
    QUEUES, //
};

/// Who writes a register when a state is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The table, in its order, while receiver and transmitter are disabled.
    Plain,
    /// As [`Self::Plain`]. CTRL.RST does not promise a value, so a reset writes zeros as well.
    Cleared,
    /// A step of its own in the sequence.
    Step,
}

/// A register, or several of the same kind.
pub(crate) struct Entry {
    /// The data sheet's name.
    pub(crate) name: &'static str,
    /// The first register.
    pub(crate) first: Register,
    /// How many registers there are.
    pub(crate) count: usize,
    /// Bytes from one register to the next.
    pub(crate) stride: u32,
    /// The bits that a state may have.
    pub(crate) mask: u32,
    /// Bits that start an operation and are written as 0. All others that are not in the mask keep the
    /// value that the function has.
    pub(crate) starts: u32,
    /// Who writes it.
    pub(crate) order: Order,
}

impl Entry {
    /// The registers of the entry.
    pub(crate) fn registers(&self) -> impl Iterator<Item = Register> + '_ {
        (0..self.count).map(|index| self.at(index))
    }

    /// The register with number `index`.
    pub(crate) const fn at(&self, index: usize) -> Register {
        // The largest is 0xbfff.
        Register(
            self.first
                .0
                .wrapping_add(self.stride.wrapping_mul(index as u32)),
        )
    }

    const fn step(mut self) -> Self {
        self.order = Order::Step;
        self
    }

    const fn cleared(mut self) -> Self {
        self.order = Order::Cleared;
        self
    }

    const fn starts(mut self, starts: u32) -> Self {
        self.starts = starts;
        self
    }
}

/// One register.
const fn one(name: &'static str, first: Register, mask: u32) -> Entry {
    array(name, first, 1, 4, mask)
}

/// One register in each queue.
const fn queues(name: &'static str, first: Register, mask: u32) -> Entry {
    array(name, first, QUEUES, Register::QUEUE_STRIDE, mask)
}

/// Several registers, `stride` bytes apart.
const fn array(name: &'static str, first: Register, count: usize, stride: u32, mask: u32) -> Entry {
    Entry {
        name,
        first,
        count,
        stride,
        mask,
        starts: 0,
        order: Order::Plain,
    }
}

/// Bits of a ring's base address that are 0.
pub(crate) const BASE_ALIGNMENT: u32 = 0xf;
/// Bits that a ring's length has: a multiple of 128 bytes, less than 1 MiB.
pub(crate) const LENGTH: u32 = 0x000f_ff80;

const ALL: u32 = u32::MAX;

/// The registers, in the order of the state and of writing.
///
/// RAL is before RAH, whose AV bit makes the entry valid, and SYSTIM before TIMINCA, which starts the
/// clock.
pub(crate) static TABLE: &[Entry] = &[
    one("CTRL", Register::CTRL, ctrl::CONFIGURATION).step(),
    // SPD_BYPS, RO_DIS, DMA_DYN_CLK_EN, PHYPDEN, LINK_MODE, EIAME, IAME, DRV_LOAD, PBA support. ASDCHK
    // and EE_RST start operations.
    one("CTRL_EXT", Register::CTRL_EXT, 0x99da_8000).starts(3 << 12),
    one("FCAL", Register::FCAL, ALL),
    one("FCAH", Register::FCAH, 0xffff),
    one("FCT", Register::FCT, 0xffff),
    one("VET", Register::VET, 0xffff),
    one("FCTTV", Register::FCTTV, 0xffff),
    one("FCRTV", Register::FCRTV, 0xffff),
    one("LEDCTL", Register::LEDCTL, 0xcfcf_cfef),
    // Low-power link-up in D0a and elsewhere, gigabit off.
    one("POEMB", Register::POEMB, 0x4e),
    one("PBA", Register::PBA, 0x003f_003f),
    // No-snoop bits, and two that an erratum and a driver set.
    one("GCR", Register::GCR, 0x0840_003f),
    one("GCR2", Register::GCR2, 1),
    one("ITR", Register::ITR, 0xffff).cleared(),
    array("EITR", Register::EITR, 5, 4, 0xffff).cleared(),
    one("EIAC", Register::EIAC, 0x01f0_0000),
    one("IAM", Register::IAM, ALL),
    one("IVAR", Register::IVAR, 0x800f_ffff),
    one("IMS", Register::IMS, cause::ALL).step(),
    one("RCTL", Register::RCTL, rctl::ALL).step(),
    one("ERT", Register::ERT, 0x3fff),
    one("FCRTL", Register::FCRTL, 0x8000_fff8),
    one("FCRTH", Register::FCRTH, 0x0000_fff8),
    one("PSRCTL", Register::PSRCTL, 0x3f3f_3f7f),
    one("RDTR", Register::RDTR, delay::ALL).starts(delay::FPD),
    one("RADV", Register::RADV, 0xffff),
    queues("RXDCTL", Register::RXDCTL, 0x013f_3f3f),
    one("RSRPD", Register::RSRPD, 0x0fff),
    one("RAID", Register::RAID, 0xffff),
    one("RXCSUM", Register::RXCSUM, 0x3bff),
    one("RFCTL", Register::RFCTL, 0x0003_ffff),
    array("MTA", Register::MTA, 128, 4, ALL).cleared(),
    // Entry 15 belongs to the manageability firmware of the card. Entry 0 is the card's own after a reset.
    array("RAL", Register::RAL, RECEIVE_ADDRESSES, 8, ALL),
    array("RAH", Register::RAH, RECEIVE_ADDRESSES, 8, 0x8003_ffff),
    array("VFTA", Register::VFTA, 128, 4, ALL).cleared(),
    one("MRQC", Register::MRQC, 0xffff_0003),
    array("RETA", Register::RETA, 32, 4, ALL).cleared(),
    array("RSSRK", Register::RSSRK, 10, 4, ALL).cleared(),
    one("TCTL", Register::TCTL, tctl::ALL)
        .starts(1 << 22)
        .step(),
    one("TIPG", Register::TIPG, 0x3fff_ffff),
    one("AIT", Register::AIT, 0xffff),
    one("TIDV", Register::TIDV, delay::ALL).starts(delay::FPD),
    one("TADV", Register::TADV, 0xffff),
    queues("TXDCTL", Register::TXDCTL, 0xff7f_3f3f),
    queues("TARC", Register::TARC, 0x7fff_ffff),
    queues("RDBAL", Register::RDBAL, !BASE_ALIGNMENT).step(),
    queues("RDBAH", Register::RDBAH, ALL).step(),
    queues("RDLEN", Register::RDLEN, LENGTH).step(),
    queues("RDH", Register::RDH, 0xffff).step(),
    queues("RDT", Register::RDT, 0xffff).step(),
    queues("TDBAL", Register::TDBAL, !BASE_ALIGNMENT).step(),
    queues("TDBAH", Register::TDBAH, ALL).step(),
    queues("TDLEN", Register::TDLEN, LENGTH).step(),
    queues("TDH", Register::TDH, 0xffff).step(),
    queues("TDT", Register::TDT, 0xffff).step(),
    // APME, PME_EN, APMPME, PHY_WAKE. PME_Status is cleared by writing 1.
    one("WUC", Register::WUC, 0x010b).starts(1 << 2),
    one("WUFC", Register::WUFC, 0x000f_80ff),
    // ARP request filtering and packets to the host; the rest is the firmware's.
    one("MANC", Register::MANC, 0x0020_2000),
    one("MANC2H", Register::MANC2H, 0xff),
    one("IPAV", Register::IPAV, 0x0001_000f),
    array("IP4AT", Register::IP4AT, 4, 8, ALL).cleared(),
    array("IP6AT", Register::IP6AT, 4, 4, ALL).cleared(),
    array("FFLT", Register::FFLT, 4, 8, 0x07ff).cleared(),
    array("FFMT", Register::FFMT, 128, 8, 0xf).cleared(),
    array("FFVT", Register::FFVT, 128, 8, ALL).cleared(),
    one("SYSTIML", Register::SYSTIML, ALL),
    one("SYSTIMH", Register::SYSTIMH, ALL),
    one("TIMINCA", Register::TIMINCA, ALL),
    one("TSYNCTXCTL", Register::TSYNCTXCTL, 0x10),
    one("TSYNCRXCTL", Register::TSYNCRXCTL, 0x1e),
    one("RXMTRL", Register::RXMTRL, ALL),
    one("RXUDP", Register::RXUDP, 0xffff),
];

/// Entries of the receive address table that belong to the host's driver.
pub(crate) const RECEIVE_ADDRESSES: usize = 15;

/// Number of words that the table describes.
#[expect(clippy::indexing_slicing)] // A constant.
pub(crate) const WORDS: usize = {
    let mut words = 0;
    let mut entry = 0;
    while entry < TABLE.len() {
        words += TABLE[entry].count;
        entry += 1;
    }
    words
};

/// The register at `OFFSET`, which the table must have for the build to succeed.
pub(crate) struct Word<const OFFSET: u32>;

impl<const OFFSET: u32> Word<OFFSET> {
    /// The position of the register among the words.
    #[expect(clippy::indexing_slicing)] // A constant.
    #[allow(clippy::expect_used)] // Of clippy's versions not all see a constant here.
    pub(crate) const AT: usize = {
        let mut words = 0;
        let mut found = None;
        let mut entry = 0;
        while entry < TABLE.len() {
            let mut index = 0;
            while index < TABLE[entry].count {
                if TABLE[entry].at(index).0 == OFFSET {
                    found = Some(words);
                }
                words += 1;
                index += 1;
            }
            entry += 1;
        }
        found.expect("the table has the register")
    };
}
