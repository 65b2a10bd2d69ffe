// SPDX-License-Identifier: GPL-2.0

//! The device under test, open by group as QEMU 7.2 does it, with its v1 migration region.

use core::fmt::Display;
use std::time::Duration;

use vfio_client::stream::Stream;
use vfio_client::v1::Migration;
use vfio_client::v1::State;
use vfio_client::GroupSession;
use vfio_client::GuestMemory;
use vfio_drivers::uart::Register;
use vfio_drivers::uart::Uart;
use vfio_drivers::uart::LCR_8N1;

use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::device;
use crate::device::Memory;
use crate::device::MEMORY;
use crate::kind::Kind;
use crate::subject::Subject;
use crate::target::Target;

/// The attribute that sets the size of the data window.
pub const WINDOW_SIZE: &str = "migration/window_size";
/// The attribute that shows the device state.
pub const DEVICE_STATE: &str = "migration/device_state";
/// How long to wait for what must come. Emulated machines are slow.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A device with its migration region.
pub type TestDevice = device::TestDevice<GroupSession, Migration>;

impl TestDevice {
    /// Opens a device of the target.
    #[track_caller]
    pub fn new(target: &Target) -> Outcome<TestDevice> {
        TestDevice::open(target.subject()?)
    }

    /// Opens a device of the target with a data window of `size` bytes.
    #[track_caller]
    pub fn with_window(target: &Target, size: u64) -> Outcome<TestDevice> {
        let subject = target.subject()?;
        subject.set_attribute(WINDOW_SIZE, size.to_string().as_bytes())?;
        TestDevice::open(subject)
    }

    /// Opens a device, with memory of its own.
    #[track_caller]
    pub fn open(subject: Subject) -> Outcome<TestDevice> {
        TestDevice::open_in(subject, Memory::At(MEMORY))
    }

    /// Opens a device that reaches the memory of a guest that comes from another device.
    #[track_caller]
    pub fn open_for(subject: Subject, memory: GuestMemory) -> Outcome<TestDevice> {
        TestDevice::open_in(subject, Memory::Of(memory))
    }

    #[track_caller]
    fn open_in(subject: Subject, memory: Memory) -> Outcome<TestDevice> {
        let session = GroupSession::open(&subject)?;
        let migration = Migration::find(&session.device)?
            .ok_or_else(|| Stop::failed("expected a migration region, seen none"))?;
        device::TestDevice::assemble(subject, session, memory, migration)
    }

    /// Closes the device and opens it again.
    #[track_caller]
    pub fn reopen(self) -> Outcome<TestDevice> {
        TestDevice::open(self.close())
    }

    /// Returns a port of a serial card.
    #[track_caller]
    pub fn port(&self, port: u8) -> Outcome<Uart> {
        Ok(Uart::new(self.vfio(), port)?)
    }

    /// Returns a port that is set to eight bits, as any software sets it.
    #[track_caller]
    pub fn byte_port(&self, port: u8) -> Outcome<Uart> {
        let port = self.port(port)?;
        port.write(Register::Lcr, LCR_8N1)?;
        Ok(port)
    }

    /// Writes `device_state` and checks that it reads back.
    #[track_caller]
    pub fn set(&self, state: State) -> Outcome {
        self.migration.set_state(state)?;
        self.expect(state)
    }

    /// Checks `device_state`.
    #[track_caller]
    pub fn expect(&self, state: State) -> Outcome {
        same("device_state", self.migration.state()?, state)
    }

    /// Goes from RUNNING into stop-and-copy and takes the whole stream.
    #[track_caller]
    pub fn save(&self) -> Outcome<Vec<u8>> {
        self.set(State::STOP_COPY)?;
        Ok(self.migration.save()?)
    }

    /// Returns the device's state as its stream carries it, without the blocks of its storage; the
    /// device runs before and after.
    #[track_caller]
    pub fn image(&self) -> Outcome<Vec<u8>> {
        let stream = self.save()?;
        self.set(State::RUNNING)?;
        image(&stream)
    }

    /// Goes from RUNNING through RESUMING with a stream and back to RUNNING.
    #[track_caller]
    pub fn resume(&self, stream: &[u8]) -> Outcome {
        self.set(State::RESUMING)?;
        self.migration.feed(stream, usize::MAX)?;
        self.set(State::RUNNING)
    }

    /// Resets the device and checks that it runs.
    #[track_caller]
    pub fn reset(&self) -> Outcome {
        self.vfio().reset()?;
        self.expect(State::RUNNING)
    }

    /// Checks that a device that was reset is as it was when it was opened. `fresh` is its
    /// [image](TestDevice::image) of then. A controller keeps what outlives a loss of power, for example the
    /// count of commands, or the serial number that came with a migration.
    #[track_caller]
    pub fn expect_reset(&self, what: impl Display, fresh: &[u8]) -> Outcome {
        let image = self.image()?;
        match self.kind() {
            Kind::Uart { .. } | Kind::Mtty | Kind::E1000e | Kind::Other => {
                same_bytes(what, &image, fresh)
            }
            Kind::Nvme { .. } => {
                same(format_args!("{what}: its size"), image.len(), fresh.len())?;
                self.expect_fresh()
            }
        }
    }
}

/// Checks a whole stream and returns the device state in it.
#[track_caller]
pub fn image(stream: &[u8]) -> Outcome<Vec<u8>> {
    Stream::parse(stream)
        .and_then(|stream| stream.device_state())
        .map_err(|why| Stop::failed(format_args!("a stream of {} bytes: {why}", stream.len())))
}

/// Saves a filled device and returns the stream, as its records.
#[track_caller]
pub fn good_stream(target: &Target, seed: u8) -> Outcome<Stream> {
    let device = TestDevice::new(target)?;
    device.fill(seed)?;
    Stream::parse(&device.save()?).map_err(Stop::failed)
}
