// SPDX-License-Identifier: GPL-2.0

//! What a function looks like: its power-on image and the bits of it that software can change.

use crate::registers as regs;
use crate::space::CONFIG_SPACE_SIZE;

/// What kind of device a function is, see the class table in `include/linux/pci_ids.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// Base class, such as 0x07 for a communication controller.
    pub base: u8,
    /// Sub-class within the base class.
    pub sub: u8,
    /// Programming interface within the sub-class.
    pub interface: u8,
}

/// Who made a function and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Vendor number that the PCI-SIG assigned.
    pub vendor: u16,
    /// Device number that the vendor assigned.
    pub device: u16,
    /// Revision of the device.
    pub revision: u8,
    /// Class code.
    pub class: Class,
    /// Vendor number of the card or subsystem.
    pub subsystem_vendor: u16,
    /// Device number of the card or subsystem.
    pub subsystem: u16,
}

/// A base address register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// I/O ports.
    Io {
        /// Number of ports: a power of two, from 4 to 256.
        size: u32,
    },
    /// Memory below 4 GiB.
    Memory32 {
        /// Number of bytes: a power of two, at least 16.
        size: u32,
        /// Whether reads have no side effects.
        prefetchable: bool,
    },
    /// Memory anywhere. Takes two registers.
    Memory64 {
        /// Number of bytes: a power of two, at least 16.
        size: u64,
        /// Whether reads have no side effects.
        prefetchable: bool,
    },
}

/// The interrupt pin that a function drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum InterruptPin {
    /// INTA#, which a device with one function has to use.
    A = 1,
    /// INTB#.
    B = 2,
    /// INTC#.
    C = 3,
    /// INTD#.
    D = 4,
}

/// The shape of a function: what it reads after power-on and which bits software can change.
///
/// Build it in a `static`, where the compiler refuses a layout that breaks a rule:
///
/// ```
/// # use pci_config::{Bar, Class, Identity, InterruptPin, Layout};
/// static SERIAL: Layout = Layout::new(&Identity {
///     vendor: 0x1b36,
///     device: 0x0002,
///     revision: 1,
///     class: Class { base: 0x07, sub: 0x00, interface: 0x02 },
///     subsystem_vendor: 0x1af4,
///     subsystem: 0x1100,
/// })
/// .bar(0, Bar::Io { size: 8 })
/// .interrupt_pin(InterruptPin::A)
/// .msi();
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    power_on: [u8; CONFIG_SPACE_SIZE],
    writable: [u8; CONFIG_SPACE_SIZE],
    /// Whether there is an MSI capability.
    msi: bool,
}

impl Layout {
    /// Returns the layout of a function that has neither base address registers nor interrupts.
    ///
    /// Software can set bus mastering, disable the interrupt pin, and keep the cache line size and
    /// the interrupt line.
    pub const fn new(identity: &Identity) -> Self {
        let mut layout = Self {
            power_on: [0; CONFIG_SPACE_SIZE],
            writable: [0; CONFIG_SPACE_SIZE],
            msi: false,
        };

        put_u16(&mut layout.power_on, regs::VENDOR_ID, identity.vendor);
        put_u16(&mut layout.power_on, regs::DEVICE_ID, identity.device);
        layout.power_on[regs::REVISION_ID] = identity.revision;
        layout.power_on[regs::CLASS_PROG] = identity.class.interface;
        layout.power_on[regs::CLASS_SUB] = identity.class.sub;
        layout.power_on[regs::CLASS_BASE] = identity.class.base;
        put_u16(
            &mut layout.power_on,
            regs::SUBSYSTEM_VENDOR_ID,
            identity.subsystem_vendor,
        );
        put_u16(&mut layout.power_on, regs::SUBSYSTEM_ID, identity.subsystem);

        put_u16(
            &mut layout.writable,
            regs::COMMAND,
            regs::COMMAND_MASTER | regs::COMMAND_INTX_DISABLE,
        );
        layout.writable[regs::CACHE_LINE_SIZE] = u8::MAX;
        layout.writable[regs::INTERRUPT_LINE] = u8::MAX;
        layout
    }

