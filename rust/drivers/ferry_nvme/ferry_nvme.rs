// SPDX-License-Identifier: GPL-2.0

//! `ferry_nvme`: a mediated NVMe controller that live-migrates.
//!
//! The model of the controller is the crate `nvme`; `ferry_core` makes a VFIO device of it. This driver
//! adds the backends that keep the content of a namespace, and the settings of an administrator.

#![forbid(unsafe_code)]

mod backend;
mod settings;

use crate::{
    backend::NvmeBackend,
    settings::{
        attributes::{
            Poll,
            Queues,
            Serial, //
        },
        namespace::{
            BlockSize,
            CacheAttribute,
            Capacity,
            FilePath,
            StoreAttribute, //
        },
        NvmeSettings, //
    },
};
use device_model::Log;
use ferry_core::{
    attributes::{
        setting,
        Directory,
        Entry,
        SettingDirectories, //
    },
    driver::{
        Driver,
        Type,
        Waker, //
    },
};
use kernel::{
    prelude::*,
    time::Delta, //
};
use nvme::{
    Controller,
    Parameters, //
};

ferry_core::module_driver!(NvmeDriver, {
    name: "ferry_nvme",
    authors: ["The Ferry authors"],
    description: "Mediated NVMe controller that live-migrates",
    license: "GPL",
});

/// Binary logarithms of the bytes of a logical block, for each type.
const LBA_SHIFTS: [u8; 2] = [9, 12];

struct NvmeDriver;

impl SettingDirectories for NvmeDriver {
    const DIRECTORIES: &'static [Directory<Self>] = &[
        Directory::<Self> {
            name: c"nvme",
            attributes: &[
                setting::<Self, CacheAttribute<1>>(),
                setting::<Self, Capacity<1>>(),
                setting::<Self, FilePath<1>>(),
                setting::<Self, Poll>(),
                setting::<Self, Queues>(),
                setting::<Self, Serial>(),
                setting::<Self, StoreAttribute<1>>(),
                Entry::<Self>::END,
            ],
        },
        namespace_directory::<2>(c"nvme-ns2"),
        namespace_directory::<3>(c"nvme-ns3"),
        namespace_directory::<4>(c"nvme-ns4"),
    ];
}

/// The attributes of a namespace other than the first one.
struct Namespace<const NSID: usize>;

impl<const NSID: usize> Namespace<NSID> {
    const SETTINGS: &'static [Entry<NvmeDriver>] = &[
        setting::<NvmeDriver, BlockSize<NSID>>(),
        setting::<NvmeDriver, CacheAttribute<NSID>>(),
        setting::<NvmeDriver, Capacity<NSID>>(),
        setting::<NvmeDriver, FilePath<NSID>>(),
        setting::<NvmeDriver, StoreAttribute<NSID>>(),
        Entry::<NvmeDriver>::END,
    ];
}

const fn namespace_directory<const NSID: usize>(name: &'static CStr) -> Directory<NvmeDriver> {
    Directory::<NvmeDriver> {
        name,
        attributes: Namespace::<NSID>::SETTINGS,
    }
}

impl Driver for NvmeDriver {
    type Model = Controller;
    type Backend = NvmeBackend;
    type Settings = NvmeSettings;
    type OwnerModule = LocalModule;

    const NAME: &'static CStr = c"ferry_nvme";
    const TYPES: &'static [Type] = &[
        Type {
            sysfs_name: c"512",
            pretty_name: c"Ferry NVMe controller, 512-byte blocks",
            description: c"NVMe 1.4 controller with logical blocks of 512 bytes; live-migrates",
        },
        Type {
            sysfs_name: c"4096",
            pretty_name: c"Ferry NVMe controller, 4096-byte blocks",
            description: c"NVMe 1.4 controller with logical blocks of 4096 bytes; live-migrates",
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

    fn open(
        settings: &NvmeSettings,
        waker: Waker,
        log: Log<'_>,
    ) -> Result<(Parameters, NvmeBackend)> {
        let backend = NvmeBackend::open(settings, &waker, log)?;
        let [first, others @ ..] = *backend.namespaces();
        let first = first.ok_or(EINVAL)?;
        let parameters = Parameters {
            capacity: first.capacity,
            lba_shift: first.lba_shift,
            queue_pairs: settings.queues,
            serial: settings.serial.0,
            store: first.store,
            others,
        };
        Ok((parameters, backend))
    }

    fn poll_time(settings: &NvmeSettings) -> Delta {
        Delta::from_micros(settings.poll.into())
    }
}
