// SPDX-License-Identifier: GPL-2.0

//! The PCI function: identity, capabilities, and the layout of base address register 0.

use pci_config::{
    Bar,
    Class,
    Identity,
    InterruptPin,
    Layout,
    EXTENDED_CONFIG_SPACE_SIZE, //
};

use crate::parameters::PAIRS;

/// Bytes of memory behind base address register 0.
pub(crate) const BAR0_SIZE: u64 = 0x4000;
/// Offset of the MSI-X table. The doorbells end here.
pub(crate) const MSIX_TABLE: u64 = 0x2000;
/// Offset of the pending bits of MSI-X.
const MSIX_PENDING: u64 = 0x3000;

/// Bytes of configuration space.
pub(crate) const CONFIG_SIZE: usize = EXTENDED_CONFIG_SPACE_SIZE;

/// MSI-X vectors: one for the admin queue, and one for each pair of I/O queues.
pub(crate) const VECTORS: u32 = PAIRS as u32;

/// Red Hat, whose device numbers 0x10f0 to 0x10ff anybody may use for experiments, according to
/// `docs/specs/pci-ids.rst` of QEMU.
pub(crate) const VENDOR_REDHAT_QUMRANET: u16 = 0x1af4;

/// The controller as the PCI bus sees it.
pub(crate) static LAYOUT: Layout = {
    /// A number of the range for experiments.
    const DEVICE_FERRY_NVME: u16 = 0x10f0;
    /// Mass storage, non-volatile memory, NVM Express I/O controller.
    const NVM_EXPRESS: Class = Class {
        base: 0x01,
        sub: 0x08,
        interface: 0x02,
    };

    Layout::new(&Identity {
        vendor: VENDOR_REDHAT_QUMRANET,
        device: DEVICE_FERRY_NVME,
        revision: 1,
        class: NVM_EXPRESS,
        subsystem_vendor: VENDOR_REDHAT_QUMRANET,
        subsystem: DEVICE_FERRY_NVME,
    })
    .bar(
        0,
        Bar::Memory64 {
            size: BAR0_SIZE,
            prefetchable: false,
        },
    )
    .interrupt_pin(InterruptPin::A)
    .power_management()
    .msix(VECTORS as u16, 0, MSIX_TABLE as u32, 0, MSIX_PENDING as u32)
    .express()
};
