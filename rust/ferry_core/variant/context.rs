// SPDX-License-Identifier: GPL-2.0

//! What a sequence of the hardware may use: registers, the guest's memory, pins.

use crate::variant::{
    device::{
        Open,
        Variant, //
    },
    pins::{
        FunctionPins,
        PinnedPages, //
    },
    Driver, //
};
use device_model::{
    hardware::{
        Context,
        Registers, //
    },
    GuestMemory,
    MemoryError, //
};
use kernel::{
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    },
};
use vfio::Device;
use vfio_pci::{
    Awake,
    Function,
    PciCore, //
};

/// The registers of a function that is awake.
struct FunctionRegisters<'a, D: Driver>(Awake<'a, Variant<D>>);

impl<D: Driver> Registers for FunctionRegisters<'_, D> {
    fn read32(&mut self, offset: u32) -> u32 {
        self.0.read32(D::REGISTER_BAR, offset)
    }

    fn write32(&mut self, offset: u32, value: u32) {
        self.0.write32(D::REGISTER_BAR, offset, value);
    }

    fn delay(&mut self, microseconds: u32) {
        fsleep(Delta::from_micros(i64::from(microseconds)));
    }
}

/// The guest's memory, through the user's container.
struct FunctionMemory<'a, D: Driver>(Function<'a, Variant<D>>);

impl<D: Driver> GuestMemory for FunctionMemory<'_, D> {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.0.read_memory(address, into).map_err(|_| MemoryError)
    }

    /// The hardware's own DMA writes; a sequence does not.
    fn write(&mut self, _address: u64, _from: &[u8]) -> Result<(), MemoryError> {
        Err(MemoryError)
    }
}

/// Runs `f` with what a sequence may use of the function of `device`, whose pinned pages are `pages`. `bus_master` is
/// the bus master bit of the command register if it is known, which saves an access of a trapped register the read of
/// configuration space.
///
/// # Errors
///
/// The user has put the function to sleep.
pub(super) fn in_context<D: Driver, R>(
    device: &Device<Variant<D>>,
    pages: &mut PinnedPages,
    bus_master: Option<bool>,
    f: impl FnOnce(&mut Context<'_>) -> R,
) -> Result<R> {
    let function = PciCore::function(device);
    let mut registers = FunctionRegisters(function.awaken()?);
    let bus_master = bus_master.unwrap_or_else(|| function.is_bus_master());

    Ok(f(&mut Context {
        registers: &mut registers,
        memory: &mut FunctionMemory(PciCore::function(device)),
        pins: &mut FunctionPins {
            function,
            pages,
            narrowed: &device.narrowed,
            log: &device.log,
        },
        bus_master,
    }))
}

/// Runs `f`, a sequence, with the open function and with what the sequence may use of it.
///
/// # Errors
///
/// The user has put the function to sleep.
pub(super) fn with_context<D: Driver, R>(
    device: &Device<Variant<D>>,
    open: &mut Open<D::Hardware>,
    f: impl FnOnce(&mut Open<D::Hardware>, &mut Context<'_>) -> R,
) -> Result<R> {
    with_pages(device, open, None, f)
}

/// Runs `f`, an access of a trapped register, as [`with_context`] runs a sequence.
///
/// # Errors
///
/// The user has put the function to sleep.
pub(super) fn in_access<D: Driver, R>(
    device: &Device<Variant<D>>,
    open: &mut Open<D::Hardware>,
    f: impl FnOnce(&mut Open<D::Hardware>, &mut Context<'_>) -> R,
) -> Result<R> {
    let bus_master = open.bus_master;

    with_pages(device, open, Some(bus_master), f)
}

fn with_pages<D: Driver, R>(
    device: &Device<Variant<D>>,
    open: &mut Open<D::Hardware>,
    bus_master: Option<bool>,
    f: impl FnOnce(&mut Open<D::Hardware>, &mut Context<'_>) -> R,
) -> Result<R> {
    let mut pages = core::mem::take(&mut open.pages);
    let result = in_context(device, &mut pages, bus_master, |context| f(open, context));

    open.pages = pages;
    result
}
