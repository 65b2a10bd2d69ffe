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
use core::fmt::{
    self,
    Display, //
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
struct FunctionMemory<'a, D: Driver>(&'a Function<'a, Variant<D>>);

impl<D: Driver> GuestMemory for FunctionMemory<'_, D> {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.0.read_memory(address, into).map_err(|_| MemoryError)
    }

    /// The hardware's own DMA writes; a sequence does not.
    fn write(&mut self, _address: u64, _from: &[u8]) -> Result<(), MemoryError> {
        Err(MemoryError)
    }
}

/// Why a sequence could not be run, or is not to be relied on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unusable {
    /// Nothing was done: the user has put the function to sleep, or it cannot be resumed.
    Asleep(Error),
    /// Accesses in the middle have not reached the function.
    Disturbed,
}

impl Unusable {
    pub(super) fn error(self) -> Error {
        match self {
            Self::Asleep(error) => error,
            Self::Disturbed => EIO,
        }
    }
}

impl Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asleep(_) => "the function is asleep",
            Self::Disturbed => {
                "the user has disabled memory decoding or put the function to sleep meanwhile"
            }
        })
    }
}

/// Runs `f` with what a sequence may use of the function of `device`, whose pinned pages are `pages`. `bus_master` is
/// the bus master bit of the command register if it is known, which saves an access of a trapped register the read of
/// configuration space.
///
/// # Errors
///
/// What `f` returns is lost.
pub(super) fn in_context<D: Driver, R>(
    device: &Device<Variant<D>>,
    function: &Function<'_, Variant<D>>,
    pages: &mut PinnedPages,
    bus_master: Option<bool>,
    f: impl FnOnce(&mut Context<'_>) -> R,
) -> Result<R, Unusable> {
    let awake = function.awaken().map_err(Unusable::Asleep)?;
    let mut registers = FunctionRegisters(awake);
    let bus_master = bus_master.unwrap_or_else(|| function.is_bus_master());

    let result = f(&mut Context {
        registers: &mut registers,
        memory: &mut FunctionMemory(function),
        pins: &mut FunctionPins {
            function,
            pages,
            narrowed: &device.narrowed,
            log: &device.log,
        },
        bus_master,
    });
    if registers.0.has_lost() {
        return Err(Unusable::Disturbed);
    }
    Ok(result)
}

/// Runs `f`, a sequence, with the open function and with what the sequence may use of it.
///
/// # Errors
///
/// As [`in_context`].
pub(super) fn with_context<D: Driver, R>(
    device: &Device<Variant<D>>,
    open: &mut Open<D::Hardware>,
    f: impl FnOnce(&mut Open<D::Hardware>, &mut Context<'_>) -> R,
) -> Result<R, Unusable> {
    with_pages(device, open, None, f)
}

/// Runs `f`, an access of a trapped register, as [`with_context`] runs a sequence.
///
/// # Errors
///
/// As [`in_context`].
pub(super) fn in_access<D: Driver, R>(
    device: &Device<Variant<D>>,
    open: &mut Open<D::Hardware>,
    f: impl FnOnce(&mut Open<D::Hardware>, &mut Context<'_>) -> R,
) -> Result<R, Unusable> {
    let bus_master = open.bus_master;

    with_pages(device, open, Some(bus_master), f)
}

fn with_pages<D: Driver, R>(
    device: &Device<Variant<D>>,
    open: &mut Open<D::Hardware>,
    bus_master: Option<bool>,
    f: impl FnOnce(&mut Open<D::Hardware>, &mut Context<'_>) -> R,
) -> Result<R, Unusable> {
    let function = PciCore::function(device).map_err(Unusable::Asleep)?;
    let mut pages = core::mem::take(&mut open.pages);
    let result = in_context(device, &function, &mut pages, bus_master, |context| {
        f(open, context)
    });

    open.pages = pages;
    if let Err(Unusable::Disturbed) = result {
        open.disturbed = true;
    }
    result
}
