// SPDX-License-Identifier: GPL-2.0

//! `ferry_uart`: a mediated PCI serial card with one, two or four 16550A ports that live-migrates.
//!
//! The model of the card is the crate `uart`; `ferry_core` makes a VFIO device of it.

#![forbid(unsafe_code)]

use device_model::Log;
use ferry_core::{
    attributes::SettingDirectories,
    driver::{
        Driver,
        Type,
        Waker, //
    },
};
use kernel::prelude::*;
use uart::{
    Card,
    PortCount, //
};

ferry_core::module_driver!(UartDriver, {
    name: "ferry_uart",
    authors: ["The Ferry authors"],
    description: "Mediated PCI serial card that live-migrates",
    license: "GPL",
});

struct UartDriver;

// The type of a card is all there is to choose.
impl SettingDirectories for UartDriver {}

impl Driver for UartDriver {
    type Model = Card;
    type Backend = ();
    type Settings = PortCount;
    type OwnerModule = LocalModule;

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

    fn settings(type_index: usize, _name: &CStr) -> Result<PortCount> {
        Ok(PortCount::ALL[type_index])
    }

    fn bar_size(type_index: usize, bar: u32) -> u64 {
        PortCount::ALL[type_index].bar_size(bar)
    }

    fn open(ports: &PortCount, _waker: Waker, _log: Log<'_>) -> Result<(PortCount, ())> {
        Ok((*ports, ()))
    }
}
