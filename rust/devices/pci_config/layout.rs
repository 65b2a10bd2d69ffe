// SPDX-License-Identifier: GPL-2.0

//! The layout of a function: its power-on image, and the bits of it that software can change.

use crate::registers::{
    self as regs,
    CONFIG_SPACE_SIZE,
    EXTENDED_CONFIG_SPACE_SIZE, //
};

/// Class of a device, see the class table in `include/linux/pci_ids.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// Base class, such as 0x07 for a communication controller.
    pub base: u8,
    /// Sub-class within the base class.
    pub sub: u8,
    /// Programming interface within the sub-class.
    pub interface: u8,
}

/// Maker and kind of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Vendor number that the PCI-SIG assigned.
    pub vendor: u16,
    /// Device number that the vendor assigned.
    pub device: u16,
    /// Revision of the device.
    pub revision: u8,
    /// Class of the device.
    pub class: Class,
    /// Vendor number of the card or subsystem.
    pub subsystem_vendor: u16,
    /// Device number of the card or subsystem.
    pub subsystem: u16,
}

/// A base address register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// A range of I/O ports.
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

/// A field of at most four bits within one byte, some of whose values are impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// Name of the field, for refusals.
    pub(crate) name: &'static str,
    /// Offset of the byte that has the field.
    pub(crate) at: usize,
    /// Bits of the field in the byte.
    pub(crate) mask: u8,
    /// The possible values as a set of bits: bit `n` stands for `n`.
    values: u16,
}

impl Field {
    /// Returns the value of the field in `byte`.
    pub(crate) const fn value(&self, byte: u8) -> u8 {
        match (byte & self.mask).checked_shr(self.mask.trailing_zeros()) {
            Some(value) => value,
            None => 0,
        }
    }

    /// Returns whether the value of the field in `byte` is possible.
    pub(crate) const fn allows(&self, byte: u8) -> bool {
        match 1u16.checked_shl(self.value(byte) as u32) {
            Some(bit) => self.values & bit != 0,
            None => false,
        }
    }
}

/// The most fields that a layout restricts.
const FIELDS_MAX: usize = 2;

/// Kind of the range behind a base address register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoder {
    /// I/O ports.
    Io,
    /// Memory.
    Memory,
}

