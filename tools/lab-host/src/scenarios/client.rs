// SPDX-License-Identifier: GPL-2.0

//! The client library moves a device's state without a VMM: out of the file into which QEMU 7.2 has put a guest, through
//! protocol v2 into a new device, and from that device through protocol v1 into another one.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io::BufReader;

use anyhow::bail;
use anyhow::ensure;
use anyhow::Context;
use anyhow::Error;
use anyhow::Result;
use lab_host::device;
use lab_host::device::Kind;
use serde_json::json;
use serde_json::Value;
use vfio_client::savevm;
use vfio_client::stream::Stream;
use vfio_client::v1;
use vfio_client::v2;
use vfio_client::v2::State;
use vfio_client::Errno;
use vfio_client::GroupSession;
use vfio_client::GuestMemory;
use vfio_drivers::nvme;
use vfio_drivers::nvme::nvm;
use vfio_drivers::uart::Uart;
use vfio_drivers::uart::PORT_SIZE;

use super::load;
use super::migration::from_file;
use super::migration::to_file;
use super::migration::STATE_FILE;
use super::running::Running;
use super::Bench;
use crate::assigned::Assigned;
use crate::kernel::Log;
use crate::mdev::Mdev;
use crate::program;
use crate::recipe::Recipe;
use crate::report::doing;
use crate::vm::Vm;

/// The largest number of bytes of state that the file may have: a disk's content several times.
const STATE_MAX: usize = 512 << 20;

/// Bytes that are moved at once.
const PIECE: usize = 1 << 20;

/// The BAR with the registers.
const BAR0: u32 = 0;

/// The end of the NVMe controller's registers that tell its settings.
const CONTROLLER_SETTINGS: u64 = nvme::register::ACQ + 8;

/// The IOVA and the size in bytes of the NVMe driver's memory. The guest's queues, which the driver does not know, are
/// elsewhere.
const MEMORY: u64 = 0x100_0000;
const MEMORY_SIZE: usize = 4 << 20;

/// Entries of the driver's queues.
const DEPTH: u16 = 16;

/// Bytes that are read from a disk at once.
const READ_SIZE: u64 = 128 << 10;

/// The offset of the read buffer in the driver's memory.
const COLD_FILE: &str = "/tmp/cold-read";

/// Registers, by their offset in BAR0.
type Registers = BTreeMap<u64, u64>;

/// The registers to look at as their size in bytes, and their offsets in a BAR0 of `size` bytes.
fn layout(kind: Kind, size: u64) -> (u64, impl Iterator<Item = u64>) {
    let (width, end) = match kind {
        Kind::Serial => (1, size),
        Kind::Disk | Kind::NetworkCard => (4, CONTROLLER_SETTINGS),
    };
    (width, (0..end).step_by(width as usize))
}

/// The device `id` in the result of QEMU's `query-pci`, also behind bridges.
fn find<'a>(devices: &'a Value, id: &str) -> Option<&'a Value> {
    devices.as_array()?.iter().find_map(|device| {
        if device["qdev_id"] == id {
            Some(device)
        } else {
            find(&device["pci_bridge"]["devices"], id)
        }
    })
}

/// The number in the output of QEMU's monitor for humans: `portb[0xc000] = 0x0b`.
fn number(answer: &str) -> Option<u64> {
    let digits = answer.trim_end().rsplit(' ').next()?.strip_prefix("0x")?;
    u64::from_str_radix(digits, 16).ok()
}

/// The registers of the first device of a QEMU. The device is stopped, so that a read changes nothing.
fn registers_in_qemu(vm: &mut Vm, kind: Kind) -> Result<Registers> {
    let buses = vm.qmp.execute("query-pci", json!({}))?;
    let bar = buses.as_array().into_iter().flatten().find_map(|bus| {
        let regions = find(&bus["devices"], "device0")?["regions"].as_array()?;
        let bar = regions.iter().find(|region| region["bar"] == BAR0)?;
        Some((bar["address"].as_u64()?, bar["size"].as_u64()?))
    });
    let (base, size) = bar.with_context(|| format!("no BAR of the device in {buses}"))?;
    let (_, offsets) = layout(kind, size);
    offsets
        .map(|offset| {
            let address = base + offset;
            let command = match kind {
                Kind::Serial => format!("i/b {address:#x}"),
                Kind::Disk | Kind::NetworkCard => format!("xp/1xw {address:#x}"),
            };
            let arguments = json!({ "command-line": command });
            let answer = vm.qmp.execute("human-monitor-command", arguments)?;
            let value = answer.as_str().and_then(number);
            let value = value.with_context(|| format!("{command}: {answer}"))?;
            Ok((offset, value))
        })
        .collect()
}

