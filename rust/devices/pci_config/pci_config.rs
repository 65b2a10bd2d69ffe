// SPDX-License-Identifier: GPL-2.0

//! The configuration space of an emulated PCI function, as a pure value.
//!
//! A device describes its function once, as a [`Layout`] that the compiler evaluates: identity,
//! base address registers, interrupt pin and capabilities. A [`ConfigSpace`] is one live function of
//! that layout. The layout has the bits that software can change and the possible values of fields, so
//! neither an access nor a restored image can make a function that its layout does not allow.
//!
//! The crate mirrors `include/uapi/linux/pci_regs.h` and chapter 6 of the PCI Local Bus Specification,
//! revision 3.0. It covers what an endpoint needs: the type 0 header, the capabilities for MSI, MSI-X,
//! PCI Express and power management, and an extended configuration space without capabilities.
//!
//! Nothing in here allocates, locks or sleeps. Numbers in registers are little endian.

#![cfg_attr(not(MODULE), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod access;
mod layout;
mod registers;
mod space;

pub use access::AccessError;
pub use layout::{
    Bar,
    Class,
    Identity,
    InterruptPin,
    Layout, //
};
pub use registers::{
    CONFIG_SPACE_SIZE,
    EXTENDED_CONFIG_SPACE_SIZE, //
};
pub use space::{
    ConfigSpace,
    ImageError, //
};
