// SPDX-License-Identifier: GPL-2.0

//! The PCI card: its configuration space, its ports, and the interrupt that they share.

use core::ops::Range;

use pci_config::{
    AccessError,
    Bar,
    Class,
    ConfigSpace,
    Identity,
    InterruptPin,
    Layout, //
};

use crate::port::Port;
use crate::registers::{
    Register,
    REGISTER_COUNT, //
};

/// How many ports a card has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortCount {
    /// One port.
    One,
    /// Two ports.
    Two,
    /// Four ports.
    Four,
}

/// The most ports that a card has.
pub(crate) const PORTS_MAX: usize = PortCount::Four.count();

impl PortCount {
    /// Returns the number of ports.
    pub const fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// Number of bytes of I/O ports that the card decodes.
    const fn register_space(self) -> usize {
        self.count() * REGISTER_COUNT
    }

    fn layout(self) -> &'static Layout {
        static ONE: Layout = layout(0x10f1, PortCount::One);
        static TWO: Layout = layout(0x10f2, PortCount::Two);
        static FOUR: Layout = layout(0x10f3, PortCount::Four);

        match self {
            Self::One => &ONE,
            Self::Two => &TWO,
            Self::Four => &FOUR,
        }
    }
}

/// Describes a serial card.
///
/// Drivers find it by its class, and the number of its ports by the size of its base address register.
/// Its numbers are of the range for experiments that `docs/specs/pci-ids.rst` of QEMU describes. Those of
/// QEMU's own card, which looks the same to a driver, are not for others: that card has no MSI.
const fn layout(device: u16, ports: PortCount) -> Layout {
    /// Red Hat, whose device numbers 0x10f0 to 0x10ff anybody may use for experiments.
    const VENDOR_REDHAT_QUMRANET: u16 = 0x1af4;
    /// Simple communication controller, serial, compatible with a 16550.
    const SERIAL_16550: Class = Class {
        base: 0x07,
        sub: 0x00,
        interface: 0x02,
    };

    Layout::new(&Identity {
        vendor: VENDOR_REDHAT_QUMRANET,
        device,
        revision: 1,
        class: SERIAL_16550,
        subsystem_vendor: VENDOR_REDHAT_QUMRANET,
        subsystem: device,
    })
    .bar(
        0,
        Bar::Io {
            size: ports.register_space() as u32,
        },
    )
    .interrupt_pin(InterruptPin::A)
    .msi()
}

/// A serial card.
///
/// # Invariants
///
/// Ports beyond the card's count are as after power-on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    count: PortCount,
    pub(crate) config: ConfigSpace,
    ports: [Port; PORTS_MAX],
    /// Messages are sent even if the enable bit is not set. That is no state of the card, but of how it
    /// is connected.
    msi_connected: bool,
}

impl Card {
    /// Returns a card as it is after power-on.
    pub fn new(ports: PortCount) -> Self {
        Self {
            count: ports,
            config: ConfigSpace::new(ports.layout()),
            ports: core::array::from_fn(|_| Port::new()),
            msi_connected: false,
        }
    }

    /// Returns how many ports the card has.
    pub fn ports(&self) -> PortCount {
        self.count
    }

    /// Returns the number of bytes of I/O ports behind base address register 0.
    pub fn bar0_size(&self) -> u64 {
        self.count.register_space() as u64
    }

    /// Reads I/O ports. Each byte is a register access of its own, in ascending order.
    ///
    /// # Errors
    ///
    /// The access ends past the card's I/O ports; nothing is read.
    pub fn read_bar0(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        let range = self.decode_bar0(offset, bytes.len())?;

        read_registers(&mut self.ports, range, bytes);
        Ok(())
    }

    /// Returns what [`Card::read_bar0`] would, and leaves the card as it is.
    ///
    /// # Errors
    ///
    /// As for [`Card::read_bar0`].
    pub fn peek_bar0(&self, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        let range = self.decode_bar0(offset, bytes.len())?;

        // A byte can depend on what reading the one before did, so a copy of the ports is read.
        read_registers(&mut self.ports.clone(), range, bytes);
        Ok(())
    }

    /// Writes I/O ports. Each byte is a register access of its own, in ascending order.
    ///
    /// # Errors
    ///
    /// The access ends past the card's I/O ports; nothing is written.
    pub fn write_bar0(&mut self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let range = self.decode_bar0(offset, bytes.len())?;

        for (address, &value) in range.zip(bytes) {
            if let Some(port) = self.ports.get_mut(address / REGISTER_COUNT) {
                port.write(Register::decode(address), value);
            }
        }
        Ok(())
    }

    /// Reads configuration space.
    ///
    /// # Errors
    ///
    /// The access ends past configuration space; nothing is read.
    pub fn read_config(&self, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        self.config.read(offset, bytes, self.interrupt_status())
    }

    /// Writes configuration space; bits that software cannot change stay.
    ///
    /// # Errors
    ///
    /// The access ends past configuration space; nothing is written.
    pub fn write_config(&mut self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        self.config.write(offset, bytes)
    }

    /// Returns whether some port asserts its interrupt.
    ///
    /// This is the level of the card's interrupt source. A card that has MSI enabled sends a message
    /// when it rises.
    pub fn interrupt(&self) -> bool {
        self.ports.iter().any(Port::interrupt)
    }

    /// Returns whether the card asserts its interrupt pin.
    ///
    /// It does so while [`Card::interrupt`] holds, unless software disabled the pin or enabled MSI.
    pub fn intx_asserted(&self) -> bool {
        self.interrupt_status() && !self.config.intx_disabled()
    }

    /// Returns whether software made the card send messages instead of asserting its pin.
    pub fn msi_enabled(&self) -> bool {
        self.msi_connected || self.config.msi_enabled()
    }

    /// Connects MSI, or disconnects it: while it is connected messages are sent whatever the enable bit
    /// in configuration space says.
    pub fn set_msi(&mut self, connected: bool) {
        self.msi_connected = connected;
    }

    /// Returns whether the card answers accesses of what is behind base address register `bar`. The
    /// caller has the others read as ones and loses what they write, as a bus does.
    pub fn decodes(&self, bar: usize) -> bool {
        self.config.decodes(bar)
    }

    /// Resets the card as its bus driver does: ports get their power-on values, and so does of
    /// configuration space what that one does not restore.
    pub fn reset(&mut self) {
        self.config.bus_driver_reset();
        self.ports = core::array::from_fn(|_| Port::new());
    }

    /// The ports that the card has.
    pub(crate) fn active_ports(&self) -> &[Port] {
        &self.ports[..self.count.count()]
    }

    /// The ports that the card has, to be restored.
    pub(crate) fn active_ports_mut(&mut self) -> &mut [Port] {
        &mut self.ports[..self.count.count()]
    }

    /// Returns the register addresses of an access.
    fn decode_bar0(&self, offset: u64, length: usize) -> Result<Range<usize>, AccessError> {
        AccessError::check(offset, length, self.count.register_space())
    }

    /// What the interrupt status bit says: the card would assert its pin if that were not disabled.
    fn interrupt_status(&self) -> bool {
        self.interrupt() && !self.msi_enabled()
    }
}

/// Reads the registers at `addresses`, which count from the first port's first register.
fn read_registers(ports: &mut [Port], addresses: Range<usize>, bytes: &mut [u8]) {
    for (address, byte) in addresses.zip(bytes) {
        if let Some(port) = ports.get_mut(address / REGISTER_COUNT) {
            *byte = port.read(Register::decode(address));
        }
    }
}
