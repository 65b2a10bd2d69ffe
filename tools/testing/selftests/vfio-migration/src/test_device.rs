// SPDX-License-Identifier: GPL-2.0

//! The device under test: a serial card or an NVMe controller, freshly created and open.

use core::fmt::Display;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use vfio_client::mdev::MdevType;
use vfio_client::v1::Migration;
use vfio_client::v1::State;
use vfio_client::Device;
use vfio_client::GroupSession;
use vfio_client::GuestMemory;
use vfio_client::Mdev;
use vfio_drivers::probe;
use vfio_drivers::uart::Register;
use vfio_drivers::uart::Uart;
use vfio_drivers::uart::LCR_8N1;
use vfio_drivers::Driver;

use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::stream::Stream;

/// The first address of the memory that a device reaches.
pub const MEMORY: u64 = 0x100_0000;

/// Where the parent of Ferry's serial cards is.
const UART_PARENT: &str = "/sys/class/ferry_uart/ferry_uart";
/// Where the parent of Ferry's NVMe controllers is.
const NVME_PARENT: &str = "/sys/class/ferry_nvme/ferry_nvme";
/// The attribute that sets the size of the data window.
pub const WINDOW_SIZE: &str = "migration/window_size";
/// The attribute that shows the device state.
pub const DEVICE_STATE: &str = "migration/device_state";
/// How long to wait for what must come. Emulated machines are slow.
pub const PATIENCE: Duration = Duration::from_secs(10);

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
}

impl Kind {
    /// Tells it by the type's name. `None` for one that these tests know nothing of.
    pub fn of(type_name: &str) -> Option<Self> {
        match type_name.rsplit_once('-')? {
            ("ferry_uart", ports) => Some(Kind::Uart {
                ports: ports.parse().ok()?,
            }),
            ("ferry_nvme", "512") => Some(Kind::Nvme { shift: 9 }),
            ("ferry_nvme", "4096") => Some(Kind::Nvme { shift: 12 }),
            _ => None,
        }
    }

    /// Returns the name of the driver.
    pub fn driver(self) -> &'static str {
        match self {
            Kind::Uart { .. } => "ferry_uart",
            Kind::Nvme { .. } => "ferry_nvme",
        }
    }

    /// Returns where the driver's parent device is in sysfs.
    pub fn parent(self) -> &'static Path {
        Path::new(match self {
            Kind::Uart { .. } => UART_PARENT,
            Kind::Nvme { .. } => NVME_PARENT,
        })
    }

    /// Returns the type that the devices' streams have.
    pub fn stream_type(self) -> &'static [u8] {
        match self {
            Kind::Uart { .. } => b"ferry-uart",
            Kind::Nvme { .. } => b"ferry-nvme",
        }
    }
}

/// What the tests run on.
#[derive(Clone, Debug)]
pub struct Target {
    /// The parent device in sysfs.
    pub parent: PathBuf,
    /// The type of mediated device, for example `ferry_uart-2`.
    pub type_name: String,
    /// What that is.
    pub kind: Kind,
}

/// What every test is given.
pub type Context = Arc<Target>;

impl Target {
    /// Takes a type by its name, of the driver's own parent. `None` for an unknown one.
    pub fn new(type_name: &str) -> Option<Self> {
        let kind = Kind::of(type_name)?;
        Some(Target {
            parent: kind.parent().into(),
            type_name: type_name.to_string(),
            kind,
        })
    }

    /// Returns the type under test.
    pub fn mdev_type(&self) -> MdevType {
        MdevType::new(&self.parent, &self.type_name)
    }

    /// Returns the other types of the same parent.
    #[track_caller]
    pub fn other_types(&self) -> Outcome<Vec<MdevType>> {
        let types = std::fs::read_dir(self.parent.join("mdev_supported_types"))
            .map_err(|error| Stop::failed(format_args!("{}: {error}", self.parent.display())))?;
        Ok(types
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| *name != self.type_name)
            .map(|name| MdevType::new(&self.parent, &name))
            .collect())
    }

    /// Returns how many ports the card has, 0 for a device that is no such card.
    pub fn ports(&self) -> u8 {
        match self.kind {
            Kind::Uart { ports } => ports,
            Kind::Nvme { .. } => 0,
        }
    }

    /// Returns the size of a logical block as a power of two, 0 for a device that has none.
    pub fn shift(&self) -> u8 {
        match self.kind {
            Kind::Uart { .. } => 0,
            Kind::Nvme { shift } => shift,
        }
    }
}

/// An open device. The fields' order is the order in which they go: the mdev waits for its users.
#[derive(Debug)]
pub struct TestDevice {
    driver: Box<dyn Driver>,
    /// Its migration region.
    pub migration: Migration,
    /// The open device with its container.
    pub session: GroupSession,
    /// The memory that it reaches, if it is of a kind that does.
    memory: Option<GuestMemory>,
    kind: Kind,
    /// The mdev.
    pub mdev: Mdev,
}

impl TestDevice {
    /// Creates and opens a device.
    #[track_caller]
    pub fn new(context: &Context) -> Outcome<TestDevice> {
        TestDevice::open(context.mdev_type().create()?)
    }

