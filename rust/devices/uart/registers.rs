// SPDX-License-Identifier: GPL-2.0

//! The registers of a 16550A and their bits, with the names of `include/uapi/linux/serial_reg.h`.

use core::ops::{
    BitAnd,
    BitOr, //
};

/// Bytes of I/O ports that one UART takes.
pub(crate) const REGISTER_COUNT: usize = 8;

/// The eight addresses of a 16550A. The meaning of the first three depends on the access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Register {
    /// Receiver buffer (read), transmitter holding register (write), or lower half of the divisor.
    Data,
    /// Interrupt enable, or upper half of the divisor.
    InterruptEnable,
    /// Interrupt identification (read), FIFO control (write).
    InterruptIdentification,
    /// Line control.
    LineControl,
    /// Modem control.
    ModemControl,
    /// Line status. Read only.
    LineStatus,
    /// Modem status. Read only.
    ModemStatus,
    /// Scratch: keeps a byte for software.
    Scratch,
}

impl Register {
    /// Decodes the three address lines of the chip; higher bits of `address` do not reach it.
    pub(crate) fn decode(address: usize) -> Self {
        match address % REGISTER_COUNT {
            0 => Self::Data,
            1 => Self::InterruptEnable,
            2 => Self::InterruptIdentification,
            3 => Self::LineControl,
            4 => Self::ModemControl,
            5 => Self::LineStatus,
            6 => Self::ModemStatus,
            _ => Self::Scratch,
        }
    }
}

/// Returns `bits` if `condition` holds, else no bits.
pub(crate) fn set_if<R: Default>(bits: R, condition: bool) -> R {
    if condition {
        bits
    } else {
        R::default()
    }
}

