// SPDX-License-Identifier: GPL-2.0

//! The card as a device model: accesses, interrupts, reset and state.

use core::convert::Infallible;
use core::ops::Range;

use device_model::saved_state;
use device_model::{
    DeviceModel,
    GuestMemory,
    Vectors,
    Worker,
    CONFIGURATION_MAX, //
};
use pci_config::{
    AccessError,
    CONFIG_SPACE_SIZE, //
};

use crate::card::{
    Card,
    PortCount, //
};
use crate::port::Port;
use crate::registers::{
    Register,
    REGISTER_COUNT, //
};
use crate::state::{
    state_size,
    LoadError, //
};

impl DeviceModel for Card {
    type Executor = ();
    type Parameters = PortCount;
    type ParameterError = Infallible;
    type AccessError = AccessError;
    type LoadError = LoadError;
    type Posted = ();

    const TYPE: &'static str = "ferry-uart";
    const CONFIG_SIZE: u64 = CONFIG_SPACE_SIZE as u64;
    const VECTORS: Vectors = Vectors { msi: 1, msix: 0 };

    fn power_on(ports: &PortCount) -> Result<Self, Infallible> {
        Ok(Self::new(*ports))
    }

    fn executor(&self) {}

    /// The configuration is the number of ports, in one byte.
    fn configuration(&self, out: &mut [u8; CONFIGURATION_MAX]) -> usize {
        // A card has at most four ports.
        out[0] = self.ports().count() as u8;
        1
    }

    fn decodes(&self, bar: u32) -> bool {
        self.config.decodes(bar as usize)
    }

    /// Each byte is a register access of its own, in ascending order.
    fn read_bar(&mut self, _bar: u32, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        let range = self.decode_bar0(offset, bytes.len())?;

        read_registers(&mut self.ports, range, bytes);
        Ok(())
    }

    fn peek_bar(&self, _bar: u32, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        let range = self.decode_bar0(offset, bytes.len())?;

        // A byte can depend on the side effects of reading the byte before, so a copy of the ports is read.
        read_registers(&mut self.ports.clone(), range, bytes);
        Ok(())
    }

    /// Each byte is a register access of its own, in ascending order.
    fn write_bar(&mut self, _bar: u32, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let range = self.decode_bar0(offset, bytes.len())?;

        for (address, &value) in range.zip(bytes) {
            if let Some(port) = self.ports.get_mut(address / REGISTER_COUNT) {
                port.write(Register::decode(address), value);
            }
        }
        Ok(())
    }

    fn read_config(&self, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        self.config.read(offset, bytes, self.interrupt_status())
    }

    fn write_config(&mut self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        self.config.write(offset, bytes)
    }

    /// The card asserts its pin while [`Self::interrupt`] holds, unless software disabled the pin or
    /// enabled MSI.
    fn intx_asserted(&self) -> bool {
        self.interrupt_status() && !self.config.intx_disabled()
    }

    /// A port asserts its interrupt. A card that has MSI enabled sends a message when this level rises.
    fn interrupt(&self) -> bool {
        self.ports.iter().any(Port::interrupt)
    }

    fn set_msi(&mut self, connected: bool) {
        self.msi_connected = connected;
    }

    /// Ports get their power-on values.
    fn reset(&mut self) {
        self.config.bus_driver_reset();
        self.ports = core::array::from_fn(|_| Port::new());
    }

    fn state_size(&self) -> usize {
        state_size(self.ports())
    }

    fn save(&self, _executor: &(), out: &mut [u8]) -> Option<usize> {
        saved_state::save(out, state_size(self.ports()), |state| {
            self.save_parts(state)
        })
    }

    fn load(&mut self, _executor: &mut (), state: &[u8]) -> Result<(), LoadError> {
        self.load_state(state)
    }
}

/// The card does all of its work in the accesses.
impl<M: GuestMemory, B: ?Sized> Worker<M, B> for Card {}

/// Reads the registers at `addresses`, which count from the first port's first register.
fn read_registers(ports: &mut [Port], addresses: Range<usize>, bytes: &mut [u8]) {
    for (address, byte) in addresses.zip(bytes) {
        if let Some(port) = ports.get_mut(address / REGISTER_COUNT) {
            *byte = port.read(Register::decode(address));
        }
    }
}
