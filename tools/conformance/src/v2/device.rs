// SPDX-License-Identifier: GPL-2.0

//! The device under test, open by group or as a character device, with protocol v2; and a writer to the
//! namespace of an NVMe controller.

use std::sync::Arc;
use std::time::Duration;

use vfio_client::v1;
use vfio_client::v2::DataFile;
use vfio_client::v2::Migration;
use vfio_client::v2::State;
use vfio_client::Backend;
use vfio_client::Cdev;
use vfio_client::CdevSession;
use vfio_client::Device;
use vfio_client::GroupSession;
use vfio_client::GuestMemory;
use vfio_client::Ioas;
use vfio_client::Iommufd;
use vfio_client::Session;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::Command;
use vfio_drivers::nvme::Controller;
use vfio_drivers::nvme::Status;
use vfio_drivers::nvme::PAGE;

use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;
use crate::device;
use crate::device::Memory;
use crate::device::MEMORY;
use crate::kind::Kind;
use crate::subject::Subject;
use crate::target::Target;

/// How long to wait for what must come. Emulated machines are slow.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How much is read or written at once where it does not matter.
pub const PIECE: usize = 1 << 20;

/// A device with protocol v2.
pub type TestDevice = device::TestDevice<Box<dyn Session>, Migration>;

impl TestDevice {
    /// Opens a device of the target.
    #[track_caller]
    pub fn new(target: &Target) -> Outcome<TestDevice> {
        TestDevice::open(target.subject()?, target)
    }

    /// Opens a device.
    #[track_caller]
    pub fn open(subject: Subject, target: &Target) -> Outcome<TestDevice> {
        let session: Box<dyn Session> = match target.backend {
            Backend::Type1 => Box::new(GroupSession::open(&subject)?),
            Backend::Iommufd => Box::new(CdevSession::open(&subject)?),
        };
        TestDevice::with(subject, session, MEMORY)
    }

    /// Opens a device of the target in an address space that it may share. The memory of its DMA begins at
    /// `start`.
    #[track_caller]
    pub fn new_in(
        target: &Target,
        iommufd: &Iommufd,
        ioas: &Arc<Ioas>,
        start: u64,
    ) -> Outcome<TestDevice> {
        let subject = target.subject()?;
        let session = CdevSession::bind(Cdev::open(&subject)?, iommufd.clone(), Arc::clone(ioas))?;
        TestDevice::with(subject, Box::new(session), start)
    }

    /// Takes a device that is open. The memory of its DMA begins at `start`.
    #[track_caller]
    pub fn with(subject: Subject, session: Box<dyn Session>, start: u64) -> Outcome<TestDevice> {
        let migration = Migration::new(session.device());
        device::TestDevice::assemble(subject, session, Memory::At(start), migration)
    }

    /// Returns the session of a device that was opened through its character device.
    #[track_caller]
    pub fn cdev(&self) -> Outcome<&CdevSession> {
        self.session
            .as_cdev()
            .ok_or_else(|| Stop::failed("this device was opened through its group"))
    }

    /// Finds the migration region of protocol v1.
    #[track_caller]
    pub fn region(&self) -> Outcome<v1::Migration> {
        v1::Migration::find(self.vfio())?
            .ok_or_else(|| Stop::failed("expected a migration region, seen none"))
    }

    /// Sets the state and checks that it reads back. Returns the file that came with it.
    #[track_caller]
    pub fn set(&self, state: State) -> Outcome<Option<DataFile>> {
        let file = self.migration.set_state(state)?;
        self.expect(state)?;
        Ok(file)
    }

    /// Sets a state that begins a session.
    #[track_caller]
    pub fn begin(&self, state: State) -> Outcome<DataFile> {
        self.set(state)?
            .ok_or_else(|| Stop::failed(format_args!("{state}: expected a file, seen none")))
    }

    /// Checks the state.
    #[track_caller]
    pub fn expect(&self, state: State) -> Outcome {
        same("state", self.migration.state()?, state)
    }

    /// Goes into STOP_COPY and takes the whole stream.
    #[track_caller]
    pub fn save(&self) -> Outcome<Vec<u8>> {
        Ok(self.begin(State::STOP_COPY)?.read_all(PIECE)?)
    }

    /// Goes through RESUMING with a stream, and runs.
    #[track_caller]
    pub fn resume(&self, stream: &[u8]) -> Outcome {
        let file = self.begin(State::RESUMING)?;
        file.write_all(stream, PIECE)?;
        same(
            "file that comes with RUNNING",
            self.set(State::RUNNING)?.is_some(),
            false,
        )
    }

    /// Resets the device and checks that it runs.
    #[track_caller]
    pub fn reset(&self) -> Outcome {
        self.vfio().reset()?;
        self.expect(State::RUNNING)
    }
}

/// A queue of an NVMe controller that writes pages.
pub struct Writer {
    /// The driver.
    pub driver: Controller,
    queue: u16,
    shift: u8,
}

impl Writer {
    /// Sets the controller of a device up.
    #[track_caller]
    pub fn new(device: &TestDevice) -> Outcome<Writer> {
        Writer::with(device.vfio(), device.memory()?, device.kind())
    }