    /// Creates and opens a device with a data window of `size` bytes.
    #[track_caller]
    pub fn with_window(context: &Context, size: u64) -> Outcome<TestDevice> {
        let mdev = context.mdev_type().create()?;
        mdev.set_attribute(WINDOW_SIZE, size.to_string().as_bytes())?;
        TestDevice::open(mdev)
    }

    /// Opens a device, with memory of its own to reach if it is of a kind that does.
    #[track_caller]
    pub fn open(mdev: Mdev) -> Outcome<TestDevice> {
        TestDevice::open_in(mdev, None)
    }

    /// Opens a device that reaches the memory of a guest, who may be coming from elsewhere, or `None` for
    /// memory of its own.
    #[track_caller]
    pub fn open_in(mdev: Mdev, memory: Option<GuestMemory>) -> Outcome<TestDevice> {
        let name = mdev.type_name()?;
        let kind = Kind::of(&name)
            .ok_or_else(|| Stop::failed(format_args!("{name} is a type nobody knows")))?;
        let session = GroupSession::open(&mdev)?;
        let mut driver = probe(&session.device)?
            .ok_or_else(|| Stop::failed(format_args!("expected a driver of {name}, seen none")))?;
        let memory = match (driver.memory_size(), memory) {
            (0, _) => None,
            (_, Some(memory)) => Some(memory),
            (size, None) => Some(GuestMemory::new(MEMORY, size)?),
        };
        if let Some(memory) = &memory {
            memory.attach(&session.container)?;
            driver.use_memory(memory);
        }
        let migration = Migration::find(&session.device)?
            .ok_or_else(|| Stop::failed("expected a migration region, seen none"))?;
        Ok(TestDevice {
            driver,
            migration,
            session,
            memory,
            kind,
            mdev,
        })
    }

    /// Closes the device.
    pub fn close(self) -> Mdev {
        self.mdev
    }

    /// Closes the device and opens it again.
    #[track_caller]
    pub fn reopen(self) -> Outcome<TestDevice> {
        TestDevice::open(self.close())
    }

    /// Returns the open device.
    pub fn device(&self) -> &Device {
        &self.session.device
    }

    /// Returns a port of a serial card.
    #[track_caller]
    pub fn port(&self, port: u8) -> Outcome<Uart> {
        Ok(Uart::new(self.device(), port)?)
    }

    /// Returns a port that is set to eight bits, as any software sets it.
    #[track_caller]
    pub fn byte_port(&self, port: u8) -> Outcome<Uart> {
        let port = self.port(port)?;
        port.write(Register::Lcr, LCR_8N1)?;
        Ok(port)
    }

    /// Returns the memory that the device reaches.
    #[track_caller]
    pub fn memory(&self) -> Outcome<&GuestMemory> {
        self.memory
            .as_ref()
            .ok_or_else(|| Stop::failed("this device has no memory to reach"))
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
        self.device().reset()?;
        self.expect(State::RUNNING)
    }

    /// Gives the device a state and content that no fresh one has, different by `seed`.
    #[track_caller]
    pub fn fill(&self, seed: u8) -> Outcome {
        Ok(self.driver.work(seed)?)
    }

    /// Takes out what another [`TestDevice::fill`] would only add to.
    #[track_caller]
    pub fn empty(&self) -> Outcome {
        Ok(self.driver.discard()?)
    }

    /// Checks that the device has what [`TestDevice::fill`] gave it. What can be taken out is then gone.
    #[track_caller]
    pub fn expect_filled(&self, seed: u8) -> Outcome {
        Ok(self.driver.verify(seed)?)
    }

    /// Checks that the registers show nothing of a [`TestDevice::fill`]. It need not run.
    #[track_caller]
    pub fn expect_fresh(&self) -> Outcome {
        Ok(self.driver.verify_fresh()?)
    }

    /// Checks that a device that was reset is as it was when it was opened, of which `fresh` is an
    /// [image](TestDevice::image). What outlives even a loss of power stays: the count of commands, for
    /// example, or the serial number that came with a migration.
    #[track_caller]
    pub fn expect_reset(&self, what: impl Display, fresh: &[u8]) -> Outcome {
        let image = self.image()?;
        match self.kind {
            Kind::Uart { .. } => same_bytes(what, &image, fresh),
            Kind::Nvme { .. } => {
                same(format_args!("{what}: its size"), image.len(), fresh.len())?;
                self.expect_fresh()
            }
        }
    }

    /// Checks that the device works, whatever was done to it before.
    #[track_caller]
    pub fn expect_works(&self) -> Outcome {
        Ok(self.driver.exercise()?)
    }

    /// Has the device pull up INTx and leave it there.
    #[track_caller]
    pub fn raise(&self) -> Outcome {
        Ok(self.driver.raise_intx()?)
    }

    /// Writes and reads registers, in whatever state the device is.
    #[track_caller]
    pub fn poke(&self) -> Outcome {
        Ok(self.driver.poke()?)
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
pub fn good_stream(context: &Context, seed: u8) -> Outcome<Stream> {
    let card = TestDevice::new(context)?;
    card.fill(seed)?;
    Stream::parse(&card.save()?).map_err(Stop::failed)
}