    /// Adds base address register `index`, 0 to 5.
    ///
    /// # Panics
    ///
    /// The register does not exist or is taken, or the size is not one that a register can express.
    pub const fn bar(mut self, index: usize, bar: Bar) -> Self {
        let (command, kind, address_mask, size) = match bar {
            Bar::Io { size } => {
                assert!(size <= 256, "an I/O register has at most 256 ports");
                (
                    regs::COMMAND_IO,
                    regs::BASE_ADDRESS_SPACE_IO,
                    regs::BASE_ADDRESS_IO_MASK,
                    size as u64,
                )
            }
            Bar::Memory32 { size, prefetchable } => (
                regs::COMMAND_MEMORY,
                prefetch(prefetchable),
                regs::BASE_ADDRESS_MEM_MASK,
                size as u64,
            ),
            Bar::Memory64 { size, prefetchable } => (
                regs::COMMAND_MEMORY,
                regs::BASE_ADDRESS_MEM_TYPE_64 | prefetch(prefetchable),
                regs::BASE_ADDRESS_MEM_MASK,
                size,
            ),
        };
        assert!(
            size.is_power_of_two(),
            "a register's size is a power of two"
        );
        assert!(
            size > !address_mask as u64,
            "a register's size covers its flag bits"
        );

        let size_mask = !(size - 1);
        self.base_address(index, kind, size_mask as u32 & address_mask);
        if let Bar::Memory64 { .. } = bar {
            self.base_address(index + 1, 0, (size_mask >> u32::BITS) as u32);
        }

        let commands = get_u16(&self.writable, regs::COMMAND) | command;
        put_u16(&mut self.writable, regs::COMMAND, commands);
        self
    }

    /// Names the interrupt pin that the function drives.
    pub const fn interrupt_pin(mut self, pin: InterruptPin) -> Self {
        self.power_on[regs::INTERRUPT_PIN] = pin as u8;
        self
    }

    /// Adds the MSI capability: one vector, 64-bit address, no per-vector masking.
    ///
    /// With one vector there is nothing to choose in the field for the number of vectors in use, so
    /// it is hard-wired.
    ///
    /// # Panics
    ///
    /// The capability is there already.
    pub const fn msi(mut self) -> Self {
        assert!(!self.msi, "a function has one MSI capability");
        self.msi = true;

        let at = regs::MSI;
        // It is the only capability, so the list ends with it.
        self.power_on[regs::CAPABILITY_LIST] = at as u8;
        self.power_on[at] = regs::CAP_ID_MSI;
        let status = get_u16(&self.power_on, regs::STATUS) | regs::STATUS_CAP_LIST;
        put_u16(&mut self.power_on, regs::STATUS, status);

        put_u16(
            &mut self.power_on,
            at + regs::MSI_FLAGS,
            regs::MSI_FLAGS_64BIT,
        );
        put_u16(
            &mut self.writable,
            at + regs::MSI_FLAGS,
            regs::MSI_FLAGS_ENABLE,
        );
        put_u32(
            &mut self.writable,
            at + regs::MSI_ADDRESS_LO,
            regs::MSI_ADDRESS_LO_MASK,
        );
        put_u32(&mut self.writable, at + regs::MSI_ADDRESS_HI, u32::MAX);
        put_u16(&mut self.writable, at + regs::MSI_DATA_64, u16::MAX);
        self
    }

    /// What the function reads after power-on.
    pub(crate) const fn power_on(&self) -> &[u8; CONFIG_SPACE_SIZE] {
        &self.power_on
    }

    /// A set bit is one that software can change.
    pub(crate) const fn writable(&self) -> &[u8; CONFIG_SPACE_SIZE] {
        &self.writable
    }

    /// Offset of the message control of the MSI capability.
    pub(crate) fn msi_flags(&self) -> Option<usize> {
        self.msi.then_some(regs::MSI + regs::MSI_FLAGS)
    }

    const fn base_address(&mut self, index: usize, kind: u32, writable: u32) {
        assert!(
            index < regs::BASE_ADDRESS_COUNT,
            "a function has six base address registers"
        );
        let at = regs::BASE_ADDRESS_0 + index * regs::BASE_ADDRESS_SIZE;
        // Half of a large register has no writable bits, but it has flags.
        assert!(
            get_u32(&self.writable, at) | get_u32(&self.power_on, at) == 0,
            "the base address register is free"
        );

        put_u32(&mut self.power_on, at, kind);
        put_u32(&mut self.writable, at, writable);
    }
}

const fn prefetch(prefetchable: bool) -> u32 {
    if prefetchable {
        regs::BASE_ADDRESS_MEM_PREFETCH
    } else {
        0
    }
}

const fn get_u16(image: &[u8; CONFIG_SPACE_SIZE], at: usize) -> u16 {
    u16::from_le_bytes([image[at], image[at + 1]])
}

const fn get_u32(image: &[u8; CONFIG_SPACE_SIZE], at: usize) -> u32 {
    u32::from_le_bytes([image[at], image[at + 1], image[at + 2], image[at + 3]])
}

const fn put_u16(image: &mut [u8; CONFIG_SPACE_SIZE], at: usize, value: u16) {
    let [low, high] = value.to_le_bytes();
    image[at] = low;
    image[at + 1] = high;
}

const fn put_u32(image: &mut [u8; CONFIG_SPACE_SIZE], at: usize, value: u32) {
    put_u16(image, at, value as u16);
    put_u16(image, at + 2, (value >> u16::BITS) as u16);
}
