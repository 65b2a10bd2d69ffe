// SPDX-License-Identifier: GPL-2.0

//! `ferry_e1000e`: a vfio-pci variant driver of the Intel 82574L that live-migrates.
//!
//! The sequences are the crate `e1000e`; `ferry_core` makes a VFIO device of the function.

#![forbid(unsafe_code)]

use e1000e::{
    Controller,
    Following,
    Slot, //
};
use ferry_core::variant::{
    DirtyTracking,
    Driver,
    Id,
    Identity, //
};
use kernel::{
    device_id::IdTable,
    prelude::*, //
};

ferry_core::variant_driver!(E1000eDriver, {
    name: "ferry_e1000e",
    authors: ["The Ferry authors"],
    description: "vfio-pci variant driver of the Intel 82574L that live-migrates",
    license: "GPL",
});

/// Intel
const VENDOR: u16 = 0x8086;
/// The most descriptors of a receive ring that is followed, Linux's `E1000_MAX_RXD`.
const DESCRIPTORS: usize = 4096;
/// 82574L
const DEVICE: u16 = 0x10d3;

vfio_pci::device_table!(IDS, [Id::new(VENDOR, DEVICE)]);

struct E1000eDriver;

impl Driver for E1000eDriver {
    type Hardware = Controller<KVVec<Slot>>;
    type OwnerModule = LocalModule;

    const NAME: &'static CStr = c"ferry_e1000e";
    const IDS: &'static dyn IdTable<Id, ()> = &IDS;
    const REGISTER_BAR: u32 = 0;

    fn open(identity: &Identity, tracking: DirtyTracking) -> Result<Self::Hardware> {
        let mut bars = [0; 6];
        for (bar, size) in bars.iter_mut().zip(identity.bars) {
            *bar = u32::try_from(size).map_err(|_| EINVAL)?;
        }

        let (following, slots) = match tracking {
            DirtyTracking::Off => (Following::Off, 0),
            DirtyTracking::Usual => (Following::ReceiveTrapped, DESCRIPTORS),
            DirtyTracking::Strict => (Following::BothTrapped, DESCRIPTORS),
        };

        Ok(Controller::new(
            e1000e::Identity {
                device: identity.device,
                subsystem_vendor: identity.subsystem_vendor,
                subsystem: identity.subsystem,
                revision: identity.revision,
                bars,
                config_space: identity.config_layout,
            },
            following,
            [
                KVVec::from_elem(Slot::default(), slots, GFP_KERNEL_ACCOUNT)?,
                KVVec::from_elem(Slot::default(), slots, GFP_KERNEL_ACCOUNT)?,
            ],
        ))
    }
}
