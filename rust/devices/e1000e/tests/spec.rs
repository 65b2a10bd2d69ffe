// SPDX-License-Identifier: GPL-2.0

//! Numbers of the 82574's data sheet, written down for the tests a second time: the model and the
//! guest's driver know nothing of the crate's own tables.

#![allow(dead_code)]

pub const CTRL: u32 = 0x0000;
pub const CTRL_GIO_MASTER_DISABLE: u32 = 0x0000_0004;
/// Reserved, and 1 always.
pub const CTRL_ONE: u32 = 0x0000_0008;
pub const CTRL_SLU: u32 = 0x0000_0040;
pub const CTRL_RST: u32 = 0x0400_0000;
pub const CTRL_PHY_RST: u32 = 0x8000_0000;
pub const STATUS: u32 = 0x0008;
pub const STATUS_FD: u32 = 0x0000_0001;
pub const STATUS_LU: u32 = 0x0000_0002;
pub const STATUS_TXOFF: u32 = 0x0000_0010;
pub const STATUS_GIO_MASTER_ENABLE: u32 = 0x0008_0000;
pub const EECD: u32 = 0x0010;
pub const EECD_PRESENT: u32 = 0x0000_0100;
pub const EECD_AUTO_READ_DONE: u32 = 0x0000_0200;
pub const EERD: u32 = 0x0014;
pub const CTRL_EXT: u32 = 0x0018;
pub const FLA: u32 = 0x001c;
pub const MDIC: u32 = 0x0020;
pub const MDIC_READY: u32 = 0x1000_0000;
pub const MDIC_ERROR: u32 = 0x4000_0000;
pub const EEWR: u32 = 0x102c;
pub const FLSWCTL: u32 = 0x1030;
pub const FLSWDATA: u32 = 0x1034;
pub const LEDCTL: u32 = 0x0e00;
pub const EXTCNF_CTRL: u32 = 0x0f00;
pub const EXTCNF_MDIO_SOFTWARE: u32 = 0x0000_0020;
pub const PBA: u32 = 0x1000;
pub const SWSM: u32 = 0x5b50;
pub const FWSM: u32 = 0x5b54;

pub const ICR: u32 = 0x00c0;
pub const ITR: u32 = 0x00c4;
pub const ICS: u32 = 0x00c8;
pub const IMS: u32 = 0x00d0;
pub const IMC: u32 = 0x00d8;
pub const EIAC: u32 = 0x00dc;
pub const IAM: u32 = 0x00e0;
pub const IVAR: u32 = 0x00e4;
pub const CAUSE_TXDW: u32 = 0x0000_0001;
pub const CAUSE_LSC: u32 = 0x0000_0004;
pub const CAUSE_RXT0: u32 = 0x0000_0080;
pub const CAUSE_MDAC: u32 = 0x0000_0200;
pub const CAUSE_RXQ0: u32 = 0x0010_0000;
pub const CAUSE_TXQ0: u32 = 0x0040_0000;
pub const INT_ASSERTED: u32 = 0x8000_0000;

pub const RCTL: u32 = 0x0100;
pub const RCTL_EN: u32 = 0x0000_0002;
pub const RCTL_LBM_MAC: u32 = 0x0000_0040;
pub const RCTL_DTYP_SPLIT: u32 = 0x0000_0400;
pub const RCTL_BAM: u32 = 0x0000_8000;
pub const RCTL_BSEX: u32 = 0x0200_0000;
pub const PSRCTL: u32 = 0x2170;
pub const RFCTL: u32 = 0x5008;
pub const RFCTL_EXTENDED: u32 = 0x0000_8000;
pub const RDFPC: u32 = 0x2430;
pub const RDBAL: u32 = 0x2800;
pub const RDBAH: u32 = 0x2804;
pub const RDLEN: u32 = 0x2808;
pub const RDH: u32 = 0x2810;
pub const RDT: u32 = 0x2818;
pub const RDTR: u32 = 0x2820;
pub const RXDCTL: u32 = 0x2828;
pub const MTA: u32 = 0x5200;
pub const RAL: u32 = 0x5400;
pub const RAH: u32 = 0x5404;
pub const VFTA: u32 = 0x5600;
pub const MRQC: u32 = 0x5818;
pub const RETA: u32 = 0x5c00;
pub const RSSRK: u32 = 0x5c80;

pub const TCTL: u32 = 0x0400;
pub const TCTL_EN: u32 = 0x0000_0002;
pub const TIPG: u32 = 0x0410;
pub const TDFPC: u32 = 0x3430;
pub const TDBAL: u32 = 0x3800;
pub const TDBAH: u32 = 0x3804;
pub const TDLEN: u32 = 0x3808;
pub const TDH: u32 = 0x3810;
pub const TDT: u32 = 0x3818;
pub const TIDV: u32 = 0x3820;
pub const TXDCTL: u32 = 0x3828;
pub const TARC: u32 = 0x3840;
pub const TARC_ENABLE: u32 = 0x0000_0400;
pub const FLUSH: u32 = 0x8000_0000;
pub const QUEUE: u32 = 0x100;

pub const STATISTICS: u32 = 0x4000;
pub const STATISTICS_END: u32 = 0x412c;
pub const MPC: u32 = 0x4010;
pub const GPRC: u32 = 0x4074;
pub const GPTC: u32 = 0x4080;
pub const GORCL: u32 = 0x4088;
pub const GOTCL: u32 = 0x4090;
pub const TORL: u32 = 0x40c0;
pub const TOTL: u32 = 0x40c8;

pub const RXSTMPH: u32 = 0xb628;
pub const TXSTMPH: u32 = 0xb61c;

/// Bits of a receive descriptor's status, in the last word of a legacy one and in the first of the
/// second half of the others.
pub const RX_DONE: u8 = 0x01;
pub const RX_END_OF_PACKET: u8 = 0x02;

/// Bits of the third word of a transmit descriptor.
pub const TX_END_OF_PACKET: u32 = 0x0100_0000;
pub const TX_REPORT_STATUS: u32 = 0x0800_0000;
pub const TX_EXTENDED: u32 = 0x2000_0000;
pub const TX_DATA: u32 = 0x0010_0000;
pub const TX_DONE: u8 = 0x01;

/// Bytes of the register space.
pub const REGISTER_SPACE: u32 = 0x2_0000;
pub const PAGE: u64 = 4096;