    /// Sets a controller up whose driver is in some memory.
    #[track_caller]
    pub fn on(device: &Device, memory: &GuestMemory, target: &Target) -> Outcome<Writer> {
        Writer::with(device, memory, target.kind)
    }

    #[track_caller]
    fn with(device: &Device, memory: &GuestMemory, kind: Kind) -> Outcome<Writer> {
        let Kind::Nvme { shift } = kind else {
            return Err(Stop::failed("not an NVMe controller"));
        };
        let mut writer = Writer {
            driver: Controller::new(device, memory)?,
            queue: 0,
            shift,
        };
        writer.restart()?;
        Ok(writer)
    }

    /// Goes on with another controller, which has the state of this one.
    #[track_caller]
    pub fn moved_to(&self, device: &TestDevice) -> Outcome<Writer> {
        Ok(Writer {
            driver: self.driver.moved_to(device.vfio())?,
            queue: self.queue,
            shift: self.shift,
        })
    }

    /// Sets the controller up anew.
    #[track_caller]
    pub fn restart(&mut self) -> Outcome {
        self.driver.restart(16)?;
        self.queue = self.driver.create_pair(16, None)?;
        Ok(())
    }

    /// Returns the number of the queue.
    pub fn queue(&self) -> u16 {
        self.queue
    }

    /// Makes a command that moves bytes between the start of the namespace and an address.
    pub fn transfer(&self, opcode: u8, len: u64, address: u64) -> Command {
        let blocks = (len >> self.shift) as u32;
        self.driver
            .transfer(self.queue, opcode, self.shift, 0, blocks, address)
    }

    /// Moves a page between the namespace and an address, and returns how that ended.
    #[track_caller]
    pub fn attempt(&mut self, opcode: u8, page: u64, address: u64) -> Outcome<Status> {
        let command = self.command(opcode, page, address);
        Ok(self.driver.execute(self.queue, command)?.status)
    }

    fn command(&self, opcode: u8, page: u64, address: u64) -> Command {
        Command::new(opcode)
            .namespace(1)
            .prp(address, 0)
            .blocks((page * PAGE) >> self.shift, (PAGE >> self.shift) as u32)
    }

    /// Writes a page, filled with a byte.
    #[track_caller]
    pub fn write(&mut self, page: u64, byte: u8) -> Outcome {
        self.driver
            .memory()
            .write(self.driver.data(0), &vec![byte; PAGE as usize]);
        let command = self.command(nvm::WRITE, page, self.driver.data(0));
        self.driver.succeed(self.queue, command)?;
        Ok(())
    }

    /// Writes pages in a row, filled with a byte, in commands as large as they may be.
    #[track_caller]
    pub fn write_run(&mut self, first: u64, count: u64, byte: u8) -> Outcome {
        const MOST: u64 = 128;
        let buffer = self.driver.data(0);
        let most = count.min(MOST);
        let bytes = vec![byte; (most * PAGE) as usize];
        self.driver.memory().write(buffer, &bytes);
        for page in (first..first + count).step_by(MOST as usize) {
            let pages = (first + count - page).min(MOST);
            let blocks = ((pages * PAGE) >> self.shift) as u32;
            let place = (page * PAGE) >> self.shift;
            let queue = self.queue;
            let command =
                self.driver
                    .transfer(queue, nvm::WRITE, self.shift, place, blocks, buffer);
            self.driver.succeed(queue, command)?;
        }
        Ok(())
    }

    /// Deallocates pages in a row.
    #[track_caller]
    pub fn deallocate(&mut self, first: u64, count: u64) -> Outcome {
        const DEALLOCATE: u32 = 1 << 2;
        let range = self.driver.data(0);
        let blocks = ((count * PAGE) >> self.shift) as u32;
        let place = (first * PAGE) >> self.shift;
        let memory = self.driver.memory();
        memory.write(range, &[0; 16]);
        memory.write(range + 4, &blocks.to_le_bytes());
        memory.write(range + 8, &place.to_le_bytes());
        let command = Command::new(nvm::DATASET)
            .namespace(1)
            .prp(range, 0)
            .word(10, 0)
            .word(11, DEALLOCATE);
        self.driver.succeed(self.queue, command)?;
        Ok(())
    }

    /// Reads a page to an address.
    #[track_caller]
    pub fn read(&mut self, page: u64, address: u64) -> Outcome {
        let command = self.command(nvm::READ, page, address);
        self.driver.succeed(self.queue, command)?;
        Ok(())
    }

    /// Returns where the completions of the queue are.
    pub fn completions(&self) -> u64 {
        self.driver.pair(self.queue).completions
    }

    /// Asks for a write and does not wait.
    #[track_caller]
    pub fn submit(&mut self, page: u64) -> Outcome {
        let command = self.command(nvm::WRITE, page, self.driver.data(0));
        self.driver.submit(self.queue, command)?;
        Ok(())
    }

    /// Says whether a completion has come that was not taken.
    pub fn has_completion(&self) -> bool {
        self.driver.peek(self.queue).is_some()
    }

    /// Waits for a completion.
    #[track_caller]
    pub fn wait(&mut self) -> Outcome {
        self.driver.wait(self.queue)?;
        Ok(())
    }
}
