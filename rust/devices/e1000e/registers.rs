// SPDX-License-Identifier: GPL-2.0

//! The registers of the 82574, with the names of the data sheet.
//!
//! Mirrors the Intel 82574 GbE Controller Family Datasheet (317694, revision 3.4), section 10.2
//! "Register Descriptions": general registers 10.2.2, PCIe 10.2.3, interrupts 10.2.4, receive
//! 10.2.5, transmit 10.2.6, statistics 10.2.7 and the sections behind for management, wake-up,
//! time synchronization and diagnostics.

/// Byte offset of a register in BAR 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(pub(crate) u32);

/// Number of receive queues, and of transmit queues.
pub const QUEUES: usize = 2;

impl Register {
    /// Device Control. Section 10.2.2.1.
    pub(crate) const CTRL: Self = Self(0x0000);
    /// Device Status. Section 10.2.2.2.
    pub(crate) const STATUS: Self = Self(0x0008);
    /// EEPROM/Flash Control.
    pub(crate) const EECD: Self = Self(0x0010);
    /// EEPROM Read. A write starts an operation.
    pub(crate) const EERD: Self = Self(0x0014);
    /// Extended Device Control.
    pub(crate) const CTRL_EXT: Self = Self(0x0018);
    /// MDI Control. A write starts an operation. Section 10.2.2.7.
    pub(crate) const MDIC: Self = Self(0x0020);
    /// Flow Control Address Low.
    pub(crate) const FCAL: Self = Self(0x0028);
    /// Flow Control Address High.
    pub(crate) const FCAH: Self = Self(0x002c);
    /// Flow Control Type.
    pub(crate) const FCT: Self = Self(0x0030);
    /// VLAN Ether Type.
    pub(crate) const VET: Self = Self(0x0038);
    /// Flow Control Transmit Timer Value.
    pub(crate) const FCTTV: Self = Self(0x0170);
    /// Flow Control Refresh Threshold Value.
    pub(crate) const FCRTV: Self = Self(0x5f40);
    /// LED Control.
    pub(crate) const LEDCTL: Self = Self(0x0e00);
    /// Extended Configuration Control: who owns MDIO.
    pub(crate) const EXTCNF_CTRL: Self = Self(0x0f00);
    /// PHY OEM Bits.
    pub(crate) const POEMB: Self = Self(0x0f10);
    /// Packet Buffer Allocation.
    pub(crate) const PBA: Self = Self(0x1000);
    /// PCIe Control.
    pub(crate) const GCR: Self = Self(0x5b00);
    /// PCIe Control 2.
    pub(crate) const GCR2: Self = Self(0x5b64);

    /// Interrupt Cause Read. A read clears causes. Section 10.2.4.1.
    pub(crate) const ICR: Self = Self(0x00c0);
    /// Interrupt Throttling.
    pub(crate) const ITR: Self = Self(0x00c4);
    /// Extended Interrupt Throttling of MSI-X vector 0; there are five.
    pub(crate) const EITR: Self = Self(0x00e8);
    /// Interrupt Cause Set. Write only.
    pub(crate) const ICS: Self = Self(0x00c8);
    /// Interrupt Mask Set/Read.
    pub(crate) const IMS: Self = Self(0x00d0);
    /// Interrupt Mask Clear. Write only.
    pub(crate) const IMC: Self = Self(0x00d8);
    /// Extended Interrupt Auto Clear.
    pub(crate) const EIAC: Self = Self(0x00dc);
    /// Interrupt Acknowledge Auto Mask.
    pub(crate) const IAM: Self = Self(0x00e0);
    /// Interrupt Vector Allocation.
    pub(crate) const IVAR: Self = Self(0x00e4);

