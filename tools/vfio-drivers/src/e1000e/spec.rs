// SPDX-License-Identifier: GPL-2.0

//! The registers that the driver uses, section 10.2 of the data sheet.

/// Offsets of registers in BAR 0.
pub mod register {
    /// Device Control.
    pub const CTRL: u64 = 0x0000;
    /// Device Status.
    pub const STATUS: u64 = 0x0008;
    /// EEPROM/Flash Control.
    pub const EECD: u64 = 0x0010;
    /// VLAN Ether Type.
    pub const VET: u64 = 0x0038;
    /// Interrupt Cause Read. A read clears it.
    pub const ICR: u64 = 0x00c0;
    /// Interrupt Throttling.
    pub const ITR: u64 = 0x00c4;
    /// Interrupt Cause Set.
    pub const ICS: u64 = 0x00c8;
    /// Interrupt Mask Set and Read.
    pub const IMS: u64 = 0x00d0;
    /// Interrupt Mask Clear.
    pub const IMC: u64 = 0x00d8;
    /// Interrupt Vector Allocation of MSI-X.
    pub const IVAR: u64 = 0x00e4;
    /// Extended Interrupt Throttling, of five vectors.
    pub const EITR: u64 = 0x00e8;
    /// Receive Control.
    pub const RCTL: u64 = 0x0100;
    /// Flow Control Transmit Timer Value.
    pub const FCTTV: u64 = 0x0170;
    /// Transmit Control.
    pub const TCTL: u64 = 0x0400;
    /// Transmit Inter-Packet Gap.
    pub const TIPG: u64 = 0x0410;
    /// Adaptive IFS Throttle.
    pub const AIT: u64 = 0x0458;
    /// Flow Control Receive Threshold Low.
    pub const FCRTL: u64 = 0x2160;
    /// Flow Control Receive Threshold High.
    pub const FCRTH: u64 = 0x2168;
    /// Receive Descriptor Base Address Low of queue 0; the others of queue 0 follow, and those of queue 1 are
    /// [`QUEUE`] bytes on.
    pub const RDBAL: u64 = 0x2800;
    /// Receive Descriptor Base Address High.
    pub const RDBAH: u64 = 0x2804;
    /// Receive Descriptor Length.
    pub const RDLEN: u64 = 0x2808;
    /// Receive Descriptor Head.
    pub const RDH: u64 = 0x2810;
    /// Receive Descriptor Tail.
    pub const RDT: u64 = 0x2818;
    /// Receive Interrupt Delay.
    pub const RDTR: u64 = 0x2820;
    /// Receive Interrupt Absolute Delay.
    pub const RADV: u64 = 0x282c;
    /// Transmit Descriptor Base Address Low.
    pub const TDBAL: u64 = 0x3800;
    /// Transmit Descriptor Base Address High.
    pub const TDBAH: u64 = 0x3804;
    /// Transmit Descriptor Length.
    pub const TDLEN: u64 = 0x3808;
    /// Transmit Descriptor Head.
    pub const TDH: u64 = 0x3810;
    /// Transmit Descriptor Tail.
    pub const TDT: u64 = 0x3818;
    /// Transmit Interrupt Absolute Delay.
    pub const TADV: u64 = 0x382c;
    /// The first statistics register, CRCERRS. A read clears each of them.
    pub const STATISTICS: u64 = 0x4000;
    /// Good Packets Received.
    pub const GPRC: u64 = 0x4074;
    /// Good Packets Transmitted.
    pub const GPTC: u64 = 0x4080;
    /// The last statistics register, ICRXDMTC.
    pub const STATISTICS_END: u64 = 0x4124;
    /// Receive Checksum Control.
    pub const RXCSUM: u64 = 0x5000;
    /// Multicast Table Array, 128 words.
    pub const MTA: u64 = 0x5200;
    /// Receive Address Low of entry 0; the entries are 8 bytes apart.
    pub const RAL: u64 = 0x5400;
    /// Receive Address High of entry 0.
    pub const RAH: u64 = 0x5404;
    /// VLAN Filter Table Array, 128 words.
    pub const VFTA: u64 = 0x5600;
    /// Redirection Table, 32 words.
    pub const RETA: u64 = 0x5c00;
    /// RSS Random Key, 10 words.
    pub const RSSRK: u64 = 0x5c80;

    /// From a register of queue 0 to that of queue 1.
    pub const QUEUE: u64 = 0x100;
}