/// The layout of a function: the values after power-on, and the bits that software can change.
///
/// Build it in a `static`, where the compiler refuses a layout that breaks a rule:
///
/// ```
/// # use pci_config::{Bar, Class, Identity, InterruptPin, Layout};
/// static SERIAL: Layout = Layout::new(&Identity {
///     vendor: 0x1af4,
///     device: 0x10f1,
///     revision: 1,
///     class: Class { base: 0x07, sub: 0x00, interface: 0x02 },
///     subsystem_vendor: 0x1af4,
///     subsystem: 0x10f1,
/// })
/// .bar(0, Bar::Io { size: 8 })
/// .interrupt_pin(InterruptPin::A)
/// .msi();
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    power_on: [u8; CONFIG_SPACE_SIZE],
    writable: [u8; CONFIG_SPACE_SIZE],
    /// The writable bits that a function level reset leaves alone.
    survives: [u8; CONFIG_SPACE_SIZE],
    /// The bits that a bus driver saves before it resets the function, and writes back afterwards.
    restored: [u8; CONFIG_SPACE_SIZE],
    /// The fields with impossible values.
    fields: [Option<Field>; FIELDS_MAX],
    /// Offset of the next capability.
    free: usize,
    /// Offset of the byte that links to the next capability, in the header or in the last capability.
    link: usize,
    /// Offset of the MSI capability, if there is one.
    msi: Option<usize>,
    /// Offset of the MSI-X capability, if there is one.
    msix: Option<usize>,
    /// Offset of the PCI Express capability, if there is one.
    express: Option<usize>,
    /// Offset of the power management capability, if there is one.
    power_management: Option<usize>,
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
            survives: [0; CONFIG_SPACE_SIZE],
            restored: [0; CONFIG_SPACE_SIZE],
            fields: [None; FIELDS_MAX],
            free: regs::STD_HEADER_SIZEOF,
            link: regs::CAPABILITY_LIST,
            msi: None,
            msix: None,
            express: None,
            power_management: None,
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

        let mut at = 0;
        while at < regs::STD_HEADER_SIZEOF {
            layout.restored[at] = u8::MAX;
            at += 1;
        }
        layout
    }

    /// Adds base address register `index`, 0 to 5.
    ///
    /// # Panics
    ///
    /// The register does not exist or is taken, or it cannot express the size.
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
    /// The field for the number of vectors in use is hard-wired, as there is only one vector.
    ///
    /// # Panics
    ///
    /// The layout has the capability already.
    pub const fn msi(mut self) -> Self {
        assert!(self.msi.is_none(), "a function has one MSI capability");
        let at = self.capability(regs::CAP_ID_MSI, regs::MSI_SIZEOF);
        self.msi = Some(at);

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

    /// Adds the MSI-X capability with `vectors` vectors, 1 to 2048.
    ///
    /// Their table is at `table_offset` of the memory behind base address register `table_bar`, and
    /// the pending bits are at `pending_offset` of the memory behind `pending_bar`.
    ///
    /// # Panics
    ///
    /// The layout has the capability already, the capability cannot express the number of vectors, or the
    /// table or the pending bits are not at a multiple of 8 bytes inside of memory that was added with
    /// [`Layout::bar`].
    pub const fn msix(
        mut self,
        vectors: u16,
        table_bar: usize,
        table_offset: u32,
        pending_bar: usize,
        pending_offset: u32,
    ) -> Self {
        assert!(self.msix.is_none(), "a function has one MSI-X capability");
        assert!(
            0 < vectors && vectors <= regs::MSIX_FLAGS_QSIZE + 1,
            "MSI-X has 1 to 2048 vectors"
        );
        let table_size = vectors as u64 * regs::MSIX_ENTRY_SIZE;
        // Each vector has one pending bit, in words of 64 bits.
        let pending_size = (vectors as u64).div_ceil(u64::BITS as u64) * 8;
        let table = self.msix_place(table_bar, table_offset, table_size);
        let pending = self.msix_place(pending_bar, pending_offset, pending_size);
        let at = self.capability(regs::CAP_ID_MSIX, regs::MSIX_SIZEOF);
        self.msix = Some(at);

        put_u16(&mut self.power_on, at + regs::MSIX_FLAGS, vectors - 1);
        put_u16(
            &mut self.writable,
            at + regs::MSIX_FLAGS,
            regs::MSIX_FLAGS_ENABLE | regs::MSIX_FLAGS_MASKALL,
        );
        put_u32(&mut self.power_on, at + regs::MSIX_TABLE, table);
        put_u32(&mut self.power_on, at + regs::MSIX_PBA, pending);
        self
    }

    /// Adds the PCI Express capability, version 2, of an endpoint that can be reset by itself, and
    /// with it the extended configuration space, which has no capability.
    ///
    /// The bits are those of section 2.5 of the NVM Express base specification, revision 1.4, which
    /// takes them from the PCI Express base specification. Bits that the former has as read-write are
    /// so, as far as the latter allows it without the capability; bits that may be hard-wired are.
    ///
    /// The function has no link whose speed, width or state could matter. The registers describe a link
    /// with four lanes of 8 GT/s, so that software finds no bottleneck here, and with all low-power
    /// states, so that software may choose any. The control bits have no effect, except the bit that
    /// [`ConfigSpace::requests_reset`](crate::ConfigSpace::requests_reset) finds.
    ///
    /// # Panics
    ///
    /// The layout has the capability already.
    pub const fn express(mut self) -> Self {
        assert!(
            self.express.is_none(),
            "a function has one PCI Express capability"
        );
        let at = self.capability(regs::CAP_ID_EXP, regs::EXP_SIZEOF);
        self.express = Some(at);

        put_u16(
            &mut self.power_on,
            at + regs::EXP_FLAGS,
            regs::EXP_FLAGS_VERSION_2 | regs::EXP_FLAGS_TYPE_ENDPOINT,
        );
        // Payloads have up to 128 bytes, so that the size in device control is hard-wired.
        put_u32(
            &mut self.power_on,
            at + regs::EXP_DEVCAP,
            regs::EXP_DEVCAP_RBER | regs::EXP_DEVCAP_FLR,
        );
        put_u16(
            &mut self.power_on,
            at + regs::EXP_DEVCTL,
            regs::EXP_DEVCTL_RELAX_EN | regs::EXP_DEVCTL_NOSNOOP_EN | regs::EXP_DEVCTL_READRQ_512B,
        );
        put_u16(
            &mut self.writable,
            at + regs::EXP_DEVCTL,
            regs::EXP_DEVCTL_ERRORS
                | regs::EXP_DEVCTL_RELAX_EN
                | regs::EXP_DEVCTL_NOSNOOP_EN
                | regs::EXP_DEVCTL_READRQ,
        );
        self.restrict(
            "DEVCTL.Max_Read_Request_Size",
            at + regs::EXP_DEVCTL,
            regs::EXP_DEVCTL_READRQ,
            regs::EXP_READRQ_SIZES,
        );
        put_u32(
            &mut self.power_on,
            at + regs::EXP_LNKCAP,
            regs::EXP_LINK_8_0GT as u32
                | regs::EXP_LINK_X4 as u32
                | regs::EXP_LNKCAP_ASPM_L0S_L1
                | regs::EXP_LNKCAP_CLKPM
                | regs::EXP_LNKCAP_ASPM_OPTIONALITY,
        );
        let link_control = regs::EXP_LNKCTL_ASPMC
            | regs::EXP_LNKCTL_RCB
            | regs::EXP_LNKCTL_CCC
            | regs::EXP_LNKCTL_ES
            | regs::EXP_LNKCTL_CLKREQ_EN;
        put_u16(&mut self.writable, at + regs::EXP_LNKCTL, link_control);
        // Section 6.6.2 of the PCI Express base specification lists each of these bits: the two ends of a
        // link have to agree on them.
        put_u16(&mut self.survives, at + regs::EXP_LNKCTL, link_control);
        put_u16(
            &mut self.power_on,
            at + regs::EXP_LNKSTA,
            regs::EXP_LINK_8_0GT | regs::EXP_LINK_X4,
        );
        put_u32(
            &mut self.power_on,
            at + regs::EXP_DEVCAP2,
            regs::EXP_DEVCAP2_COMP_TMOUT_DIS,
        );
        put_u16(
            &mut self.writable,
            at + regs::EXP_DEVCTL2,
            regs::EXP_DEVCTL2_COMP_TMOUT_DIS,
        );
        put_u32(
            &mut self.power_on,
            at + regs::EXP_LNKCAP2,
            regs::EXP_LNKCAP2_UP_TO_8_0GT,
        );
        put_u16(
            &mut self.power_on,
            at + regs::EXP_LNKCTL2,
            regs::EXP_LINK_8_0GT,
        );
        // `pci_save_pcie_state()`.
        put_u16(&mut self.restored, at + regs::EXP_DEVCTL, u16::MAX);
        put_u16(&mut self.restored, at + regs::EXP_LNKCTL, u16::MAX);
        put_u16(&mut self.restored, at + regs::EXP_DEVCTL2, u16::MAX);
        self
    }

    /// Adds the power management capability, version 3, with the states D0 and D3hot, which software
    /// can choose. The function keeps all its state in both, and never wakes the system up.
    ///
    /// # Panics
    ///
    /// The layout has the capability already.
    pub const fn power_management(mut self) -> Self {
        assert!(
            self.power_management.is_none(),
            "a function has one power management capability"
        );
        let at = self.capability(regs::CAP_ID_PM, regs::PM_SIZEOF);
        self.power_management = Some(at);

        put_u16(
            &mut self.power_on,
            at + regs::PM_PMC,
            regs::PM_CAP_VERSION_1_2,
        );
        put_u16(
            &mut self.power_on,
            at + regs::PM_CTRL,
            regs::PM_CTRL_NO_SOFT_RESET,
        );
        put_u16(
            &mut self.writable,
            at + regs::PM_CTRL,
            regs::PM_CTRL_STATE_MASK,
        );
        // The capabilities announce neither D1 nor D2. Section 3.2.4 of the PCI Power Management
        // Specification: a write of a state that is not supported is discarded.
        self.restrict(
            "PMCSR.PowerState",
            at + regs::PM_CTRL,
            regs::PM_CTRL_STATE_MASK,
            1 << regs::PM_CTRL_STATE_D0 | 1 << regs::PM_CTRL_STATE_D3HOT,
        );
        self
    }

    /// Bytes of configuration space: a PCI Express function has the extended ones.
    pub const fn size(&self) -> usize {
        match self.express {
            Some(_) => EXTENDED_CONFIG_SPACE_SIZE,
            None => CONFIG_SPACE_SIZE,
        }
    }

    /// The values after power-on.
    pub(crate) const fn power_on(&self) -> &[u8; CONFIG_SPACE_SIZE] {
        &self.power_on
    }

    /// The bits that software can change.
    pub(crate) const fn writable(&self) -> &[u8; CONFIG_SPACE_SIZE] {
        &self.writable
    }

    /// The bits that software can change and that a function level reset leaves alone.
    pub(crate) const fn survives(&self) -> &[u8; CONFIG_SPACE_SIZE] {
        &self.survives
    }

    /// The bits that a bus driver restores after a reset.
    pub(crate) const fn restored(&self) -> &[u8; CONFIG_SPACE_SIZE] {
        &self.restored
    }

    /// The fields with impossible values.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().flatten()
    }

    /// Returns the kind of range behind base address register `bar`, if the function has the register.
    pub(crate) fn decoder(&self, bar: usize) -> Option<Decoder> {
        if bar >= regs::BASE_ADDRESS_COUNT {
            return None;
        }
        let at = regs::BASE_ADDRESS_0 + bar * regs::BASE_ADDRESS_SIZE;
        let kind = get_u32(&self.power_on, at);
        if kind | get_u32(&self.writable, at) == 0 {
            return None;
        }
        Some(if kind & regs::BASE_ADDRESS_SPACE_IO != 0 {
            Decoder::Io
        } else {
            Decoder::Memory
        })
    }

    /// Offset of the message control of the MSI capability.
    pub(crate) fn msi_flags(&self) -> Option<usize> {
        self.msi.map(|at| at + regs::MSI_FLAGS)
    }

    /// Offset of the message control of the MSI-X capability.
    pub(crate) fn msix_flags(&self) -> Option<usize> {
        self.msix.map(|at| at + regs::MSIX_FLAGS)
    }

    /// Offset of the device control of the PCI Express capability.
    pub(crate) fn express_device_control(&self) -> Option<usize> {
        self.express.map(|at| at + regs::EXP_DEVCTL)
    }

    /// Offset of the control and status register of power management.
    pub(crate) fn power_control(&self) -> Option<usize> {
        self.power_management.map(|at| at + regs::PM_CTRL)
    }

    /// Restricts a field of the 16-bit register at `at` to the set `values`, in which bit `n` stands for
    /// `n`.
    const fn restrict(&mut self, name: &'static str, at: usize, mask: u16, values: u16) {
        let [low, high] = mask.to_le_bytes();
        let (at, mask) = if high == 0 { (at, low) } else { (at + 1, high) };
        let field = Field {
            name,
            at,
            mask,
            values,
        };
        assert!(
            (low == 0) != (high == 0) && mask.count_ones() <= 4,
            "a restricted field has 1 to 4 bits in one byte"
        );
        assert!(
            self.writable[at] & mask == mask,
            "software can change a restricted field"
        );
        assert!(
            field.allows(self.power_on[at]),
            "a field can have its value after power-on"
        );

        let mut index = 0;
        while index < FIELDS_MAX && self.fields[index].is_some() {
            index += 1;
        }
        assert!(index < FIELDS_MAX, "there is room for the field");
        self.fields[index] = Some(field);
    }

    /// Appends a capability of `size` bytes to the list and returns its offset.
    const fn capability(&mut self, id: u8, size: usize) -> usize {
        let at = self.free;
        assert!(
            size <= CONFIG_SPACE_SIZE - at,
            "there is room for the capability"
        );

        self.power_on[self.link] = at as u8;
        self.power_on[at] = id;
        let status = get_u16(&self.power_on, regs::STATUS) | regs::STATUS_CAP_LIST;
        put_u16(&mut self.power_on, regs::STATUS, status);

        self.link = at + regs::CAP_LIST_NEXT;
        self.free = at + size.next_multiple_of(regs::CAP_ALIGNMENT);
        at
    }

    /// Returns the value of the register that locates a structure of MSI-X.
    const fn msix_place(&self, bar: usize, offset: u32, size: u64) -> u32 {
        assert!(
            bar < regs::BASE_ADDRESS_COUNT,
            "a function has six base address registers"
        );
        let at = regs::BASE_ADDRESS_0 + bar * regs::BASE_ADDRESS_SIZE;
        let kind = get_u32(&self.power_on, at);
        assert!(
            get_u32(&self.writable, at) != 0 && kind & regs::BASE_ADDRESS_SPACE_IO == 0,
            "MSI-X is behind a base address register for memory"
        );
        assert!(
            offset & regs::MSIX_BIR_MASK == 0,
            "MSI-X is at a multiple of 8 bytes"
        );
        // The lowest writable bit of a register is its size.
        let memory = 1 << (get_u32(&self.writable, at)).trailing_zeros();
        assert!(
            offset as u64 + size <= memory,
            "MSI-X is inside of the memory of its base address register"
        );
        offset | bar as u32
    }

    const fn base_address(&mut self, index: usize, kind: u32, writable: u32) {
        assert!(
            index < regs::BASE_ADDRESS_COUNT,
            "a function has six base address registers"
        );
        let at = regs::BASE_ADDRESS_0 + index * regs::BASE_ADDRESS_SIZE;
        // The lower half of a large register has no writable bits, but flags.
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
