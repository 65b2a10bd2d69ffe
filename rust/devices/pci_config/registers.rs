// SPDX-License-Identifier: GPL-2.0

//! Offsets and bits of the type 0 header and of the MSI capability.
//!
//! Names and values are those of `include/uapi/linux/pci_regs.h` without their `PCI_` prefix.

/// Vendor of the function, 16 bits.
pub(crate) const VENDOR_ID: usize = 0x00;
/// Device number that the vendor gave, 16 bits.
pub(crate) const DEVICE_ID: usize = 0x02;
/// Command register, 16 bits.
pub(crate) const COMMAND: usize = 0x04;
/// Status register, 16 bits.
pub(crate) const STATUS: usize = 0x06;
/// Revision of the device, 8 bits.
pub(crate) const REVISION_ID: usize = 0x08;
/// Programming interface, the lowest byte of the class code.
pub(crate) const CLASS_PROG: usize = 0x09;
/// Sub-class, the middle byte of the class code.
pub(crate) const CLASS_SUB: usize = 0x0a;
/// Base class, the highest byte of the class code.
pub(crate) const CLASS_BASE: usize = 0x0b;
/// Size of a cache line in units of 32 bits; software keeps it here, 8 bits.
pub(crate) const CACHE_LINE_SIZE: usize = 0x0c;
/// First of the six base address registers, 32 bits each.
pub(crate) const BASE_ADDRESS_0: usize = 0x10;
/// How many base address registers a type 0 header has.
pub(crate) const BASE_ADDRESS_COUNT: usize = 6;
/// Bytes of one base address register.
pub(crate) const BASE_ADDRESS_SIZE: usize = 4;
/// Vendor of the card or subsystem, 16 bits.
pub(crate) const SUBSYSTEM_VENDOR_ID: usize = 0x2c;
/// Device number of the card or subsystem, 16 bits.
pub(crate) const SUBSYSTEM_ID: usize = 0x2e;
/// Offset of the first capability, 8 bits.
pub(crate) const CAPABILITY_LIST: usize = 0x34;
/// Where firmware routed the interrupt pin; software keeps it here, 8 bits.
pub(crate) const INTERRUPT_LINE: usize = 0x3c;
/// Which interrupt pin the function drives, 8 bits.
pub(crate) const INTERRUPT_PIN: usize = 0x3d;
/// Where the device-specific part begins, and with it the room for capabilities.
pub(crate) const STD_HEADER_SIZEOF: usize = 0x40;

/// Command: the function answers I/O port accesses.
pub(crate) const COMMAND_IO: u16 = 1 << 0;
/// Command: the function answers memory accesses.
pub(crate) const COMMAND_MEMORY: u16 = 1 << 1;
/// Command: the function may access memory by itself, which a message-signalled interrupt does.
pub(crate) const COMMAND_MASTER: u16 = 1 << 2;
/// Command: the function must not assert its interrupt pin.
pub(crate) const COMMAND_INTX_DISABLE: u16 = 1 << 10;

/// Status: the function has an interrupt pending, whether or not its pin is disabled.
pub(crate) const STATUS_INTERRUPT: u16 = 1 << 3;
/// Status: the capability list is valid.
pub(crate) const STATUS_CAP_LIST: u16 = 1 << 4;

/// Base address: the register addresses I/O ports.
pub(crate) const BASE_ADDRESS_SPACE_IO: u32 = 1 << 0;
/// Base address: bits of an I/O register that hold the address.
pub(crate) const BASE_ADDRESS_IO_MASK: u32 = !0x3;
/// Base address: the memory may be anywhere in 64 bits, and the next register has the upper half.
pub(crate) const BASE_ADDRESS_MEM_TYPE_64: u32 = 1 << 2;
/// Base address: reads of the memory have no side effects.
pub(crate) const BASE_ADDRESS_MEM_PREFETCH: u32 = 1 << 3;
/// Base address: bits of a memory register that hold the address.
pub(crate) const BASE_ADDRESS_MEM_MASK: u32 = !0xf;

/// Capability number of message-signalled interrupts, at the start of their capability.
pub(crate) const CAP_ID_MSI: u8 = 0x05;
/// Where the MSI capability is.
pub(crate) const MSI: usize = STD_HEADER_SIZEOF;
/// MSI: message control, 16 bits from the start of the capability.
pub(crate) const MSI_FLAGS: usize = 2;
/// MSI: lower half of the message address.
pub(crate) const MSI_ADDRESS_LO: usize = 4;
/// MSI: upper half of the message address, in a capability that has 64 bits of it.
pub(crate) const MSI_ADDRESS_HI: usize = 8;
/// MSI: message data behind a 64-bit address, 16 bits.
pub(crate) const MSI_DATA_64: usize = 12;
/// MSI message control: messages are used instead of the interrupt pin.
pub(crate) const MSI_FLAGS_ENABLE: u16 = 1 << 0;
/// MSI message control: the message address has 64 bits.
pub(crate) const MSI_FLAGS_64BIT: u16 = 1 << 7;
/// MSI: a message is a 32-bit write to an aligned address.
pub(crate) const MSI_ADDRESS_LO_MASK: u32 = !0x3;
