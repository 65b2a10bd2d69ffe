// SPDX-License-Identifier: GPL-2.0

//! Data structures of Identify, section 5.15.2.

/// Bytes of each data structure.
pub(crate) const SIZE: usize = 4096;

/// Controller or Namespace Structure (`cns`): which data structure Identify asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cns {
    /// Identify Namespace.
    Namespace,
    /// Identify Controller.
    Controller,
    /// Active Namespace ID list.
    ActiveNamespaces,
    /// Namespace Identification Descriptor list.
    Descriptors,
}

impl Cns {
    /// Returns the data structure that dword 10 names, if it is one of these.
    pub(crate) fn decode(cdw10: u32) -> Option<Self> {
        match cdw10 & 0xff {
            0x00 => Some(Self::Namespace),
            0x01 => Some(Self::Controller),
            0x02 => Some(Self::ActiveNamespaces),
            0x03 => Some(Self::Descriptors),
            _ => None,
        }
    }
}

/// Identify Controller, figure 247.
pub(crate) mod controller {
    /// PCI Vendor ID.
    pub(crate) const VID: usize = 0;
    /// PCI Subsystem Vendor ID.
    pub(crate) const SSVID: usize = 2;
    /// Serial Number.
    pub(crate) const SN: usize = 4;
    /// Model Number.
    pub(crate) const MN: usize = 24;
    /// Firmware Revision.
    pub(crate) const FR: usize = 64;
    /// Maximum Data Transfer Size, as a binary logarithm in units of the smallest page.
    pub(crate) const MDTS: usize = 77;
    /// Version.
    pub(crate) const VER: usize = 80;
    /// RTD3 Resume Latency, in microseconds.
    pub(crate) const RTD3R: usize = 84;
    /// RTD3 Entry Latency, in microseconds.
    pub(crate) const RTD3E: usize = 88;
    /// Controller Type.
    pub(crate) const CNTRLTYPE: usize = 111;
    /// Optional Admin Command Support.
    pub(crate) const OACS: usize = 256;
    /// Abort Command Limit, less one.
    pub(crate) const ACL: usize = 258;
    /// Asynchronous Event Request Limit, less one.
    pub(crate) const AERL: usize = 259;
    /// Firmware Updates.
    pub(crate) const FRMW: usize = 260;
    /// Log Page Attributes.
    pub(crate) const LPA: usize = 261;
    /// Error Log Page Entries, less one.
    pub(crate) const ELPE: usize = 262;
    /// Warning Composite Temperature Threshold.
    pub(crate) const WCTEMP: usize = 266;
    /// Critical Composite Temperature Threshold.
    pub(crate) const CCTEMP: usize = 268;
    /// Submission Queue Entry Size.
    pub(crate) const SQES: usize = 512;
    /// Completion Queue Entry Size.
    pub(crate) const CQES: usize = 513;
    /// Number of Namespaces.
    pub(crate) const NN: usize = 516;
    /// Optional NVM Command Support.
    pub(crate) const ONCS: usize = 520;
    /// Volatile Write Cache.
    pub(crate) const VWC: usize = 525;
    /// Atomic Write Unit Normal, in logical blocks, less one.
    pub(crate) const AWUN: usize = 526;
    /// NVM Subsystem NVMe Qualified Name.
    pub(crate) const SUBNQN: usize = 768;

    /// Bytes of SN.
    pub(crate) const SN_SIZE: usize = 20;
    /// Bytes of MN.
    pub(crate) const MN_SIZE: usize = 40;
    /// Bytes of FR.
    pub(crate) const FR_SIZE: usize = 8;

