// SPDX-License-Identifier: GPL-2.0

//! Offsets and bits of the type 0 header and of capabilities.
//!
//! Names and values are those of `include/uapi/linux/pci_regs.h` without their `PCI_` prefix.

/// Bytes of conventional configuration space, which has all that software can change.
pub const CONFIG_SPACE_SIZE: usize = 256;

/// Bytes of the configuration space of a PCI Express function. The bytes behind the conventional ones have
/// no capability: they read as 0.
pub const EXTENDED_CONFIG_SPACE_SIZE: usize = 4096;

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
/// Number of base address registers of a type 0 header.
pub(crate) const BASE_ADDRESS_COUNT: usize = 6;
/// Bytes of one base address register.
pub(crate) const BASE_ADDRESS_SIZE: usize = 4;
/// Vendor of the card or subsystem, 16 bits.
pub(crate) const SUBSYSTEM_VENDOR_ID: usize = 0x2c;
/// Device number of the card or subsystem, 16 bits.
pub(crate) const SUBSYSTEM_ID: usize = 0x2e;
/// Offset of the first capability, 8 bits.
pub(crate) const CAPABILITY_LIST: usize = 0x34;
/// Interrupt line: the routing of the interrupt pin, which firmware keeps here for software, 8 bits.
pub(crate) const INTERRUPT_LINE: usize = 0x3c;
/// Interrupt pin that the function drives, 8 bits.
pub(crate) const INTERRUPT_PIN: usize = 0x3d;
/// Offset of the device-specific part, which has the capabilities.
pub(crate) const STD_HEADER_SIZEOF: usize = 0x40;

/// Command: the function answers I/O port accesses.
pub(crate) const COMMAND_IO: u16 = 1 << 0;
/// Command: the function answers memory accesses.
pub(crate) const COMMAND_MEMORY: u16 = 1 << 1;
/// Command: the function may access memory by itself, also to send a message-signalled interrupt.
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

/// Offset of the next capability, 8 bits, from the start of any capability.
pub(crate) const CAP_LIST_NEXT: usize = 1;
/// Capabilities begin at a multiple of this many bytes.
pub(crate) const CAP_ALIGNMENT: usize = 4;

/// Capability number of message-signalled interrupts, at the start of their capability.
pub(crate) const CAP_ID_MSI: u8 = 0x05;
/// Bytes of the MSI capability with a 64-bit address and without masks.
pub(crate) const MSI_SIZEOF: usize = 14;
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

/// Capability number of MSI-X.
pub(crate) const CAP_ID_MSIX: u8 = 0x11;
/// Bytes of the MSI-X capability.
pub(crate) const MSIX_SIZEOF: usize = 12;
/// MSI-X: message control, 16 bits from the start of the capability.
pub(crate) const MSIX_FLAGS: usize = 2;
/// MSI-X: base address register and offset of the table, 32 bits.
pub(crate) const MSIX_TABLE: usize = 4;
/// MSI-X: base address register and offset of the pending bits, 32 bits.
pub(crate) const MSIX_PBA: usize = 8;
/// MSI-X message control: number of vectors less one.
pub(crate) const MSIX_FLAGS_QSIZE: u16 = 0x07ff;
/// MSI-X message control: all vectors are masked.
pub(crate) const MSIX_FLAGS_MASKALL: u16 = 1 << 14;
/// MSI-X message control: MSI-X is used instead of the interrupt pin.
pub(crate) const MSIX_FLAGS_ENABLE: u16 = 1 << 15;
/// MSI-X: the bits of a locating register that have the base address register; the others are the offset.
pub(crate) const MSIX_BIR_MASK: u32 = 0x7;
/// MSI-X: bytes of a vector in the table.
pub(crate) const MSIX_ENTRY_SIZE: u64 = 16;

