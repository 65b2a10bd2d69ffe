// SPDX-License-Identifier: GPL-2.0

//! The controller's registers: what software writes to them, interrupts, and resets.

use pci_config::ConfigSpace;

use crate::function::{
    BAR0_SIZE,
    LAYOUT,
    MSIX_TABLE, //
};
use crate::msix_table::MsixTable;
use crate::parameters::{
    ParameterError,
    Parameters, //
};
use crate::registers::Registers;
use crate::spec::registers::{
    Aqa,
    Cc,
    Csts,
    Register,
    ShutdownStatus,
    NSSR_RESET, //
};

/// Bytes of the words that registers take.
pub(crate) const WORD_SIZE: usize = 4;

/// The registers of an NVMe controller, and all else that software accesses: the half that answers at once.
///
/// The other half is the [`Executor`](crate::Executor).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    pub(crate) parameters: Parameters,
    pub(crate) config: ConfigSpace,
    pub(crate) registers: Registers,
    pub(crate) msix_table: MsixTable,
    /// MSI-X vectors to send a message for.
    pub(crate) raised: u32,
    /// Vectors of completion queues with completions that the guest has not consumed, as of the last exchange.
    pub(crate) unconsumed: u32,
    /// Messages are sent even if the enable bit is not set. This is a property of the connection, not a
    /// part of the state.
    pub(crate) msix_connected: bool,
    /// The executor has to be reset in the next exchange.
    pub(crate) owes_reset: bool,
    /// DMA that is under way has to end.
    pub(crate) ends_dma: bool,
}

impl Controller {
    /// Bytes of memory behind base address register 0.
    pub const BAR0_SIZE: u64 = BAR0_SIZE;

    /// Returns a controller after power-on.
    ///
    /// # Errors
    ///
    /// A controller cannot have the parameters.
    pub fn new(parameters: Parameters) -> Result<Self, ParameterError> {
        parameters.check()?;
        Ok(Self {
            parameters,
            config: ConfigSpace::new(&LAYOUT),
            registers: Registers::default(),
            msix_table: MsixTable::new(),
            raised: 0,
            unconsumed: 0,
            msix_connected: false,
            owes_reset: false,
            ends_dma: false,
        })
    }

    /// Returns the parameters of the controller; the serial number may have come from another host.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Returns whether the controller may interrupt: the function is in D0, section 2.2.3.
    pub fn may_interrupt(&self) -> bool {
        self.config.is_in_d0()
    }

    /// Returns whether software made the controller send messages instead of asserting its pin.
    pub fn msix_enabled(&self) -> bool {
        self.msix_connected || self.config.msix_enabled()
    }

    /// The part of every reset of the function other than configuration space.
    pub(crate) fn reset_function(&mut self) {
        self.msix_table = MsixTable::new();
        self.registers = Registers::default();
        self.reset_controller();
    }

    /// Tells software that the controller failed for good, and stops it until the next reset.
    pub fn fail(&mut self) {
        self.registers.csts = self.registers.csts.set(Csts::CFS);
    }

    /// Raises the vector of every completion queue with completions that the guest has not consumed.
    pub(crate) fn raise_unconsumed(&mut self) {
        self.raised = self.unconsumed;
    }

    /// Writes a little-endian word of 32 bits.
    pub(crate) fn write_word(&mut self, address: usize, word: [u8; WORD_SIZE]) {
        let Some(register) = Register::at(address) else {
            return self.write_word_beyond(address, word);
        };
        let value = u32::from_le_bytes(word);
        let registers = &mut self.registers;
        // The admin queues stay where they are while they are in use.
        let fixed = registers.enabled();
        match register {
            Register::Intms => registers.interrupt_mask |= value,
            Register::Intmc => registers.interrupt_mask &= !value,
            Register::Cc => self.write_cc(Cc::from_bits(value)),
            Register::Csts => {
                let cleared = Csts::from_bits(value).only(Csts::NSSRO);
                registers.csts = registers.csts.clear(cleared);
            }
            Register::Nssr if value == NSSR_RESET => self.reset_subsystem(),
            Register::Aqa if !fixed => registers.aqa = Aqa::from_bits(value),
            Register::Asq if !fixed => registers.asq = registers.asq.with_low(value),
            Register::AsqHigh if !fixed => registers.asq = registers.asq.with_high(value),
            Register::Acq if !fixed => registers.acq = registers.acq.with_low(value),
            Register::AcqHigh if !fixed => registers.acq = registers.acq.with_high(value),
            _ => {}
        }
    }

    /// Writes a word behind the registers: a part of the MSI-X table. Doorbells are [posted](crate::Doorbells::post).
    fn write_word_beyond(&mut self, address: usize, word: [u8; WORD_SIZE]) {
        if let Some(offset) = address.checked_sub(MSIX_TABLE as usize) {
            self.msix_table.write(offset, word);
        }
    }

    /// Writes CC.
    fn write_cc(&mut self, value: Cc) {
        let before = self.registers.cc;

        if !value.intersects(Cc::EN) {
            let idle = self.registers.is_idle();
            self.registers.cc = value;
            if before.intersects(Cc::EN) || !idle {
                self.reset_controller();
            }
        } else if before.intersects(Cc::EN) {
            // The fields that queues depend on can only be chosen before.
            self.registers.cc = before.only(Cc::FIXED).set(value.clear(Cc::FIXED));
        } else {
            self.registers.cc = value;
        }

        let csts = self.registers.csts;
        let notified = value.field(Cc::SHN);
        if notified == 0 {
            self.registers.csts = csts.with_shutdown(ShutdownStatus::Normal);
        } else if notified != before.field(Cc::SHN) {
            self.registers.csts = csts.with_shutdown(ShutdownStatus::Occurring);
        }
    }

    /// Resets the subsystem, which has no other controller.
    ///
    /// Configuration space stays. On a physical device the link goes down, which software notices. There
    /// is no link here, so nothing would tell software that its base addresses are gone.
    fn reset_subsystem(&mut self) {
        self.registers = Registers {
            csts: Csts::NSSRO,
            ..Registers::default()
        };
        self.reset_controller();
    }

    /// The part that every reset of the controller has, section 7.3.2.
    fn reset_controller(&mut self) {
        self.registers.interrupt_mask = 0;
        self.registers.csts = self.registers.csts.only(Csts::NSSRO);
        self.raised = 0;
        self.unconsumed = 0;
        self.owes_reset = true;
        self.ends_dma = true;
    }

    /// The interrupt status bit: the controller would assert its pin if the pin were not disabled.
    pub(crate) fn interrupt_status(&self) -> bool {
        self.interrupt() && !self.msix_enabled() && self.may_interrupt()
    }

    /// Returns whether a completion that is not masked waits to be consumed.
    fn interrupt(&self) -> bool {
        // A controller that failed takes no doorbell: consumed completions would stay announced.
        self.registers.running() && self.unconsumed & !self.registers.interrupt_mask != 0
    }
}
