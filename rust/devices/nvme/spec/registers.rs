// SPDX-License-Identifier: GPL-2.0

//! The controller's registers, section 3.1.

/// The registers by offset; of those with 64 bits, each half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Register {
    /// Controller Capabilities, 64 bits.
    Cap,
    /// Version.
    Vs,
    /// Interrupt Mask Set.
    Intms,
    /// Interrupt Mask Clear.
    Intmc,
    /// Controller Configuration.
    Cc,
    /// Controller Status.
    Csts,
    /// NVM Subsystem Reset.
    Nssr,
    /// Admin Queue Attributes.
    Aqa,
    /// Admin Submission Queue Base Address, 64 bits.
    Asq,
    /// The upper half of ASQ.
    AsqHigh,
    /// Admin Completion Queue Base Address, 64 bits.
    Acq,
    /// The upper half of ACQ.
    AcqHigh,
}

impl Register {
    /// Where the registers end that a controller without a memory buffer has.
    pub(crate) const END: usize = 0x38;

    const ALL: [Self; 12] = [
        Self::Cap,
        Self::Vs,
        Self::Intms,
        Self::Intmc,
        Self::Cc,
        Self::Csts,
        Self::Nssr,
        Self::Aqa,
        Self::Asq,
        Self::AsqHigh,
        Self::Acq,
        Self::AcqHigh,
    ];

    /// Offset from the start of the controller's memory.
    pub(crate) const fn offset(self) -> usize {
        match self {
            Self::Cap => 0x00,
            Self::Vs => 0x08,
            Self::Intms => 0x0c,
            Self::Intmc => 0x10,
            Self::Cc => 0x14,
            Self::Csts => 0x1c,
            Self::Nssr => 0x20,
            Self::Aqa => 0x24,
            Self::Asq => 0x28,
            Self::AsqHigh => 0x2c,
            Self::Acq => 0x30,
            Self::AcqHigh => 0x34,
        }
    }

    /// Returns the register that a write of 32 bits at `offset` reaches.
    pub(crate) fn at(offset: usize) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|register| register.offset() == offset)
    }
}

/// Where the doorbells begin, section 3.1.24.
pub(crate) const DOORBELLS: u64 = 0x1000;
/// Bytes of a doorbell where CAP.DSTRD (`dstrd`) is 0.
pub(crate) const DOORBELL_SIZE: u64 = 4;

/// Binary logarithm of the page size for an MPS of 0.
pub(crate) const PAGE_SHIFT_MIN: u32 = 12;

/// VS of revision 1.4.
pub(crate) const VS_1_4: u32 = 0x0001_0400;

/// NSSR: "NVMe", which resets the subsystem.
pub(crate) const NSSR_RESET: u32 = 0x4e56_4d65;

