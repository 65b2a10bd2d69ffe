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
use crate::registers::REGISTER_COUNT;

/// Number of ports of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortCount {
    /// 1
    One,
    /// 2
    Two,
    /// 4
    Four,
}

/// The most ports that a card has.
pub(crate) const PORTS_MAX: usize = PortCount::Four.count();

impl PortCount {
    /// The numbers of ports that there are, in ascending order.
    pub const ALL: [Self; 3] = [Self::One, Self::Two, Self::Four];

    /// Bytes of BAR `bar` of a card with this number of ports; 0 if the card has no such BAR.
    pub const fn bar_size(self, bar: u32) -> u64 {
        match bar {
            0 => self.register_space() as u64,
            _ => 0,
        }
    }

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
/// Its numbers are of the range for experiments that `docs/specs/pci-ids.rst` of QEMU describes. The
/// numbers of QEMU's own card, which looks the same to a driver, stand for a card without MSI.
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
    pub(crate) ports: [Port; PORTS_MAX],
    /// Messages are sent even if the enable bit is not set. This is a property of the connection, not a
    /// part of the state.
    pub(crate) msi_connected: bool,
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

    /// Returns the number of ports of the card.
    pub fn ports(&self) -> PortCount {
        self.count
    }

    /// Returns whether software made the card send messages instead of asserting its pin.
    pub fn msi_enabled(&self) -> bool {
        self.msi_connected || self.config.msi_enabled()
    }

    /// The ports that the card has.
    pub(crate) fn active_ports(&self) -> &[Port] {
        &self.ports[..self.count.count()]
    }

    pub(crate) fn active_ports_mut(&mut self) -> &mut [Port] {
        &mut self.ports[..self.count.count()]
    }

    /// Returns the register addresses of an access.
    pub(crate) fn decode_bar0(
        &self,
        offset: u64,
        length: usize,
    ) -> Result<Range<usize>, AccessError> {
        AccessError::check(offset, length, self.count.register_space())
    }

    /// The interrupt status bit: the card would assert its pin if the pin were not disabled.
    pub(crate) fn interrupt_status(&self) -> bool {
        self.ports.iter().any(Port::interrupt) && !self.msi_enabled()
    }
}