    /// Receive Control. Section 10.2.5.1.
    pub(crate) const RCTL: Self = Self(0x0100);
    /// Early Receive Threshold.
    pub(crate) const ERT: Self = Self(0x2008);
    /// Flow Control Receive Threshold Low.
    pub(crate) const FCRTL: Self = Self(0x2160);
    /// Flow Control Receive Threshold High.
    pub(crate) const FCRTH: Self = Self(0x2168);
    /// Packet Split Receive Control.
    pub(crate) const PSRCTL: Self = Self(0x2170);
    /// Receive Data FIFO Packet Count.
    pub(crate) const RDFPC: Self = Self(0x2430);
    /// Receive Descriptor Base Address Low of queue 0.
    pub(crate) const RDBAL: Self = Self(0x2800);
    /// Receive Descriptor Base Address High of queue 0.
    pub(crate) const RDBAH: Self = Self(0x2804);
    /// Receive Descriptor Length of queue 0.
    pub(crate) const RDLEN: Self = Self(0x2808);
    /// Receive Descriptor Head of queue 0. Written only between a reset and RCTL.EN.
    pub(crate) const RDH: Self = Self(0x2810);
    /// Receive Descriptor Tail of queue 0.
    pub(crate) const RDT: Self = Self(0x2818);
    /// Receive Interrupt Packet Delay Timer.
    pub(crate) const RDTR: Self = Self(0x2820);
    /// Receive Descriptor Control of queue 0.
    pub(crate) const RXDCTL: Self = Self(0x2828);
    /// Receive Interrupt Absolute Delay Timer.
    pub(crate) const RADV: Self = Self(0x282c);
    /// Receive Small Packet Detect Interrupt.
    pub(crate) const RSRPD: Self = Self(0x2c00);
    /// Receive ACK Interrupt Delay.
    pub(crate) const RAID: Self = Self(0x2c08);
    /// Receive Checksum Control.
    pub(crate) const RXCSUM: Self = Self(0x5000);
    /// Receive Filter Control.
    pub(crate) const RFCTL: Self = Self(0x5008);
    /// Multicast Table Array; 128 words.
    pub(crate) const MTA: Self = Self(0x5200);
    /// Receive Address Low of entry 0; entries are 8 bytes apart. Section 10.2.5.22.
    pub(crate) const RAL: Self = Self(0x5400);
    /// Receive Address High of entry 0. Section 10.2.5.23.
    pub(crate) const RAH: Self = Self(0x5404);
    /// VLAN Filter Table Array; 128 words.
    pub(crate) const VFTA: Self = Self(0x5600);
    /// Multiple Receive Queues Command.
    pub(crate) const MRQC: Self = Self(0x5818);
    /// Redirection Table; 32 words.
    pub(crate) const RETA: Self = Self(0x5c00);
    /// RSS Random Key; 10 words.
    pub(crate) const RSSRK: Self = Self(0x5c80);

    /// Transmit Control. Section 10.2.6.1.
    pub(crate) const TCTL: Self = Self(0x0400);
    /// Transmit Inter-Packet Gap.
    pub(crate) const TIPG: Self = Self(0x0410);
    /// Adaptive IFS Throttle.
    pub(crate) const AIT: Self = Self(0x0458);
    /// Transmit Data FIFO Packet Count.
    pub(crate) const TDFPC: Self = Self(0x3430);
    /// Transmit Descriptor Base Address Low of queue 0.
    pub(crate) const TDBAL: Self = Self(0x3800);
    /// Transmit Descriptor Base Address High of queue 0.
    pub(crate) const TDBAH: Self = Self(0x3804);
    /// Transmit Descriptor Length of queue 0.
    pub(crate) const TDLEN: Self = Self(0x3808);
    /// Transmit Descriptor Head of queue 0. Written only between a reset and TCTL.EN.
    pub(crate) const TDH: Self = Self(0x3810);
    /// Transmit Descriptor Tail of queue 0.
    pub(crate) const TDT: Self = Self(0x3818);
    /// Transmit Interrupt Delay Value.
    pub(crate) const TIDV: Self = Self(0x3820);
    /// Transmit Descriptor Control of queue 0.
    pub(crate) const TXDCTL: Self = Self(0x3828);
    /// Transmit Absolute Interrupt Delay Value.
    pub(crate) const TADV: Self = Self(0x382c);
    /// Transmit Arbitration Count of queue 0.
    pub(crate) const TARC: Self = Self(0x3840);

    /// The first statistics register, CRCERRS. Section 10.2.7.
    pub(crate) const STATISTICS: Self = Self(0x4000);

    /// Wake Up Control.
    pub(crate) const WUC: Self = Self(0x5800);
    /// Wake Up Filter Control.
    pub(crate) const WUFC: Self = Self(0x5808);
    /// Management Control.
    pub(crate) const MANC: Self = Self(0x5820);
    /// IP Address Valid.
    pub(crate) const IPAV: Self = Self(0x5838);
    /// IPv4 Address Table; four entries, 8 bytes apart.
    pub(crate) const IP4AT: Self = Self(0x5840);
    /// Management Control to Host.
    pub(crate) const MANC2H: Self = Self(0x5860);
    /// IPv6 Address Table; four words.
    pub(crate) const IP6AT: Self = Self(0x5880);
    /// Flexible Filter Length Table; four entries, 8 bytes apart.
    pub(crate) const FFLT: Self = Self(0x5f00);
    /// Flexible Filter Mask Table; 128 entries, 8 bytes apart.
    pub(crate) const FFMT: Self = Self(0x9000);
    /// Flexible Filter Value Table; 128 entries, 8 bytes apart.
    pub(crate) const FFVT: Self = Self(0x9800);

