// SPDX-License-Identifier: GPL-2.0

//! The ids of functions that a variant driver binds when an administrator asks for it.
//!
//! C header: [`include/linux/mod_devicetable.h`](srctree/include/linux/mod_devicetable.h)

use kernel::{
    bindings,
    device_id::RawDeviceId, //
};

/// `PCI_ANY_ID`
const ANY: u32 = !0;

/// `PCI_ID_F_VFIO_DRIVER_OVERRIDE`: the driver binds a function only by its `driver_override`, and the module's
/// alias begins with `vfio_pci:`.
const OVERRIDE_ONLY: u32 = 1;

/// An entry of a variant driver's id table, `PCI_DRIVER_OVERRIDE_DEVICE_VFIO()`.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Id(bindings::pci_device_id);

impl Id {
    /// Functions of `vendor` with the device id `device`.
    pub const fn new(vendor: u16, device: u16) -> Self {
        Self(bindings::pci_device_id {
            vendor: vendor as u32,
            device: device as u32,
            subvendor: ANY,
            subdevice: ANY,
            class: 0,
            class_mask: 0,
            driver_data: 0,
            override_only: OVERRIDE_ONLY,
        })
    }
}

// SAFETY: `Id` is a transparent wrapper of the raw type.
unsafe impl RawDeviceId for Id {
    type RawType = bindings::pci_device_id;
}

/// Declares the id table of a variant driver, with its alias for modpost.
#[macro_export]
macro_rules! device_table {
    ($name:ident, [$($id:expr),* $(,)?]) => {
        ::kernel::module_device_table!("pci", $crate::Id, $name, @none, [$($id),*]);
    };
}
