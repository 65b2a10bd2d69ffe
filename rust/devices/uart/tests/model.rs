// SPDX-License-Identifier: GPL-2.0

//! A second model of one port with its plug, to compare the first one with.
//!
//! It is written from the data sheet's point of view: raw register values that events set and clear,
//! queues of any length, and a line that is looked at again and again until nothing moves. It shares
//! no code and no structure with the model that it checks.

use std::collections::VecDeque;

use crate::serial_reg::*;

/// One 16550A with a loop-back plug.
pub struct Model {
    ier: u8,
    fcr: u8,
    lcr: u8,
    mcr: u8,
    /// Bits 1 to 4 only; the others follow from the queues.
    lsr_errors: u8,
    /// Inputs and deltas.
    msr: u8,
    scr: u8,
    divisor: [u8; 2],
    thr_ipending: bool,
    /// Each character with the LSR bits that it brings along.
    rx: VecDeque<(u8, u8)>,
    tx: VecDeque<u8>,
    tsr: VecDeque<u8>,
}

impl Model {
    pub fn new() -> Self {
        Self {
            ier: 0,
            fcr: 0,
            lcr: 0,
            mcr: 0,
            lsr_errors: 0,
            msr: 0,
            scr: 0,
            divisor: [12, 0],
            thr_ipending: false,
            rx: VecDeque::new(),
            tx: VecDeque::new(),
            tsr: VecDeque::new(),
        }
    }

    fn has(register: u8, bit: u8) -> bool {
        register & bit == bit
    }

    fn fifo_depth(&self) -> usize {
        if Self::has(self.fcr, FCR_ENABLE_FIFO) {
            FIFO_DEPTH
        } else {
            1
        }
    }

    pub fn iir(&self) -> u8 {
        let trigger = match self.fcr & 0xc0 {
            FCR_TRIGGER_1 => 1,
            FCR_TRIGGER_4 => 4,
            FCR_TRIGGER_8 => 8,
            _ => 14,
        };
        let mut id = IIR_NO_INT;
        // From the lowest priority to the highest: a later one replaces an earlier one.
        if Self::has(self.ier, IER_MSI) && self.msr & MSR_ANY_DELTA != 0 {
            id = IIR_MSI;
        }
        if Self::has(self.ier, IER_THRI) && self.thr_ipending {
            id = IIR_THRI;
        }
        if Self::has(self.ier, IER_RDI) {
            if (1..trigger).contains(&self.rx.len()) {
                id = IIR_RX_TIMEOUT;
            }
            if self.rx.len() >= trigger {
                id = IIR_RDI;
            }
        }
        if Self::has(self.ier, IER_RLSI) && self.lsr_errors != 0 {
            id = IIR_RLSI;
        }
        if Self::has(self.fcr, FCR_ENABLE_FIFO) {
            id |= IIR_FIFO_ENABLED;
        }
        id
    }

    pub fn interrupt(&self) -> bool {
        self.iir() & IIR_NO_INT == 0
    }

    fn lsr(&self) -> u8 {
        let mut lsr = self.lsr_errors;
        if !self.rx.is_empty() {
            lsr |= LSR_DR;
        }
        if self.tx.is_empty() {
            lsr |= LSR_THRE;
            if self.tsr.is_empty() {
                lsr |= LSR_TEMT;
            }
        }
        let character_errors = LSR_PE | LSR_FE | LSR_BI;
        let all = self.rx.iter().fold(self.lsr_errors, |all, rx| all | rx.1);
        if Self::has(self.fcr, FCR_ENABLE_FIFO) && all & character_errors != 0 {
            lsr |= LSR_FIFOE;
        }
        lsr
    }

    pub fn read(&mut self, register: u64) -> u8 {
        let dlab = Self::has(self.lcr, LCR_DLAB);
        match register {
            DLL | DLM if dlab => self.divisor[register as usize],
            RX => {
                let (character, _) = self.rx.pop_front().unwrap_or((0, 0));
                self.settle();
                character
            }
            IER => self.ier,
            IIR => {
                let iir = self.iir();
                if iir & !IIR_FIFO_ENABLED == IIR_THRI {
                    self.thr_ipending = false;
                }
                iir
            }
            LCR => self.lcr,
            MCR => self.mcr,
            LSR => {
                let lsr = self.lsr();
                self.lsr_errors = 0;
                lsr
            }
            MSR => {
                let msr = self.msr;
                self.msr &= MSR_STATUS_BITS;
                msr
            }
            SCR => self.scr,
            _ => unreachable!("a UART has eight registers"),
        }
    }