    /// CNTRLTYPE: an I/O controller.
    pub(crate) const CNTRLTYPE_IO: u8 = 1;
    /// OACS: Format NVM.
    pub(crate) const OACS_FORMAT: u16 = 1 << 1;
    /// OACS: Doorbell Buffer Config.
    pub(crate) const OACS_DOORBELL_BUFFER: u16 = 1 << 8;
    /// FRMW: the first slot is read-only, and the only one.
    pub(crate) const FRMW_ONE_READ_ONLY_SLOT: u8 = 1 << 0 | 1 << 1;
    /// LPA: Commands Supported and Effects.
    pub(crate) const LPA_EFFECTS: u8 = 1 << 1;
    /// LPA: extended data, that is, parts of a page can be read.
    pub(crate) const LPA_EXTENDED_DATA: u8 = 1 << 2;
    /// ONCS: Compare.
    pub(crate) const ONCS_COMPARE: u16 = 1 << 0;
    /// ONCS: Write Uncorrectable.
    pub(crate) const ONCS_WRITE_UNCORRECTABLE: u16 = 1 << 1;
    /// ONCS: Dataset Management.
    pub(crate) const ONCS_DATASET_MANAGEMENT: u16 = 1 << 2;
    /// ONCS: Write Zeroes.
    pub(crate) const ONCS_WRITE_ZEROES: u16 = 1 << 3;
    /// ONCS: Save and Select fields of features.
    pub(crate) const ONCS_SAVE_SELECT: u16 = 1 << 4;
    /// AWUN, and NAWUN of a namespace: commands are always atomic with respect to each other.
    pub(crate) const ALWAYS_ATOMIC: u16 = u16::MAX;
    /// ONCS: Verify.
    pub(crate) const ONCS_VERIFY: u16 = 1 << 7;
    /// VWC: a volatile write cache is present.
    pub(crate) const VWC_PRESENT: u8 = 1 << 0;
    /// VWC: Flush can name all namespaces.
    pub(crate) const VWC_FLUSH_ALL: u8 = 3 << 1;

    /// SQES and CQES where entries have one size only.
    pub(crate) const fn entry_size(shift: u32) -> u8 {
        (shift << 4 | shift) as u8
    }
}

/// Identify Namespace, figure 245.
pub(crate) mod namespace {
    /// Namespace Size, in logical blocks.
    pub(crate) const NSZE: usize = 0;
    /// Namespace Capacity, in logical blocks.
    pub(crate) const NCAP: usize = 8;
    /// Namespace Utilization, in logical blocks.
    pub(crate) const NUSE: usize = 16;
    /// Namespace Features.
    pub(crate) const NSFEAT: usize = 24;
    /// Number of LBA Formats, less one.
    pub(crate) const NLBAF: usize = 25;
    /// Formatted LBA Size: the format in use.
    pub(crate) const FLBAS: usize = 26;
    /// Format Progress Indicator.
    pub(crate) const FPI: usize = 32;
    /// Deallocate Logical Block Features.
    pub(crate) const DLFEAT: usize = 33;
    /// Namespace Atomic Write Unit Normal, in logical blocks, less one.
    pub(crate) const NAWUN: usize = 34;
    /// Namespace Atomic Write Unit Power Fail, in logical blocks, less one.
    pub(crate) const NAWUPF: usize = 36;
    /// LBA Format 0.
    const LBAF0: usize = 128;
    /// Bytes of an LBA format.
    const LBAF_SIZE: usize = 4;
    /// LBA format: LBA Data Size, as a binary logarithm.
    const LBADS: usize = 2;

    /// LBA Data Size of an LBA format.
    pub(crate) const fn lbads(format: u8) -> usize {
        LBAF0 + format as usize * LBAF_SIZE + LBADS
    }

    /// FPI: the progress of a format is told, in percent that are left.
    pub(crate) const FPI_SUPPORTED: u8 = 1 << 7;

    /// NSFEAT: the namespace has atomic write units of its own (NSABP).
    pub(crate) const NSFEAT_ATOMIC: u8 = 1 << 1;
    /// DLFEAT: deallocated blocks read as zeros.
    pub(crate) const DLFEAT_READ_ZEROES: u8 = 1 << 0;
    /// DLFEAT: Write Zeroes can deallocate.
    pub(crate) const DLFEAT_WRITE_ZEROES: u8 = 1 << 3;
}

/// A namespace identification descriptor, figure 244.
pub(crate) mod descriptor {
    /// Namespace Identifier Type.
    pub(crate) const NIDT: usize = 0;
    /// Namespace Identifier Length.
    pub(crate) const NIDL: usize = 1;
    /// Namespace Identifier.
    pub(crate) const NID: usize = 4;

    /// NIDT: a UUID.
    pub(crate) const NIDT_UUID: u8 = 3;
}