    /// System Time Low.
    pub(crate) const SYSTIML: Self = Self(0xb600);
    /// System Time High.
    pub(crate) const SYSTIMH: Self = Self(0xb604);
    /// Time Increment.
    pub(crate) const TIMINCA: Self = Self(0xb608);
    /// Transmit Time Sync Control.
    pub(crate) const TSYNCTXCTL: Self = Self(0xb614);
    /// Receive Time Sync Control.
    pub(crate) const TSYNCRXCTL: Self = Self(0xb620);
    /// Receive Time Sync Message Type and EtherType.
    pub(crate) const RXMTRL: Self = Self(0xb634);
    /// Receive Time Sync UDP Port.
    pub(crate) const RXUDP: Self = Self(0xb638);

    /// Distance of the registers of queue 1 from those of queue 0.
    pub(crate) const QUEUE_STRIDE: u32 = 0x100;

    /// The register of the same name of queue `queue`, which is 0 or 1.
    pub(crate) const fn of_queue(self, queue: usize) -> Self {
        Self(if queue == 0 {
            self.0
        } else {
            self.0.wrapping_add(Self::QUEUE_STRIDE)
        })
    }
}

/// Bits of CTRL.
pub(crate) mod ctrl {
    /// Full duplex.
    pub(crate) const FD: u32 = 1 << 0;
    /// GIO Master Disable: no new requests on PCIe.
    pub(crate) const GIO_MASTER_DISABLE: u32 = 1 << 2;
    /// Auto-Speed Detection Enable.
    pub(crate) const ASDE: u32 = 1 << 5;
    /// Set Link Up.
    pub(crate) const SLU: u32 = 1 << 6;
    /// Speed selection.
    pub(crate) const SPEED: u32 = 3 << 8;
    /// Force Speed.
    pub(crate) const FRCSPD: u32 = 1 << 11;
    /// Force Duplex.
    pub(crate) const FRCDPLX: u32 = 1 << 12;
    /// D3cold wake-up capability is advertised.
    pub(crate) const ADVD3WUC: u32 = 1 << 20;
    /// PHY power management.
    pub(crate) const EN_PHY_PWR_MGMT: u32 = 1 << 21;
    /// Device Reset. Clears itself.
    pub(crate) const RST: u32 = 1 << 26;
    /// Receive Flow Control Enable.
    pub(crate) const RFCE: u32 = 1 << 27;
    /// Transmit Flow Control Enable.
    pub(crate) const TFCE: u32 = 1 << 28;
    /// VLAN Mode Enable.
    pub(crate) const VME: u32 = 1 << 30;
    /// PHY Reset.
    pub(crate) const PHY_RST: u32 = 1 << 31;

    /// The bits that configure. Of the others, some start an operation and the rest is reserved.
    pub(crate) const CONFIGURATION: u32 = FD
        | GIO_MASTER_DISABLE
        | ASDE
        | SLU
        | SPEED
        | FRCSPD
        | FRCDPLX
        | ADVD3WUC
        | EN_PHY_PWR_MGMT
        | RFCE
        | TFCE
        | VME;
}

/// Bits of STATUS.
pub(crate) mod status {
    /// Link Up.
    pub(crate) const LU: u32 = 1 << 1;
    /// GIO Master Enable Status: requests on PCIe are outstanding, or may be made.
    pub(crate) const GIO_MASTER_ENABLE: u32 = 1 << 19;
}

/// Bits of EECD.
pub(crate) mod eecd {
    /// Auto-read of the EEPROM is done.
    pub(crate) const AUTO_RD: u32 = 1 << 9;
}

/// Bits of EERD.
pub(crate) mod eerd {
    /// Start a read. Clears itself.
    pub(crate) const START: u32 = 1 << 0;
    /// The read is done.
    pub(crate) const DONE: u32 = 1 << 1;
    /// Address of the word.
    pub(crate) const ADDRESS: u32 = 0x3fff << 2;
}

