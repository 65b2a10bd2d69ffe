// SPDX-License-Identifier: GPL-2.0

//! The connections of a port: by its plug, and by the chip itself in its loop-back mode.

use crate::registers::{
    set_if,
    LineControl,
    ModemControl,
    ModemStatus, //
};

/// The line that takes the characters of the transmitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Through the plug to the receiver, which takes them when it has room.
    Plug,
    /// Nowhere: a break keeps the line in the spacing state, which the receiver sees.
    Break,
    /// Within the chip to the receiver, which has no choice but to take them.
    Loop,
}

impl Line {
    /// Returns the line that the control registers select.
    ///
    /// The chip's loop-back takes the transmitter off its pin, and a break acts on the pin only.
    pub(crate) fn select(line: LineControl, modem: ModemControl) -> Self {
        if modem.intersects(ModemControl::LOOP) {
            Self::Loop
        } else if line.intersects(LineControl::SBC) {
            Self::Break
        } else {
            Self::Plug
        }
    }
}

/// Returns the modem inputs of a port whose modem outputs are `outputs`.
pub(crate) fn modem_inputs(outputs: ModemControl) -> ModemStatus {
    let rts = outputs.intersects(ModemControl::RTS);
    let dtr = outputs.intersects(ModemControl::DTR);

    let (ring, carrier) = if outputs.intersects(ModemControl::LOOP) {
        // The chip's own loop-back has a source for each of the four inputs.
        (
            outputs.intersects(ModemControl::OUT1),
            outputs.intersects(ModemControl::OUT2),
        )
    } else {
        (false, dtr)
    };

    set_if(ModemStatus::CTS, rts)
        | set_if(ModemStatus::DSR, dtr)
        | set_if(ModemStatus::RI, ring)
        | set_if(ModemStatus::DCD, carrier)
}
