// SPDX-License-Identifier: GPL-2.0

//! `ferry_uart`: a mediated PCI serial card with one, two or four 16550A ports that live-migrates.
//!
//! The device itself is the crate `uart`; what makes it a VFIO device is `ferry_core`. This is all
//! that a driver adds.

#![forbid(unsafe_code)]

use ferry_core::{
    attributes::SettingDirectory,
    driver::{
        Driver,
        Type, //
    },
    model::{
        Log,
        Model,
        NoMigratedBlocks,
        VectorCounts, //
    },
    registration::Registration, //
};
use kernel::prelude::*;
use uart::{
    AccessError,
    Card,
    LoadError,
    PortCount,
    CONFIG_SPACE_SIZE, //
};

module! {
    type: Module,
    name: "ferry_uart",
    authors: ["The Ferry authors"],
    description: "Mediated PCI serial card that live-migrates",
    license: "GPL",
    params: {
        window_size: usize {
            default: ferry_core::driver::WINDOW_SIZE_DEFAULT,
            description: "Default size of an mdev's migration data window in bytes (page multiple, at most 16 MiB)",
        },
    },
}

/// The card as the framework sees it.
struct SerialCard(Card);

impl Model for SerialCard {
    type AccessError = AccessError;
    type LoadError = LoadError;
    type Posted = ();
    type MigratedBlocks = NoMigratedBlocks;

    const TYPE: &'static str = "ferry-uart";
    const STATE_SIZE: usize = Card::STATE_SIZE;
    const CONFIG_SIZE: u64 = CONFIG_SPACE_SIZE as u64;
    const VECTORS: VectorCounts = VectorCounts { msi: 1, msix: 0 };

    fn configuration(&self, out: &mut [u8; ferry_core::CONFIGURATION_MAX]) -> usize {
        // At most four.
        out[0] = self.0.ports().count() as u8;
        1
    }

    fn decodes(&self, bar: u32) -> bool {
        self.0.decodes(bar as usize)
    }

    fn read_bar(&mut self, _bar: u32, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        self.0.read_bar0(offset, bytes)
    }

    fn peek_bar(&self, _bar: u32, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        self.0.peek_bar0(offset, bytes)
    }

    fn write_bar(&mut self, _bar: u32, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        self.0.write_bar0(offset, bytes)
    }

    fn read_config(&self, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        self.0.read_config(offset, bytes)
    }

    fn write_config(&mut self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        self.0.write_config(offset, bytes)
    }

    fn intx_asserted(&self) -> bool {
        self.0.intx_asserted()
    }

    fn interrupt(&self) -> bool {
        self.0.interrupt()
    }

    fn set_msi(&mut self, enabled: bool) {
        self.0.set_msi(enabled);
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn save(&self, out: &mut [u8]) -> Option<usize> {
        self.0.save(out)
    }

    fn load(&self, state: &[u8]) -> Result<Self, LoadError> {
        Card::load(self.0.ports(), state).map(Self)
    }
}

const PORT_COUNTS: [PortCount; 3] = [PortCount::One, PortCount::Two, PortCount::Four];

/// What distinguishes the cards is their type.
#[derive(Clone)]
struct CardType(PortCount);

struct UartDriver;

// The type of a card is all there is to choose.
impl SettingDirectory for UartDriver {}

impl Driver for UartDriver {
    type Model = SerialCard;
    type Settings = CardType;

    const NAME: &'static CStr = c"ferry_uart";
    const TYPES: &'static [Type] = &[
        Type {
            sysfs_name: c"1",
            pretty_name: c"Ferry serial card, 1 port",
            description:
                c"PCI serial card with one 16550A port and a loop-back plug; live-migrates",
        },
        Type {
            sysfs_name: c"2",
            pretty_name: c"Ferry serial card, 2 ports",
            description:
                c"PCI serial card with two 16550A ports and loop-back plugs; live-migrates",
        },
        Type {
            sysfs_name: c"4",
            pretty_name: c"Ferry serial card, 4 ports",
            description:
                c"PCI serial card with four 16550A ports and loop-back plugs; live-migrates",
        },
    ];
    const MAX_INSTANCES: u32 = 1024;

    fn settings(type_index: usize, _name: &CStr) -> Result<CardType> {
        Ok(CardType(PORT_COUNTS[type_index]))
    }

    fn bar_size(type_index: usize, bar: u32) -> u64 {
        match bar {
            0 => Card::new(PORT_COUNTS[type_index]).bar0_size(),
            _ => 0,
        }
    }

    fn open(settings: &CardType, _log: Log<'_>) -> Result<SerialCard> {
        Ok(SerialCard(Card::new(settings.0)))
    }

    fn window_size() -> usize {
        module_parameters::window_size.value()
    }
}

struct Module {
    _registration: Registration<UartDriver>,
}

impl kernel::Module for Module {
    fn init(module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _registration: Registration::new(module)?,
        })
    }
}
