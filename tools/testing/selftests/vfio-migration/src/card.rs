// SPDX-License-Identifier: GPL-2.0

//! The device under test: a serial card, freshly created and open.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use vfio_client::mdev::MdevType;
use vfio_client::migration::State;
use vfio_client::uart::Register;
use vfio_client::uart::Uart;
use vfio_client::uart::FCR_ENABLE;
use vfio_client::uart::FCR_TRIGGER_14;
use vfio_client::uart::LCR_8N1;
use vfio_client::uart::MCR_DTR;
use vfio_client::uart::MCR_RTS;
use vfio_client::Device;
use vfio_client::Mdev;
use vfio_client::Migration;
use vfio_client::Session;

use crate::check::same;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::check::Stop;
use crate::stream::Stream;

/// The attribute that sets the size of the data window.
pub const WINDOW_SIZE: &str = "migration/window_size";
/// The attribute that shows the device state.
pub const DEVICE_STATE: &str = "migration/device_state";
/// How long to wait for what must come. Emulated machines are slow.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What the tests run on.
#[derive(Debug)]
pub struct Target {
    /// The parent device in sysfs.
    pub parent: PathBuf,
    /// The type of mediated device, for example `ferry_uart-2`.
    pub type_name: String,
}

/// What every test is given.
pub type Context = Arc<Target>;

impl Target {
    /// Returns the type under test.
    pub fn mdev_type(&self) -> MdevType {
        MdevType::new(&self.parent, &self.type_name)
    }

    /// Returns another type of the same parent, by its number of ports. `None` for our own.
    pub fn type_with_ports(&self, ports: u8) -> Option<MdevType> {
        let (family, own) = self.type_name.rsplit_once('-')?;
        let name = format!("{family}-{ports}");
        (own != ports.to_string()).then(|| MdevType::new(&self.parent, &name))
    }

    /// Returns how many ports the card has.
    pub fn ports(&self) -> u8 {
        self.type_name
            .rsplit_once('-')
            .and_then(|(_, ports)| ports.parse().ok())
            .unwrap_or(1)
    }
}

/// An open card. The fields' order is the order in which they go: the mdev waits for its users.
#[derive(Debug)]
pub struct Card {
    /// Its migration region.
    pub migration: Migration,
    /// The open device with its container.
    pub session: Session,
    /// The mdev.
    pub mdev: Mdev,
}

impl Card {
    /// Creates and opens a card.
    #[track_caller]
    pub fn new(context: &Context) -> Outcome<Card> {
        Card::open(context.mdev_type().create()?)
    }

    /// Creates and opens a card with a data window of `size` bytes.
    #[track_caller]
    pub fn with_window(context: &Context, size: u64) -> Outcome<Card> {
        let mdev = context.mdev_type().create()?;
        mdev.set_attribute(WINDOW_SIZE, size.to_string().as_bytes())?;
        Card::open(mdev)
    }

    /// Opens a card.
    #[track_caller]
    pub fn open(mdev: Mdev) -> Outcome<Card> {
        let session = Session::open(&mdev)?;
        let migration = Migration::find(&session.device)?
            .ok_or_else(|| Stop::failed("expected a migration region, seen none"))?;
        Ok(Card {
            migration,
            session,
            mdev,
        })
    }

    /// Closes the card.
    pub fn close(self) -> Mdev {
        self.mdev
    }

    /// Closes the card and opens it again.
    #[track_caller]
    pub fn reopen(self) -> Outcome<Card> {
        Card::open(self.close())
    }

    /// Returns the open device.
    pub fn device(&self) -> &Device {
        &self.session.device
    }

    /// Returns a port.
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

    /// Returns the device's state as its stream carries it; the card runs before and after.
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

    /// Resets the card and checks that it runs.
    #[track_caller]
    pub fn reset(&self) -> Outcome {
        self.device().reset()?;
        self.expect(State::RUNNING)
    }

    /// Gives every port settings and waiting bytes that no fresh card has, different by `seed`.
    #[track_caller]
    pub fn fill(&self, ports: u8, seed: u8) -> Outcome {
        for number in 0..ports {
            let port = self.port(number)?;
            port.write(Register::Lcr, LCR_8N1)?;
            port.set_divisor(divisor(number, seed))?;
            port.write(Register::Mcr, MCR_DTR | MCR_RTS)?;
            port.write(Register::IirFcr, FCR_ENABLE | FCR_TRIGGER_14)?;
            port.write(Register::Scr, seed ^ number)?;
            port.send(&waiting(number, seed))?;
        }
        Ok(())
    }

    /// Takes the bytes that wait in the ports.
    #[track_caller]
    pub fn empty(&self, ports: u8) -> Outcome {
        for number in 0..ports {
            self.port(number)?.receive()?;
        }
        Ok(())
    }

    /// Checks that every port has what [`Card::fill`] gave it, and takes the waiting bytes.
    #[track_caller]
    pub fn expect_filled(&self, ports: u8, seed: u8) -> Outcome {
        for number in 0..ports {
            let port = self.port(number)?;
            same(
                format_args!("port {number}: LCR"),
                port.read(Register::Lcr)?,
                LCR_8N1,
            )?;
            same(
                format_args!("port {number}: MCR"),
                port.read(Register::Mcr)?,
                MCR_DTR | MCR_RTS,
            )?;
            same(
                format_args!("port {number}: SCR"),
                port.read(Register::Scr)?,
                seed ^ number,
            )?;
            same(
                format_args!("port {number}: divisor"),
                port.divisor()?,
                divisor(number, seed),
            )?;
            same_bytes(
                format_args!("port {number}: received bytes"),
                &port.receive()?,
                &waiting(number, seed),
            )?;
        }
        Ok(())
    }

    /// Checks that the card works: every port sends to itself through its plug.
    #[track_caller]
    pub fn expect_works(&self, ports: u8) -> Outcome {
        for number in 0..ports {
            let port = self.port(number)?;
            port.write(Register::Ier, 0)?;
            port.write(Register::Lcr, LCR_8N1)?;
            port.write(Register::Mcr, 0)?;
            port.write(Register::IirFcr, FCR_ENABLE)?;
            port.receive()?;
            let text = [b'F', b'e', b'r', number];
            port.send(&text)?;
            same_bytes(format_args!("port {number}: plug"), &port.receive()?, &text)?;
        }
        Ok(())
    }
}

fn divisor(port: u8, seed: u8) -> u16 {
    0x0100 | u16::from(seed.wrapping_add(port).max(1))
}

fn waiting(port: u8, seed: u8) -> Vec<u8> {
    (0..10)
        .map(|i: u8| seed.wrapping_mul(31).wrapping_add(port * 16 + i))
        .collect()
}

/// Checks a whole stream and returns the device state in it.
#[track_caller]
pub fn image(stream: &[u8]) -> Outcome<Vec<u8>> {
    Stream::parse(stream)
        .and_then(|stream| stream.device_state())
        .map_err(|why| Stop::failed(format_args!("a stream of {} bytes: {why}", stream.len())))
}

/// Saves a filled card and returns the stream, as its records.
#[track_caller]
pub fn good_stream(context: &Context, seed: u8) -> Outcome<Stream> {
    let card = Card::new(context)?;
    card.fill(context.ports(), seed)?;
    Stream::parse(&card.save()?).map_err(Stop::failed)
}

/// Numbers that look random and are the same in every run: xorshift64.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Starts with a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed.max(1))
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns the next number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.number() >> 16) as usize % limit.max(1)
    }

    /// Returns random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.number() >> 24) as u8).collect()
    }
}
