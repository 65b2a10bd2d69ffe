// SPDX-License-Identifier: GPL-2.0

//! The device under test, freshly created and open: a serial card, an NVMe controller, or the
//! kernel's sample of a serial card.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use vfio_client::mdev::MdevType;
use vfio_client::v1;
use vfio_client::v2::DataFile;
use vfio_client::v2::Migration;
use vfio_client::v2::State;
use vfio_client::AddressSpace;
use vfio_client::Cdev;
use vfio_client::CdevSession;
use vfio_client::Device;
use vfio_client::GroupSession;
use vfio_client::GuestMemory;
use vfio_client::Ioas;
use vfio_client::Iommufd;
use vfio_client::Mdev;
use vfio_client::Session;
use vfio_drivers::nvme::nvm;
use vfio_drivers::nvme::Command;
use vfio_drivers::nvme::Controller;
use vfio_drivers::nvme::Status;
use vfio_drivers::nvme::PAGE;
use vfio_drivers::probe;
use vfio_drivers::Driver;

use crate::check::same;
use crate::check::Outcome;
use crate::check::Stop;

/// The first address of the memory that a device reaches.
pub const MEMORY: u64 = 0x100_0000;

/// How long to wait for what must come. Emulated machines are slow.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How much is read or written at once where it does not matter.
pub const PIECE: usize = 1 << 20;

const UART_PARENT: &str = "/sys/class/ferry_uart/ferry_uart";
const NVME_PARENT: &str = "/sys/class/ferry_nvme/ferry_nvme";
const MTTY_PARENT: &str = "/sys/class/mtty/mtty";

/// What kind of device a type is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A serial card.
    Uart {
        /// How many ports it has.
        ports: u8,
    },
    /// An NVMe controller.
    Nvme {
        /// The size of its logical blocks, as a power of two of bytes.
        shift: u8,
    },
    /// The kernel's sample, with one port.
    Mtty,
}

impl Kind {
    fn of(type_name: &str) -> Option<Self> {
        match type_name.rsplit_once('-')? {
            ("ferry_uart", ports) => Some(Kind::Uart {
                ports: ports.parse().ok()?,
            }),
            ("ferry_nvme", "512") => Some(Kind::Nvme { shift: 9 }),
            ("ferry_nvme", "4096") => Some(Kind::Nvme { shift: 12 }),
            ("mtty", "1") => Some(Kind::Mtty),
            _ => None,
        }
    }

    /// Returns the name of the driver.
    pub fn driver(self) -> &'static str {
        match self {
            Kind::Uart { .. } => "ferry_uart",
            Kind::Nvme { .. } => "ferry_nvme",
            Kind::Mtty => "mtty",
        }
    }

    fn parent(self) -> &'static Path {
        Path::new(match self {
            Kind::Uart { .. } => UART_PARENT,
            Kind::Nvme { .. } => NVME_PARENT,
            Kind::Mtty => MTTY_PARENT,
        })
    }
}

/// How a device is opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// Through its group, with a type1 container.
    Group,
    /// Through its character device, with an IOAS of an iommufd.
    Cdev,
}

/// What the tests run on.
#[derive(Clone, Debug)]
pub struct Target {
    /// The type of mediated device, for example `ferry_uart-2`.
    pub type_name: String,
    /// What that is.
    pub kind: Kind,
    /// How tests open it that do not care.
    pub way: Way,
}

impl Target {
    /// Takes a type by its name. `None` for an unknown one.
    pub fn new(type_name: &str) -> Option<Self> {
        Some(Target {
            kind: Kind::of(type_name)?,
            type_name: type_name.to_string(),
            way: Way::Group,
        })
    }

    /// Returns the same type, to be opened through the character device.
    pub fn through_cdev(&self) -> Self {
        Target {
            way: Way::Cdev,
            ..self.clone()
        }
    }

    /// Returns the type under test.
    pub fn mdev_type(&self) -> MdevType {
        MdevType::new(self.kind.parent(), &self.type_name)
    }
}

/// Opens an iommufd. Where there is none, nobody can test it.
pub fn iommufd() -> Outcome<Iommufd> {
    if !Iommufd::exists() {
        return Err(Stop::Skipped(
            "this kernel has no iommufd (no /dev/iommu; CONFIG_IOMMUFD)".into(),
        ));
    }
    Ok(Iommufd::open()?)
}

/// Opens the character device of a device, not yet bound. Where there is none, nobody can test it.
pub fn cdev(mdev: &Mdev) -> Outcome<Cdev> {
    if !Cdev::exists(mdev)? {
        return Err(Stop::Skipped(
            "devices have no character device on this kernel (CONFIG_VFIO_DEVICE_CDEV)".into(),
        ));
    }
    Ok(Cdev::open(mdev)?)
}