/// Bits of ICR, ICS, IMS and IMC.
pub mod cause {
    /// Link Status Change.
    pub const LSC: u32 = 1 << 2;
    /// Receiver Timer: a frame was received.
    pub const RXT0: u32 = 1 << 7;
    /// Small Receive Packet Detected.
    pub const SRPD: u32 = 1 << 16;
    /// Receive Queue 0, with MSI-X.
    pub const RXQ0: u32 = 1 << 20;
    /// Receive ACK Frame Detected.
    pub const ACK: u32 = 1 << 17;
}

pub(super) const CTRL_FULL_DUPLEX: u32 = 1 << 0;
/// CTRL: the function makes no request.
pub const CTRL_MASTER_DISABLE: u32 = 1 << 2;
pub(super) const CTRL_SET_LINK_UP: u32 = 1 << 6;
pub(super) const CTRL_1000: u32 = 1 << 9;
pub(super) const CTRL_FORCE_SPEED: u32 = 1 << 11;
pub(super) const CTRL_FORCE_DUPLEX: u32 = 1 << 12;
pub(super) const CTRL_RESET: u32 = 1 << 26;

/// STATUS: the link is up.
pub const STATUS_LINK_UP: u32 = 1 << 1;
/// STATUS: the function may be a bus master, or is in the middle of a request.
pub(super) const STATUS_MASTER_ENABLE: u32 = 1 << 19;

/// EECD: the card has read its EEPROM.
pub(super) const EECD_AUTO_READ: u32 = 1 << 9;

/// RCTL: the receiver is on.
pub const RCTL_ENABLE: u32 = 1 << 1;
/// RCTL: what is sent is received, and the link is left alone.
pub(super) const RCTL_MAC_LOOPBACK: u32 = 1 << 6;
/// RCTL: broadcasts are received.
pub(super) const RCTL_BROADCAST: u32 = 1 << 15;
/// RCTL: the checksum is no part of what is received. Buffers have 2,048 bytes.
pub(super) const RCTL_STRIP_CRC: u32 = 1 << 26;

/// TCTL: the transmitter is on.
pub const TCTL_ENABLE: u32 = 1 << 1;
/// TCTL: short packets are padded.
pub(super) const TCTL_PAD: u32 = 1 << 3;
/// TCTL: collision threshold 15, collision distance 63.
pub(super) const TCTL_COLLISIONS: u32 = 0x0f << 4 | 0x3f << 12;

/// IVAR: receive queue 0 has the vector that is in the lowest three bits.
pub const IVAR_RECEIVE_0: u32 = 1 << 3;

/// RAH: the entry is valid.
pub(super) const RAH_VALID: u32 = 1 << 31;

/// A register with a value of which the bits of a mask read back as written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Word {
    /// The data sheet's name.
    pub name: &'static str,
    /// Its offset in BAR 0.
    pub offset: u64,
    /// The bits that a driver may choose freely while nothing is enabled.
    pub mask: u32,
}

const fn word(name: &'static str, offset: u64, mask: u32) -> Word {
    Word { name, offset, mask }
}

/// Registers that keep any value of these bits and read as zeros there after a reset of the device. Entry 0 of
/// MTA is not among them: the multicasts of a network with IPv6 fall there.
pub(super) const CLEARED: [Word; 11] = [
    word("MTA 5", register::MTA + 4 * 5, u32::MAX),
    word("MTA 127", register::MTA + 4 * 127, u32::MAX),
    word("VFTA 3", register::VFTA + 4 * 3, u32::MAX),
    word("VFTA 127", register::VFTA + 4 * 127, u32::MAX),
    word("RETA 0", register::RETA, 0x8080_8080),
    word("RETA 31", register::RETA + 4 * 31, 0x8080_8080),
    word("RSSRK 0", register::RSSRK, u32::MAX),
    word("RSSRK 9", register::RSSRK + 4 * 9, u32::MAX),
    word("FCTTV", register::FCTTV, 0xffff),
    word("RADV", register::RADV, 0xffff),
    word("TADV", register::TADV, 0xffff),
];

/// Registers that keep any value of these bits and have another default, or one that the data sheet leaves
/// open.
pub(super) const SET: [Word; 9] = [
    word("VET", register::VET, 0xffff),
    word("AIT", register::AIT, 0xffff),
    word("TIPG", register::TIPG, 0x3fff_ffff),
    word("FCRTL", register::FCRTL, 0x8000_fff8),
    word("FCRTH", register::FCRTH, 0x0000_fff8),
    word("ITR", register::ITR, 0xffff),
    word("EITR 1", register::EITR + 4, 0xffff),
    word("EITR 4", register::EITR + 16, 0xffff),
    word("RXCSUM", register::RXCSUM, 0x0000_03ff),
];