/// Defines a register as the set of its bits.
macro_rules! register {
    (
        $(#[$doc:meta])*
        $name:ident { $( $(#[$bit_doc:meta])* $bit:ident = $value:expr; )* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct $name(u8);

        impl $name {
            $( $(#[$bit_doc])* pub(crate) const $bit: Self = Self($value); )*

            /// Returns `value` without the bits that are not among `bits`.
            pub(crate) const fn from_written(value: u8, bits: Self) -> Self {
                Self(value & bits.0)
            }

            /// The bits as a read returns them.
            pub(crate) const fn bits(self) -> u8 {
                self.0
            }

            /// Whether any of the bits of `other` is set.
            pub(crate) const fn intersects(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }
        }

        impl BitOr for $name {
            type Output = Self;

            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }

        impl BitAnd for $name {
            type Output = Self;

            fn bitand(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }
        }
    };
}

register! {
    /// IER: which sources may assert the interrupt.
    InterruptEnable {
        /// Characters received.
        RDI = 1 << 0;
        /// Transmitter holding register empty.
        THRI = 1 << 1;
        /// Receiver line status: overrun, parity or framing error, break.
        RLSI = 1 << 2;
        /// Modem status.
        MSI = 1 << 3;
        /// The bits that the register implements.
        ALL = 0x0f;
    }
}

register! {
    /// FCR: how the FIFOs work.
    FifoControl {
        /// Both FIFOs are in use; without it the chip is a 16450.
        ENABLE_FIFO = 1 << 0;
        /// Empty the receiver FIFO. Clears itself.
        CLEAR_RCVR = 1 << 1;
        /// Empty the transmitter FIFO. Clears itself.
        CLEAR_XMIT = 1 << 2;
        /// How the chip's DMA pins behave, which no PCI card connects.
        DMA_SELECT = 1 << 3;
        /// Receiver FIFO level that reports received data.
        TRIGGER_MASK = 0xc0;
        /// The bits that the register implements.
        ALL = 0xcf;
        /// The bits that do not clear themselves.
        KEPT = Self::ENABLE_FIFO.0 | Self::DMA_SELECT.0 | Self::TRIGGER_MASK.0;
    }
}

impl FifoControl {
    /// Trigger level of 4 characters.
    const TRIGGER_4: u8 = 0x40;
    /// Trigger level of 8 characters.
    const TRIGGER_8: u8 = 0x80;
    /// Trigger level of 14 characters.
    const TRIGGER_14: u8 = 0xc0;

    /// The fewest characters in the receiver that report received data.
    pub(crate) fn trigger_level(self) -> usize {
        match (self & Self::TRIGGER_MASK).bits() {
            Self::TRIGGER_4 => 4,
            Self::TRIGGER_8 => 8,
            Self::TRIGGER_14 => 14,
            _ => 1,
        }
    }
}

/// The source that the interrupt identification register reports, in the order of priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Interrupt {
    /// Overrun, parity or framing error, or break. Reading LSR clears it.
    LineStatus = 0x06,
    /// The receiver FIFO has reached its trigger level. Reading it below the level clears it.
    ReceivedData = 0x04,
    /// Characters below the trigger level wait in the receiver FIFO. Reading them clears it.
    CharacterTimeout = 0x0c,
    /// The transmitter holding register is empty. Reading IIR or writing THR clears it.
    TransmitterEmpty = 0x02,
    /// A modem input changed. Reading MSR clears it.
    ModemStatus = 0x00,
}

impl Interrupt {
    /// IIR without an interrupt.
    const NO_INT: u8 = 1 << 0;
    /// IIR of a chip whose FIFOs are in use.
    const FIFO_ENABLED: u8 = 0xc0;

    /// Returns the value of IIR.
    pub(crate) fn identification(pending: Option<Self>, fifo_enabled: bool) -> u8 {
        let fifos = if fifo_enabled { Self::FIFO_ENABLED } else { 0 };
        let source = pending.map_or(Self::NO_INT, |interrupt| interrupt as u8);

        fifos | source
    }
}

register! {
    /// LCR: the format of a character, and two controls.
    LineControl {
        /// Characters have a parity bit.
        PARITY = 1 << 3;
        /// The parity bit makes the number of ones even.
        EPAR = 1 << 4;
        /// The transmitter's output is held in the spacing state.
        SBC = 1 << 6;
        /// The first two addresses are the divisor.
        DLAB = 1 << 7;
        /// The bits that the register implements.
        ALL = 0xff;
    }
}

impl LineControl {
    /// Returns whether the parity bit of a character that is spacing all through is wrong.
    ///
    /// Odd parity expects a one there, and so does stick parity of the same setting.
    pub(crate) fn spacing_fails_parity(self) -> bool {
        self.intersects(Self::PARITY) && !self.intersects(Self::EPAR)
    }
}

register! {
    /// MCR: the modem outputs, and the chip's own loop-back.
    ModemControl {
        /// Data terminal ready.
        DTR = 1 << 0;
        /// Request to send.
        RTS = 1 << 1;
        /// General output 1.
        OUT1 = 1 << 2;
        /// General output 2.
        OUT2 = 1 << 3;
        /// Loop-back: every output of the chip goes to its inputs only.
        LOOP = 1 << 4;
        /// The bits that the register implements.
        ALL = 0x1f;
    }
}

register! {
    /// LSR: state of transmitter and receiver.
    LineStatus {
        /// Data ready: the receiver has a character.
        DR = 1 << 0;
        /// Overrun error: a character came and there was no room.
        OE = 1 << 1;
        /// Parity error.
        PE = 1 << 2;
        /// Framing error.
        FE = 1 << 3;
        /// Break interrupt: the line was spacing for longer than a character.
        BI = 1 << 4;
        /// Transmitter holding register or transmitter FIFO empty.
        THRE = 1 << 5;
        /// Transmitter empty: the shift register is empty, too.
        TEMT = 1 << 6;
        /// The receiver FIFO has a character with an error.
        FIFOE = 1 << 7;
        /// The errors of a single character.
        CHARACTER_ERRORS = Self::PE.0 | Self::FE.0 | Self::BI.0;
        /// The bits that assert the line status interrupt. Reading the register clears them.
        ERRORS = Self::OE.0 | Self::CHARACTER_ERRORS.0;
    }
}

register! {
    /// MSR: the modem inputs, and their changes.
    ModemStatus {
        /// Clear to send has changed.
        DCTS = 1 << 0;
        /// Data set ready has changed.
        DDSR = 1 << 1;
        /// The ring indicator has gone from active to inactive.
        TERI = 1 << 2;
        /// Data carrier detect has changed.
        DDCD = 1 << 3;
        /// Clear to send.
        CTS = 1 << 4;
        /// Data set ready.
        DSR = 1 << 5;
        /// Ring indicator.
        RI = 1 << 6;
        /// Data carrier detect.
        DCD = 1 << 7;
        /// The bits that assert the modem status interrupt. Reading the register clears them.
        ANY_DELTA = 0x0f;
    }
}

impl ModemStatus {
    /// Returns the delta bits that a change of the inputs from `before` to `after` sets.
    pub(crate) fn deltas(before: Self, after: Self) -> Self {
        let changed = Self(before.0 ^ after.0);

        set_if(Self::DCTS, changed.intersects(Self::CTS))
            | set_if(Self::DDSR, changed.intersects(Self::DSR))
            | set_if(Self::TERI, (changed & before).intersects(Self::RI))
            | set_if(Self::DDCD, changed.intersects(Self::DCD))
    }
}