/// Defines a register as a value with named bits and fields. `ALL` is what the register implements.
macro_rules! register {
    (
        $(#[$doc:meta])*
        $name:ident($bits:ty) { $( $(#[$bit_doc:meta])* $bit:ident = $value:expr; )* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct $name($bits);

        impl $name {
            $( $(#[$bit_doc])* pub(crate) const $bit: Self = Self($value); )*

            /// Returns the register with `bits`, but those that it does not implement.
            #[allow(dead_code, reason = "not every register is written")]
            pub(crate) const fn from_bits(bits: $bits) -> Self {
                Self(bits & Self::ALL.0)
            }

            /// Returns the bits as a read does.
            pub(crate) const fn bits(self) -> $bits {
                self.0
            }

            /// Returns whether any of the bits of `mask` is set.
            #[allow(dead_code, reason = "not every register has flags")]
            pub(crate) const fn intersects(self, mask: Self) -> bool {
                self.0 & mask.0 != 0
            }

            /// Returns the value of the field with the bits of `mask`.
            #[allow(dead_code, reason = "not every register has fields")]
            pub(crate) const fn field(self, mask: Self) -> $bits {
                (self.0 & mask.0) >> mask.0.trailing_zeros()
            }

            /// Returns the register with the field of `mask` set to `value`, which fits.
            #[allow(dead_code, reason = "not every register has fields")]
            pub(crate) const fn with(self, mask: Self, value: $bits) -> Self {
                Self(self.0 & !mask.0 | value << mask.0.trailing_zeros() & mask.0)
            }

            /// Returns the register with the bits of `mask` set.
            #[allow(dead_code, reason = "not every register has flags")]
            pub(crate) const fn set(self, mask: Self) -> Self {
                Self(self.0 | mask.0)
            }

            /// Returns the register with the bits of `mask` clear.
            #[allow(dead_code, reason = "not every register has flags")]
            pub(crate) const fn clear(self, mask: Self) -> Self {
                Self(self.0 & !mask.0)
            }

            /// Returns the register with nothing but the bits of `mask`.
            #[allow(dead_code, reason = "not every register has flags")]
            pub(crate) const fn only(self, mask: Self) -> Self {
                Self(self.0 & mask.0)
            }
        }
    };
}

register! {
    /// CAP: Controller Capabilities, section 3.1.1.
    Cap(u64) {
        /// Maximum Queue Entries Supported, less one.
        MQES = 0xffff;
        /// Contiguous Queues Required.
        CQR = 1 << 16;
        /// Timeout: how long enabling and disabling takes at most, in units of 500 ms.
        TO = 0xff << 24;
        /// NVM Subsystem Reset Supported.
        NSSRS = 1 << 36;
        /// Command Sets Supported: the NVM command set.
        CSS_NVM = 1 << 37;
        /// Memory Page Size Maximum: binary logarithm of the largest page in units of 4 KiB.
        MPSMAX = 0xf << 52;
        /// CAP is read-only.
        ALL = u64::MAX;
    }
}

register! {
    /// CC: Controller Configuration, section 3.1.5.
    Cc(u32) {
        /// Enable.
        EN = 1 << 0;
        /// I/O Command Set Selected: 0 for NVM.
        CSS = 0x7 << 4;
        /// Memory Page Size: binary logarithm in units of 4 KiB.
        MPS = 0xf << 7;
        /// Arbitration Mechanism Selected: 0 for round robin.
        AMS = 0x7 << 11;
        /// Shutdown Notification: not 0 asks for a shutdown.
        SHN = 0x3 << 14;
        /// I/O Submission Queue Entry Size, as a binary logarithm.
        IOSQES = 0xf << 16;
        /// I/O Completion Queue Entry Size, as a binary logarithm.
        IOCQES = 0xf << 20;
        /// The bits of the register that are not reserved.
        ALL = Self::EN.0
            | Self::CSS.0
            | Self::MPS.0
            | Self::AMS.0
            | Self::SHN.0
            | Self::IOSQES.0
            | Self::IOCQES.0;
        /// The fields that software may change only while EN is 0.
        FIXED = Self::CSS.0 | Self::MPS.0 | Self::AMS.0;
    }
}

register! {
    /// CSTS: Controller Status, section 3.1.6.
    Csts(u32) {
        /// Ready.
        RDY = 1 << 0;
        /// Controller Fatal Status.
        CFS = 1 << 1;
        /// Shutdown Status, see [`ShutdownStatus`].
        SHST = 0x3 << 2;
        /// NVM Subsystem Reset Occurred; cleared by writing 1.
        NSSRO = 1 << 4;
        /// The bits that this controller implements: it never pauses (PP).
        ALL = Self::RDY.0 | Self::CFS.0 | Self::SHST.0 | Self::NSSRO.0;
    }
}

/// CSTS.SHST: how far a shutdown is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum ShutdownStatus {
    /// No shutdown was asked for.
    Normal = 0,
    /// A shutdown is being processed.
    Occurring = 1,
    /// The shutdown is complete.
    Complete = 2,
}

impl Csts {
    /// Returns whether CSTS.SHST is `status`.
    pub(crate) fn is_shutdown(self, status: ShutdownStatus) -> bool {
        self.field(Self::SHST) == status as u32
    }

    /// Returns the register with CSTS.SHST set to `status`.
    pub(crate) fn with_shutdown(self, status: ShutdownStatus) -> Self {
        self.with(Self::SHST, status as u32)
    }
}

register! {
    /// AQA: Admin Queue Attributes, section 3.1.8.
    Aqa(u32) {
        /// Admin Submission Queue Size: entries less one.
        ASQS = 0xfff;
        /// Admin Completion Queue Size: entries less one.
        ACQS = 0xfff << 16;
        /// The bits of the register that are not reserved.
        ALL = Self::ASQS.0 | Self::ACQS.0;
    }
}

impl Aqa {
    /// The most entries of an admin queue.
    pub(crate) const ENTRIES_MAX: u32 = Self::ASQS.0 + 1;

    /// Returns the entries of the admin submission queue.
    pub(crate) fn submission_entries(self) -> u32 {
        self.field(Self::ASQS) + 1
    }

    /// Returns the entries of the admin completion queue.
    pub(crate) fn completion_entries(self) -> u32 {
        self.field(Self::ACQS) + 1
    }
}

register! {
    /// ASQ and ACQ: Admin Queue Base Address, sections 3.1.9 and 3.1.10.
    AdminBase(u64) {
        /// The lower bits are reserved: queues begin at a page.
        ALL = !0xfff;
    }
}

impl AdminBase {
    /// Returns the register after a write of its lower half.
    pub(crate) fn with_low(self, value: u32) -> Self {
        Self::from_bits(self.0 & !u64::from(u32::MAX) | u64::from(value))
    }

    /// Returns the register after a write of its upper half.
    pub(crate) fn with_high(self, value: u32) -> Self {
        Self::from_bits(self.0 & u64::from(u32::MAX) | u64::from(value) << u32::BITS)
    }
}