/// Bits of MDIC.
pub(crate) mod mdic {
    /// Position of the register's address.
    pub(crate) const REGISTER_SHIFT: u32 = 16;
    /// The register's address.
    pub(crate) const REGISTER: u32 = 0x1f << REGISTER_SHIFT;
    /// The address of the controller's own PHY.
    pub(crate) const PHY: u32 = 1 << 21;
    /// Write a register of the PHY.
    pub(crate) const WRITE: u32 = 1 << 26;
    /// Read a register of the PHY.
    pub(crate) const READ: u32 = 2 << 26;
    /// The operation is done.
    pub(crate) const READY: u32 = 1 << 28;
    /// The operation failed.
    pub(crate) const ERROR: u32 = 1 << 30;
}

/// Bits of EXTCNF_CTRL.
pub(crate) mod extcnf {
    /// MDIO belongs to software.
    pub(crate) const MDIO_SW_OWNERSHIP: u32 = 1 << 5;
}

/// Bits of ICR, ICS, IMS, IMC and IAM.
pub(crate) mod cause {
    /// Transmit descriptor written back.
    pub(crate) const TXDW: u32 = 1 << 0;
    /// Transmit queue empty.
    pub(crate) const TXQE: u32 = 1 << 1;
    /// Link status change.
    pub(crate) const LSC: u32 = 1 << 2;
    /// Receive descriptor minimum threshold.
    pub(crate) const RXDMT0: u32 = 1 << 4;
    /// Receiver timer.
    pub(crate) const RXT0: u32 = 1 << 7;
    /// Receive queues 0 and 1, transmit queues 0 and 1.
    pub(crate) const QUEUES: u32 = 0x00f0_0000;
    /// Any cause that has no MSI-X vector of its own.
    pub(crate) const OTHER: u32 = 1 << 24;

    /// The bits that are causes. Bit 31 tells that the interrupt is asserted.
    pub(crate) const ALL: u32 = 0x01f7_92df;

    /// Causes whose handlers look at rings and link. Raised after a migration if the guest has enabled
    /// them: a look too many does no harm, an interrupt that was lost on the way does.
    pub(crate) const LOOK: u32 = TXDW | TXQE | LSC | RXDMT0 | RXT0 | QUEUES | OTHER;
}

/// Bits of RCTL.
pub(crate) mod rctl {
    /// Receiver enable.
    pub(crate) const EN: u32 = 1 << 1;
    /// Position of the loopback mode.
    pub(crate) const LBM_SHIFT: u32 = 6;
    /// Loopback mode.
    pub(crate) const LBM: u32 = 3 << LBM_SHIFT;
    /// Position of the descriptor type.
    pub(crate) const DTYP_SHIFT: u32 = 10;
    /// Descriptor type: 0 legacy or extended, 1 packet split.
    pub(crate) const DTYP: u32 = 3 << DTYP_SHIFT;
    /// Position of the buffer size.
    pub(crate) const BSIZE_SHIFT: u32 = 16;
    /// Buffer size.
    pub(crate) const BSIZE: u32 = 3 << BSIZE_SHIFT;
    /// Buffer size extension: the size is 16 times as large.
    pub(crate) const BSEX: u32 = 1 << 25;
    /// Position of the flexible buffer size.
    pub(crate) const FLXBUF_SHIFT: u32 = 27;
    /// Flexible buffer size, in KiB; 0 leaves the size to BSIZE.
    pub(crate) const FLXBUF: u32 = 0xf << FLXBUF_SHIFT;
    /// The bits that the register has.
    pub(crate) const ALL: u32 = 0x7edf_bffe;
}

/// Bits of PSRCTL.
pub(crate) mod psrctl {
    /// Size of the header's buffer, in 128 bytes.
    pub(crate) const BSIZE0: u32 = 0x7f;
    /// Size of the first buffer of data, in KiB.
    pub(crate) const BSIZE1: u32 = 0x3f << 8;
}

/// Bits of TCTL.
pub(crate) mod tctl {
    /// Transmitter enable.
    pub(crate) const EN: u32 = 1 << 1;
    /// The bits that the register has, less SWXOFF, which sends a packet.
    pub(crate) const ALL: u32 = 0x7f3f_fffa;
}

/// Bits of TARC.
pub(crate) mod tarc {
    /// The queue takes part in the arbitration.
    pub(crate) const ENABLE: u32 = 1 << 10;
}

/// Bits of TIDV and RDTR.
pub(crate) mod delay {
    /// Flush Partial Descriptor Block: write descriptors back now. Clears itself.
    pub(crate) const FPD: u32 = 1 << 31;
    /// The delay.
    pub(crate) const ALL: u32 = 0xffff;
}