    pub fn write(&mut self, register: u64, value: u8) {
        let dlab = Self::has(self.lcr, LCR_DLAB);
        match register {
            DLL | DLM if dlab => self.divisor[register as usize] = value,
            TX => {
                self.thr_ipending = false;
                if self.tx.len() < self.fifo_depth() {
                    self.tx.push_back(value);
                } else if self.fifo_depth() == 1 {
                    self.tx[0] = value;
                }
                self.settle();
            }
            IER => {
                let rising = value & !self.ier & IER_THRI != 0;
                self.ier = value & IER_ALL_INTR;
                if rising && self.tx.is_empty() {
                    self.thr_ipending = true;
                }
                if value & IER_THRI == 0 {
                    self.thr_ipending = false;
                }
            }
            FCR => {
                let on = Self::has(value, FCR_ENABLE_FIFO);
                let toggled = on != Self::has(self.fcr, FCR_ENABLE_FIFO);
                if toggled || (on && Self::has(value, FCR_CLEAR_RCVR)) {
                    self.rx.clear();
                    // Errors are a character's, but for an overrun.
                    self.lsr_errors &= LSR_OE;
                }
                if (toggled || (on && Self::has(value, FCR_CLEAR_XMIT))) && !self.tx.is_empty() {
                    self.tx.clear();
                    self.thr_ipending = true;
                }
                self.fcr = if on { value & 0xc9 } else { 0 };
                self.settle();
            }
            LCR => {
                self.change_line(|model| model.lcr = value);
            }
            MCR => {
                self.change_line(|model| model.mcr = value & 0x1f);

                let bit = |bit, status| if value & bit != 0 { status } else { 0 };
                let inputs = if Self::has(value, MCR_LOOP) {
                    bit(MCR_RTS, MSR_CTS)
                        | bit(MCR_DTR, MSR_DSR)
                        | bit(MCR_OUT1, MSR_RI)
                        | bit(MCR_OUT2, MSR_DCD)
                } else {
                    bit(MCR_RTS, MSR_CTS) | bit(MCR_DTR, MSR_DSR | MSR_DCD)
                };
                let old = self.msr & MSR_STATUS_BITS;
                // Each delta bit is four below its input.
                let mut deltas = (old ^ inputs) >> 4;
                if inputs & MSR_RI != 0 {
                    deltas &= !MSR_TERI;
                }
                self.msr = inputs | (self.msr & MSR_ANY_DELTA) | deltas;
            }
            LSR | MSR => {}
            SCR => self.scr = value,
            _ => unreachable!("a UART has eight registers"),
        }
    }

    fn spacing(&self) -> bool {
        Self::has(self.lcr, LCR_SBC) && !Self::has(self.mcr, MCR_LOOP)
    }

    fn change_line(&mut self, change: impl FnOnce(&mut Self)) {
        let spacing = self.spacing();
        change(self);
        if self.spacing() && !spacing {
            let mut errors = LSR_BI | LSR_FE;
            if self.lcr & (LCR_PARITY | LCR_EPAR) == LCR_PARITY {
                errors |= LSR_PE;
            }
            self.arrive(0, errors);
        }
        self.settle();
    }

    fn arrive(&mut self, character: u8, errors: u8) {
        if self.rx.len() < self.fifo_depth() {
            self.rx.push_back((character, errors));
        } else {
            self.lsr_errors |= LSR_OE;
            if self.fifo_depth() == 1 {
                self.rx[0] = (character, errors);
            }
        }
        self.show();
    }

    /// The error of the character that is next belongs to LSR.
    fn show(&mut self) {
        if let Some((_, errors)) = self.rx.front_mut() {
            self.lsr_errors |= *errors;
            *errors = 0;
        }
    }

    /// Lets one thing after the other happen until nothing happens any more.
    fn settle(&mut self) {
        self.show();
        loop {
            if self.tsr.is_empty() && !self.tx.is_empty() {
                self.tsr.extend(self.tx.pop_front());
                if self.tx.is_empty() {
                    self.thr_ipending = true;
                }
            } else if self.tsr.is_empty() {
                break;
            } else if self.spacing() {
                self.tsr.clear();
            } else if Self::has(self.mcr, MCR_LOOP) || self.rx.len() < self.fifo_depth() {
                for character in std::mem::take(&mut self.tsr) {
                    self.arrive(character, 0);
                }
            } else {
                break;
            }
        }
        if !Self::has(self.ier, IER_THRI) {
            self.thr_ipending = false;
        }
    }
}