/// A device that the client library has opened. The session is dropped first, and all clones of the device before this:
/// removing an mdev waits for its last user.
struct Open {
    session: GroupSession,
    kind: Kind,
    mdev: Mdev,
}

impl Open {
    /// Makes a device and opens it.
    fn new(recipe: &Recipe, kind: Kind) -> Result<Self> {
        let mdev = Mdev::create(recipe)?;
        let session = GroupSession::open(&vfio_client::Mdev::existing(mdev.uuid()))?;
        Ok(Self {
            session,
            kind,
            mdev,
        })
    }

    fn registers(&self) -> Result<Registers> {
        let bar = self.session.device.region(BAR0)?;
        let (width, offsets) = layout(self.kind, bar.size());
        offsets
            .map(|offset| {
                let value = match width {
                    1 => bar.read_u8(offset)?.into(),
                    _ => bar.read_u32(offset)?.into(),
                };
                Ok((offset, value))
            })
            .collect()
    }

    /// Checks that the registers are as they were in QEMU.
    fn expect_registers(&self, expected: &Registers, when: &str) -> Result<()> {
        let seen = self.registers()?;
        ensure!(
            seen == *expected,
            "registers {when}: expected {expected:x?}, saw {seen:x?}"
        );
        Ok(())
    }
}

/// Loads a stream into a device through protocol v2, and leaves the device in STOP.
fn resume(migration: &v2::Migration, stream: &[u8]) -> vfio_client::Result<()> {
    let file = migration.begin(State::RESUMING)?;
    file.write_all(stream, PIECE)?;
    migration.set_state(State::STOP).map(drop)
}

/// Saves a stream from a device in STOP through protocol v2.
fn save(migration: &v2::Migration) -> vfio_client::Result<Vec<u8>> {
    let stream = migration.begin(State::STOP_COPY)?.read_all(PIECE)?;
    migration.set_state(State::STOP)?;
    Ok(stream)
}