/// Capability number of PCI Express.
pub(crate) const CAP_ID_EXP: u8 = 0x10;
/// Bytes of the PCI Express capability, version 2.
pub(crate) const EXP_SIZEOF: usize = 0x3c;
/// PCI Express: version and type, 16 bits from the start of the capability.
pub(crate) const EXP_FLAGS: usize = 0x02;
/// PCI Express: device capabilities, 32 bits.
pub(crate) const EXP_DEVCAP: usize = 0x04;
/// PCI Express: device control, 16 bits.
pub(crate) const EXP_DEVCTL: usize = 0x08;
/// PCI Express: link capabilities, 32 bits.
pub(crate) const EXP_LNKCAP: usize = 0x0c;
/// PCI Express: link control, 16 bits.
pub(crate) const EXP_LNKCTL: usize = 0x10;
/// PCI Express: link status, 16 bits.
pub(crate) const EXP_LNKSTA: usize = 0x12;
/// PCI Express: more device capabilities, 32 bits.
pub(crate) const EXP_DEVCAP2: usize = 0x24;
/// PCI Express: more device control, 16 bits.
pub(crate) const EXP_DEVCTL2: usize = 0x28;
/// PCI Express: more link capabilities, 32 bits.
pub(crate) const EXP_LNKCAP2: usize = 0x2c;
/// PCI Express: more link control, 16 bits.
pub(crate) const EXP_LNKCTL2: usize = 0x30;
/// PCI Express: the capability has version 2.
pub(crate) const EXP_FLAGS_VERSION_2: u16 = 2;
/// PCI Express: the function is an endpoint.
pub(crate) const EXP_FLAGS_TYPE_ENDPOINT: u16 = 0x0 << 4;
/// Device capabilities: errors are reported by role, as every device since revision 1.1 does.
pub(crate) const EXP_DEVCAP_RBER: u32 = 1 << 15;
/// Device capabilities: the function can be reset by itself.
pub(crate) const EXP_DEVCAP_FLR: u32 = 1 << 28;
/// Device control: the errors that are reported.
pub(crate) const EXP_DEVCTL_ERRORS: u16 = 0x000f;
/// Device control: relaxed ordering is allowed.
pub(crate) const EXP_DEVCTL_RELAX_EN: u16 = 1 << 4;
/// Device control: transactions that are not snooped are allowed.
pub(crate) const EXP_DEVCTL_NOSNOOP_EN: u16 = 1 << 11;
/// Device control: maximum read request size.
pub(crate) const EXP_DEVCTL_READRQ: u16 = 0x7000;
/// Device control: reads have at most 512 bytes, the default.
pub(crate) const EXP_DEVCTL_READRQ_512B: u16 = 0x2000;
/// Maximum read request sizes of 128, 256, 512, 1024, 2048 and 4096 bytes, one bit for each encoding;
/// 6 and 7 are reserved.
pub(crate) const EXP_READRQ_SIZES: u16 = 0b0011_1111;
/// Device control: resets the function; reads as 0.
pub(crate) const EXP_DEVCTL_BCR_FLR: u16 = 1 << 15;
/// Link capabilities, status and control 2: 8 GT/s.
pub(crate) const EXP_LINK_8_0GT: u16 = 0x3;
/// Link capabilities and status: four lanes.
pub(crate) const EXP_LINK_X4: u16 = 4 << 4;
/// Link capabilities: the link has the low-power states L0s and L1.
pub(crate) const EXP_LNKCAP_ASPM_L0S_L1: u32 = 0x3 << 10;
/// Link capabilities: the function does without its reference clock where `CLKREQ#` is there.
pub(crate) const EXP_LNKCAP_CLKPM: u32 = 1 << 18;
/// Link capabilities: a link need not have low-power states, which all devices since revision 3.0 say.
pub(crate) const EXP_LNKCAP_ASPM_OPTIONALITY: u32 = 1 << 22;
/// Link control: the low-power states that the link enters by itself.
pub(crate) const EXP_LNKCTL_ASPMC: u16 = 0x0003;
/// Link control: read completion boundary.
pub(crate) const EXP_LNKCTL_RCB: u16 = 1 << 3;
/// Link control: both ends have a common clock.
pub(crate) const EXP_LNKCTL_CCC: u16 = 1 << 6;
/// Link control: more ordered sets are sent, for an analyser of the link.
pub(crate) const EXP_LNKCTL_ES: u16 = 1 << 7;
/// Link control: the reference clock may be taken away.
pub(crate) const EXP_LNKCTL_CLKREQ_EN: u16 = 1 << 8;
/// Device capabilities 2: waiting for a completion without end can be chosen.
pub(crate) const EXP_DEVCAP2_COMP_TMOUT_DIS: u32 = 1 << 4;
/// Device control 2: completions are waited for without end.
pub(crate) const EXP_DEVCTL2_COMP_TMOUT_DIS: u16 = 1 << 4;
/// Link capabilities 2: 2.5, 5 and 8 GT/s.
pub(crate) const EXP_LNKCAP2_UP_TO_8_0GT: u32 = 0x7 << 1;

/// Capability number of power management.
pub(crate) const CAP_ID_PM: u8 = 0x01;
/// Bytes of the power management capability.
pub(crate) const PM_SIZEOF: usize = 8;
/// Power management: capabilities, 16 bits from the start of the capability.
pub(crate) const PM_PMC: usize = 2;
/// Power management: control and status, 16 bits.
pub(crate) const PM_CTRL: usize = 4;
/// Power management capabilities: revision 1.2 of the specification.
pub(crate) const PM_CAP_VERSION_1_2: u16 = 3;
/// Power management control: the state, D0 to D3hot.
pub(crate) const PM_CTRL_STATE_MASK: u16 = 0x0003;
/// Power management control: the state in which the function works.
pub(crate) const PM_CTRL_STATE_D0: u16 = 0;
/// Power management control: the state in which only configuration space answers.
pub(crate) const PM_CTRL_STATE_D3HOT: u16 = 3;
/// Power management control: leaving D3hot resets nothing.
pub(crate) const PM_CTRL_NO_SOFT_RESET: u16 = 1 << 3;
