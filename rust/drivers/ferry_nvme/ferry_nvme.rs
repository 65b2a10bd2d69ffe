// SPDX-License-Identifier: GPL-2.0

//! `ferry_nvme`: a mediated NVMe controller that live-migrates.
//!
//! The controller itself is the crate `nvme`; what makes it a VFIO device is `ferry_core`. This
//! driver adds the stores that keep the content of its namespace, and what an administrator can
//! choose.

#![forbid(unsafe_code)]

mod device;
mod file_backend;
mod ram_backend;
mod settings;

use crate::{
    device::NvmeDevice,
    settings::{
        Capacity,
        FilePath,
        NvmeSettings,
        Queues,
        Serial,
        StoreAttribute, //
    },
};
use ferry_core::{
    attributes::{
        setting,
        Entry,
        SettingDirectory, //
    },
    driver::{
        Driver,
        Type, //
    },
    model::Log,
    registration::Registration, //
};
use kernel::prelude::*;
use nvme::Controller;

module! {
    type: Module,
    name: "ferry_nvme",
    authors: ["The Ferry authors"],
    description: "Mediated NVMe controller that live-migrates",
    license: "GPL",
    params: {
        window_size: usize {
            default: ferry_core::driver::WINDOW_SIZE_DEFAULT,
            description: "Default size of an mdev's migration data window in bytes (page multiple, at most 16 MiB)",
        },
    },
}

/// Binary logarithms of the bytes of a logical block, for each type.
const LBA_SHIFTS: [u8; 2] = [9, 12];

struct NvmeDriver;

impl SettingDirectory for NvmeDriver {
    const DIRECTORY: &'static CStr = c"nvme";
    const SETTINGS: &'static [Entry<Self>] = &[
        setting::<Self, Capacity>(),
        setting::<Self, FilePath>(),
        setting::<Self, Queues>(),
        setting::<Self, Serial>(),
        setting::<Self, StoreAttribute>(),
        Entry::<Self>::END,
    ];
}

impl Driver for NvmeDriver {
    type Model = NvmeDevice;
    type Settings = NvmeSettings;

    const NAME: &'static CStr = c"ferry_nvme";
    const TYPES: &'static [Type] = &[
        Type {
            sysfs_name: c"512",
            pretty_name: c"Ferry NVMe controller, 512-byte blocks",
            description:
                c"NVMe 1.4 controller with one namespace of 512-byte logical blocks; live-migrates",
        },
        Type {
            sysfs_name: c"4096",
            pretty_name: c"Ferry NVMe controller, 4096-byte blocks",
            description:
                c"NVMe 1.4 controller with one namespace of 4096-byte logical blocks; live-migrates",
        },
    ];
    const MAX_INSTANCES: u32 = 1024;

    fn settings(type_index: usize, name: &CStr) -> Result<NvmeSettings> {
        Ok(NvmeSettings::new(LBA_SHIFTS[type_index], name))
    }

    fn bar_size(_type_index: usize, bar: u32) -> u64 {
        match bar {
            0 => Controller::BAR0_SIZE,
            _ => 0,
        }
    }

    fn open(settings: &NvmeSettings, log: Log<'_>) -> Result<NvmeDevice> {
        NvmeDevice::open(settings, log)
    }

    fn window_size() -> usize {
        module_parameters::window_size.value()
    }
}

struct Module {
    _registration: Registration<NvmeDriver>,
}

impl kernel::Module for Module {
    fn init(module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _registration: Registration::new(module)?,
        })
    }
}
