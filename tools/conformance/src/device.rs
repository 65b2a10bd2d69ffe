// SPDX-License-Identifier: GPL-2.0

//! The device under test: open, with its driver and the memory of its DMA. The parts that a protocol adds
//! are in [`v1::device`](crate::v1::device) and [`v2::device`](crate::v2::device).

use vfio_client::AddressSpace;
use vfio_client::Device;
use vfio_client::GuestMemory;
use vfio_client::Session;
use vfio_drivers::probe;
use vfio_drivers::Driver;

use crate::check::Outcome;
use crate::check::Stop;
use crate::kind::Kind;
use crate::subject::Subject;

/// The first address of the memory that a device reaches.
pub const MEMORY: u64 = 0x100_0000;

/// Which memory a device reaches. Without a driver, or without DMA, it reaches none.
#[derive(Debug)]
pub enum Memory {
    /// New memory that begins at an address.
    At(u64),
    /// The memory of a guest that comes from another device.
    Of(GuestMemory),
}

/// An open device, by the session `S` and with the migration protocol `M`. The fields' order is the order in
/// which they are dropped: the removal of an mdev waits for its users.
#[derive(Debug)]
pub struct TestDevice<S, M> {
    /// Its migration.
    pub migration: M,
    driver: Option<Box<dyn Driver>>,
    /// The open device with its address space.
    pub session: S,
    memory: Option<GuestMemory>,
    /// The device in sysfs.
    pub subject: Subject,
}

impl<S: Session, M> TestDevice<S, M> {
    /// Finds the driver of an open device, and gives it memory.
    #[track_caller]
    pub(crate) fn assemble(
        subject: Subject,
        session: S,
        memory: Memory,
        migration: M,
    ) -> Outcome<Self> {
        let mut driver = probe(session.device())?;
        let memory = match &mut driver {
            Some(driver) if driver.memory_size() != 0 => {
                let memory = match memory {
                    Memory::At(start) => GuestMemory::new(start, driver.memory_size())?,
                    Memory::Of(memory) => memory,
                };
                memory.attach(session.space())?;
                driver.use_memory(&memory);
                Some(memory)
            }
            _ => None,
        };
        Ok(TestDevice {
            migration,
            driver,
            session,
            memory,
            subject,
        })
    }

    /// Closes the device.
    pub fn close(self) -> Subject {
        self.subject
    }

    /// Returns the open device.
    pub fn vfio(&self) -> &Device {
        self.session.device()
    }

    /// Returns the address space of the device's DMA.
    pub fn space(&self) -> &dyn AddressSpace {
        self.session.space()
    }

    /// Returns the kind of the device.
    pub fn kind(&self) -> Kind {
        self.subject.kind()
    }

    /// Returns the memory that the device reaches.
    #[track_caller]
    pub fn memory(&self) -> Outcome<&GuestMemory> {
        self.memory
            .as_ref()
            .ok_or_else(|| Stop::failed("this device has no memory to reach"))
    }

    #[track_caller]
    fn driver(&self) -> Outcome<&dyn Driver> {
        self.driver
            .as_deref()
            .ok_or_else(|| Stop::failed("no driver gives this device work"))
    }

    /// Gives the device a state and content that no fresh one has, different by `seed`.
    #[track_caller]
    pub fn fill(&self, seed: u8) -> Outcome {
        Ok(self.driver()?.work(seed)?)
    }

    /// Takes data out of the device to which another [`TestDevice::fill`] would only add.
    #[track_caller]
    pub fn empty(&self) -> Outcome {
        Ok(self.driver()?.discard()?)
    }

    /// Checks that the device has what [`TestDevice::fill`] gave it. The check may consume it.
    #[track_caller]
    pub fn expect_filled(&self, seed: u8) -> Outcome {
        Ok(self.driver()?.verify(seed)?)
    }

    /// Checks that the registers show nothing of a [`TestDevice::fill`]. The device need not run.
    #[track_caller]
    pub fn expect_fresh(&self) -> Outcome {
        Ok(self.driver()?.verify_fresh()?)
    }

    /// Checks that the device works, whatever was done to it before.
    #[track_caller]
    pub fn expect_works(&self) -> Outcome {
        Ok(self.driver()?.exercise()?)
    }

    /// Has the device assert INTx and leave it asserted.
    #[track_caller]
    pub fn raise(&self) -> Outcome {
        Ok(self.driver()?.raise_intx()?)
    }

    /// Reads and writes registers, in whatever state the device is.
    #[track_caller]
    pub fn poke(&self) -> Outcome {
        Ok(self.driver()?.poke()?)
    }

    /// Writes a register that a running device keeps.
    #[track_caller]
    pub fn scribble(&self, value: u8) -> Outcome {
        Ok(self.driver()?.scribble(value)?)
    }
}