/// An open device. The fields' order is the order in which they go: the mdev waits for its users.
#[derive(Debug)]
pub struct TestDevice {
    driver: Box<dyn Driver>,
    /// Its migration.
    pub migration: Migration,
    /// The open device with its address space.
    pub session: Box<dyn Session>,
    memory: Option<GuestMemory>,
    kind: Kind,
    /// The mdev.
    pub mdev: Mdev,
}

impl TestDevice {
    /// Creates and opens a device.
    #[track_caller]
    pub fn new(target: &Target) -> Outcome<TestDevice> {
        TestDevice::open(target.mdev_type().create()?, target)
    }

    /// Opens a device.
    #[track_caller]
    pub fn open(mdev: Mdev, target: &Target) -> Outcome<TestDevice> {
        let session: Box<dyn Session> = match target.way {
            Way::Group => Box::new(GroupSession::open(&mdev)?),
            Way::Cdev => {
                let iommufd = iommufd()?;
                let ioas = Arc::new(iommufd.ioas()?);
                Box::new(CdevSession::bind(cdev(&mdev)?, iommufd, ioas)?)
            }
        };
        TestDevice::with(mdev, target, session, MEMORY)
    }

    /// Creates a device and opens it in an address space that it may share. If it reaches memory, that
    /// begins at `start`.
    #[track_caller]
    pub fn new_in(
        target: &Target,
        iommufd: &Iommufd,
        ioas: &Arc<Ioas>,
        start: u64,
    ) -> Outcome<TestDevice> {
        let mdev = target.mdev_type().create()?;
        let session = CdevSession::bind(cdev(&mdev)?, iommufd.clone(), Arc::clone(ioas))?;
        TestDevice::with(mdev, target, Box::new(session), start)
    }

    /// Takes a device that is open. If it reaches memory, that begins at `start`.
    #[track_caller]
    pub fn with(
        mdev: Mdev,
        target: &Target,
        session: Box<dyn Session>,
        start: u64,
    ) -> Outcome<TestDevice> {
        let mut driver = probe(session.device())?.ok_or_else(|| {
            let name = &target.type_name;
            Stop::failed(format_args!("expected a driver of {name}, seen none"))
        })?;
        let memory = match driver.memory_size() {
            0 => None,
            size => Some(GuestMemory::new(start, size)?),
        };
        if let Some(memory) = &memory {
            memory.attach(session.space())?;
            driver.use_memory(memory);
        }
        Ok(TestDevice {
            driver,
            migration: Migration::new(session.device()),
            session,
            memory,
            kind: target.kind,
            mdev,
        })
    }

    /// Closes the device.
    pub fn close(self) -> Mdev {
        self.mdev
    }

    /// Returns the open device.
    pub fn device(&self) -> &Device {
        self.session.device()
    }

    /// Returns the address space that it is open with.
    pub fn space(&self) -> &dyn AddressSpace {
        self.session.space()
    }

    /// Returns the session of a device that was opened through its character device.
    #[track_caller]
    pub fn cdev(&self) -> Outcome<&CdevSession> {
        self.session
            .as_cdev()
            .ok_or_else(|| Stop::failed("this device was opened through its group"))
    }

    /// Returns the memory that the device reaches.
    #[track_caller]
    pub fn memory(&self) -> Outcome<&GuestMemory> {
        self.memory
            .as_ref()
            .ok_or_else(|| Stop::failed("this device has no memory to reach"))
    }

    /// Finds the migration region of protocol v1.
    #[track_caller]
    pub fn region(&self) -> Outcome<v1::Migration> {
        v1::Migration::find(self.device())?
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
        self.device().reset()?;
        self.expect(State::RUNNING)
    }

    /// Gives the device a state and content that no fresh one has, different by `seed`.
    #[track_caller]
    pub fn fill(&self, seed: u8) -> Outcome {
        Ok(self.driver.work(seed)?)
    }

    /// Checks that the device has what [`TestDevice::fill`] gave it. What can be taken out is then gone.
    #[track_caller]
    pub fn expect_filled(&self, seed: u8) -> Outcome {
        Ok(self.driver.verify(seed)?)
    }

    /// Checks that the device works, whatever was done to it before.
    #[track_caller]
    pub fn expect_works(&self) -> Outcome {
        Ok(self.driver.exercise()?)
    }

    /// Writes a register that keeps what is written.
    #[track_caller]
    pub fn scribble(&self, value: u8) -> Outcome {
        Ok(self.driver.scribble(value)?)
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
    /// Sets the controller of a card up.
    #[track_caller]
    pub fn new(card: &TestDevice) -> Outcome<Writer> {
        Writer::with(card.device(), card.memory()?, card.kind)
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
    pub fn moved_to(&self, card: &TestDevice) -> Outcome<Writer> {
        Ok(Writer {
            driver: self.driver.moved_to(card.device())?,
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

    /// Makes a command that moves bytes between the begin of the namespace and an address.
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