/// Damaged streams: the damage in words, the stream, and the expected errno.
fn damaged(stream: &[u8]) -> [(&'static str, Vec<u8>, Errno); 4] {
    let flipped = |at: usize| {
        let mut bad = stream.to_vec();
        if let Some(byte) = bad.get_mut(at) {
            *byte ^= 1;
        }
        bad
    };
    let last = stream.len().saturating_sub(1);
    [
        ("its first byte is another", flipped(0), Errno::BADMSG),
        ("a byte in it is another", flipped(last / 2), Errno::BADMSG),
        ("its last byte is another", flipped(last), Errno::BADMSG),
        (
            "its last byte is missing",
            stream[..last].to_vec(),
            Errno::NODATA,
        ),
    ]
}

/// Checks that a device refuses each stream of [`damaged`] and logs why, and that it works after a reset.
fn expect_refusals(device: &Open, stream: &[u8], log: &mut Log) -> Result<()> {
    let migration = v2::Migration::new(&device.session.device);
    let prefix = format!(
        "{} {}: ",
        device::driver(&device.mdev.recipe().kind),
        device.mdev.uuid()
    );
    for (what, bad, errno) in damaged(stream) {
        let suffix = format!("(-{})", errno.raw_os_error());
        let mut reasons = || {
            let lines = log.peek().iter();
            lines
                .filter(|line| line.starts_with(&prefix) && line.ends_with(&suffix))
                .count()
        };
        let before = reasons();
        match resume(&migration, &bad) {
            Err(error) if error.errno() == Some(errno) => {}
            other => bail!("a damaged state ({what}): expected {errno:?}, saw {other:?}"),
        }
        ensure!(
            reasons() > before,
            "a damaged state ({what}): expected a line \"{prefix}... {suffix}\" in the kernel's log"
        );
        ensure!(
            migration.state()? == State::RESUMING,
            "a damaged state ({what}): expected RESUMING, saw {}",
            migration.state()?
        );
        device.session.device.reset()?;
    }
    Ok(())
}

/// The content of a stream.
struct Carried {
    /// The device's state.
    state: Vec<u8>,
    /// The pages of its storage that are not all zeros, by their offset.
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Carried {
    fn by(stream: &[u8]) -> Result<Self> {
        let stream = Stream::parse(stream).map_err(Error::msg)?;
        let mut pages = stream.storage().map_err(Error::msg)?;
        pages.retain(|_, page| page.iter().any(|byte| *byte != 0));
        Ok(Self {
            state: stream.device_state().map_err(Error::msg)?,
            pages,
        })
    }

    /// Checks that another stream carries the same.
    fn expect_in(&self, stream: &[u8], whose: &str) -> Result<()> {
        let seen = Self::by(stream).with_context(|| whose.to_owned())?;
        ensure!(
            seen.state == self.state,
            "{whose}: expected the device state {:02x?}, saw {:02x?}",
            self.state,
            seen.state
        );
        let offsets = || self.pages.keys().chain(seen.pages.keys());
        let different = offsets().find(|offset| self.pages.get(offset) != seen.pages.get(offset));
        if let Some(offset) = different {
            bail!("{whose}: the storage at {offset:#x} is another");
        }
        Ok(())
    }
}

/// Starts a stopped card, and has each port send itself data with the settings of its guest.
fn expect_working_card(device: &Open) -> Result<()> {
    v2::Migration::new(&device.session.device).set_state(State::RUNNING)?;
    let ports = device.session.device.region(BAR0)?.size() / PORT_SIZE;
    for number in 0..ports as u8 {
        let port = Uart::new(&device.session.device, number)?;
        // Data that was in the port.
        port.receive()?;
        let text = [b'F', b'e', b'r', number];
        port.send(&text)?;
        let seen = port.receive()?;
        ensure!(
            seen == text,
            "port {number}: expected {text:?} from the plug, saw {seen:?}"
        );
    }
    Ok(())
}

/// A guest's knowledge of its disk.
struct Disk {
    serial: String,
    /// The checksum of the part that was written once.
    cold: String,
}

impl Disk {
    fn in_guest(guest: &Running) -> Result<Self> {
        let found = guest.guest.found();
        let disk = found.disks.first().context("the guest has no disk")?;
        let serial = format!("cat /sys/block/{}/device/serial", disk.name);
        let cold = format!("cat {}", load::sum_file(&disk.name));
        Ok(Self {
            serial: guest.script(&serial)?.trim().to_owned(),
            cold: guest.script(&cold)?.trim().to_owned(),
        })
    }

    /// Starts a stopped disk, and checks that it has the guest's data.
    fn expect_in(&self, device: &Open, registers: &Registers) -> Result<()> {
        let migration = v2::Migration::new(&device.session.device);
        // The guest's commands must not be executed, for the guest's memory is not mapped. So the
        // controller is reset before it may fetch any.
        migration.set_state(State::RUNNING_P2P)?;
        device.expect_registers(registers, "without DMA")?;
        let memory = GuestMemory::new(MEMORY, MEMORY_SIZE)?;
        memory.attach(&device.session.container)?;
        let mut driver = nvme::Controller::new(&device.session.device, &memory)?;
        driver.disable()?;
        migration.set_state(State::RUNNING)?;
        driver.enable(DEPTH)?;

        let controller = driver.identify(1, 0)?;
        let serial = controller.get(4..24).unwrap_or_default();
        let serial = String::from_utf8_lossy(serial);
        ensure!(
            serial.trim() == self.serial,
            "serial number: expected {}, saw {serial}",
            self.serial
        );

        let kind = &device.mdev.recipe().kind;
        let block = kind
            .rsplit_once('-')
            .and_then(|(_, size)| size.parse().ok());
        let block: u64 = block.with_context(|| format!("no size of a block in {kind}"))?;
        let queue = driver.create_pair(DEPTH, None)?;
        let mut content = Vec::new();
        for at in (0..load::COLD << 20).step_by(READ_SIZE as usize) {
            let command = driver.transfer(
                queue,
                nvm::READ,
                block.trailing_zeros() as u8,
                at / block,
                (READ_SIZE / block) as u32,
                driver.data(0),
            );
            driver.succeed(queue, command)?;
            content.extend(memory.bytes(driver.data(0), READ_SIZE as usize));
        }
        fs::write(COLD_FILE, content).context("writing what was read")?;
        let mut cold = String::new();
        let command = load::sum_of_cold_part(COLD_FILE);
        program::run_with("/bin/sh", &["-c", &command], |line| cold.push_str(&line))?;
        fs::remove_file(COLD_FILE).context("removing what was read")?;
        // The sum is followed by the name of the file, which is none in either case.
        ensure!(
            cold.trim() == self.cold,
            "the disk's first part: expected {}, saw {}",
            self.cold,
            cold.trim()
        );
        Ok(())
    }
}

/// The state of the only device in the file.
fn state_in_file() -> Result<Vec<u8>> {
    let file = File::open(STATE_FILE).context("opening the file")?;
    let mut states = savevm::device_states(BufReader::new(file), STATE_MAX)
        .with_context(|| format!("reading {STATE_FILE}"))?;
    match (states.pop(), states.len()) {
        (Some(state), 0) => Ok(state.bytes),
        (_, more) => bail!("expected the state of one device in the file, saw {more} more"),
    }
}

/// The device of a guest that was put into a file.
struct Left {
    kind: Kind,
    recipe: Recipe,
    /// The device's registers.
    registers: Registers,
    /// The device's state in the file.
    stream: Vec<u8>,
    carried: Carried,
    /// The guest's knowledge of the device, if it is a disk.
    disk: Option<Disk>,
}

impl Left {
    /// Loads the state into a new device through protocol v2, and returns the stream that the device saves.
    fn through_v2(&self, log: &mut Log) -> Result<Vec<u8>> {
        doing("loading the device's state through protocol v2");
        let device = Open::new(&self.recipe, self.kind)?;
        let migration = v2::Migration::new(&device.session.device);
        migration.set_state(State::STOP)?;
        ensure!(
            device.registers()? != self.registers,
            "expected other registers in a new device"
        );
        migration.set_state(State::RUNNING)?;
        expect_refusals(&device, &self.stream, log)?;
        resume(&migration, &self.stream)?;
        device.expect_registers(&self.registers, "after loading through protocol v2")?;
        let saved = save(&migration)?;
        self.carried
            .expect_in(&saved, "saved through protocol v2")?;
        match &self.disk {
            None => expect_working_card(&device)?,
            Some(disk) => disk.expect_in(&device, &self.registers)?,
        }
        Ok(saved)
    }

    /// Loads a stream that such a device has saved into a new device through protocol v1.
    fn through_v1(&self, stream: &[u8]) -> Result<()> {
        doing("loading the device's state through protocol v1");
        let device = Open::new(&self.recipe, self.kind)?;
        let region = v1::Migration::find(&device.session.device)?;
        let region = region.context("the device has no migration region")?;
        region.set_state(v1::State::RESUMING)?;
        region.feed(stream, PIECE)?;
        region.set_state(v1::State::STOP)?;
        device.expect_registers(&self.registers, "after loading through protocol v1")?;
        region.set_state(v1::State::STOP_COPY)?;
        self.carried
            .expect_in(&region.save()?, "saved through protocol v1")
    }
}

pub fn file_through_v2(bench: &mut Bench<'_>, log: &mut Log) -> Result<Running> {
    ensure!(
        bench.qemu.speaks_v1(),
        "this scenario needs a QEMU that uses protocol v1"
    );
    let kind = Kind::of(bench.kind()?).context("this scenario needs a device that migrates")?;
    let mut from = bench.guest()?;
    let recipe = from.hardware.devices.first().map(Assigned::recipe).cloned();
    let recipe = recipe.context("this scenario needs a device that migrates")?;
    let disk = match kind {
        Kind::Serial | Kind::NetworkCard => None,
        Kind::Disk => Some(Disk::in_guest(&from)?),
    };
    to_file(&mut from, Running::begin_through_pre_copy)?;
    // The source's device is stopped, so its registers are those that the guest left.
    let registers = registers_in_qemu(&mut from.vm, kind)?;
    doing("taking the device's state out of the file");
    let stream = state_in_file()?;
    let left = Left {
        kind,
        recipe,
        registers,
        carried: Carried::by(&stream).context("the state in the file")?,
        stream,
        disk,
    };
    let saved = left.through_v2(log)?;
    left.through_v1(&saved)?;
    // The file can still be loaded.
    from_file(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_behind_a_bridge() {
        let devices = json!([
            { "qdev_id": "port0", "pci_bridge": { "devices": [{ "qdev_id": "device0", "slot": 7 }] } },
            { "qdev_id": "", "slot": 1 },
        ]);
        assert_eq!(
            find(&devices, "device0").map(|device| &device["slot"]),
            Some(&json!(7))
        );
        assert_eq!(find(&devices, "device1"), None);
    }

    #[test]
    fn the_number_is_the_last_word() {
        assert_eq!(number("portb[0xc000] = 0x0b\r\n"), Some(0x0b));
        assert_eq!(number("00000000fe800014: 0x00460001\r\n"), Some(0x46_0001));
        assert_eq!(number("00000000fe800014: Cannot access memory\r\n"), None);
    }
}
