// SPDX-License-Identifier: GPL-2.0

//! The serial card's ports, as the guest's stock driver offers them.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use lab_guest::report::Driver;
use rustix::fs::OFlags;
use rustix::termios;
use rustix::termios::ControlModes;
use rustix::termios::OptionalActions;
use rustix::termios::QueueSelector;
use rustix::termios::SpecialCodeIndex;

/// PCI vendor of the card.
const VENDOR: u32 = 0x1af4;

/// PCI devices: the card with one, two and four ports.
const DEVICES: std::ops::RangeInclusive<u32> = 0x10f1..=0x10f3;

/// The driver's files with the counters of its ports. The name has changed over time.
const DRIVER_TABLES: [&str; 2] = ["/proc/tty/driver/serial_8250", "/proc/tty/driver/serial"];

/// Bits per second. The card's line is infinitely fast, but the driver wants a number.
const SPEED: u32 = 115_200;

/// The names of all ports that belong to a serial card, in order.
pub fn find_ports() -> Result<Vec<String>> {
    let mut ports = Vec::new();
    for entry in fs::read_dir("/sys/class/tty").context("listing /sys/class/tty")? {
        let entry = entry.context("listing /sys/class/tty")?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(number) = name
            .strip_prefix("ttyS")
            .and_then(|digits| digits.parse::<u32>().ok())
        else {
            continue;
        };
        if fs::canonicalize(entry.path()).is_ok_and(|path| is_of_card(&path)) {
            ports.push((number, name));
        }
    }
    ports.sort();
    Ok(ports.into_iter().map(|(_, name)| name).collect())
}

/// Whether the device at `path` sits below one of the cards.
fn is_of_card(path: &Path) -> bool {
    let number = |directory: &Path, file: &str| {
        let text = fs::read_to_string(directory.join(file)).ok()?;
        u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
    };
    path.ancestors().any(|directory| {
        number(directory, "vendor") == Some(VENDOR)
            && number(directory, "device").is_some_and(|device| DEVICES.contains(&device))
    })
}

/// Keeps the kernel from suspending the port when it has been idle for a while.
///
/// Linux (seen with 7.3) forgets to send what is written while a suspend fails because the port has
/// become busy: `__uart_start()` leaves it to a resume, which `rpm_suspend()` then drops. If the delay
/// of autosuspend has passed meanwhile, no other suspend is tried either, and nothing is sent before
/// more is written. The streams would wait for ever, for they write only when lines come back.
fn keep_awake(name: &str) -> Result<()> {
    let path = format!("/sys/class/tty/{name}/device/power/control");
    fs::write(&path, "on").with_context(|| format!("writing {path}"))
}

/// Opens the port raw, with hardware flow control.
pub fn open(name: &str) -> Result<File> {
    keep_awake(name)?;
    let path = Path::new("/dev").join(name);
    let tty = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags((OFlags::NOCTTY | OFlags::CLOEXEC).bits() as i32)
        .open(&path)
        .with_context(|| format!("opening {name}"))?;
    let mut modes = termios::tcgetattr(&tty).with_context(|| format!("{name}: tcgetattr"))?;
    modes.make_raw();
    modes.control_modes |= ControlModes::CRTSCTS | ControlModes::CREAD | ControlModes::CLOCAL;
    modes.special_codes[SpecialCodeIndex::VMIN] = 1;
    modes.special_codes[SpecialCodeIndex::VTIME] = 0;
    modes
        .set_speed(SPEED)
        .with_context(|| format!("{name}: set_speed"))?;
    termios::tcsetattr(&tty, OptionalActions::Now, &modes)
        .with_context(|| format!("{name}: tcsetattr"))?;
    termios::tcflush(&tty, QueueSelector::IOFlush).with_context(|| format!("{name}: tcflush"))?;
    Ok(tty)
}

/// The driver's counters of the port, 0 where the driver has none.
pub fn counters(name: &str) -> Driver {
    let mut counters = Driver::default();
    let number = name.trim_start_matches("ttyS");
    let table = DRIVER_TABLES
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .unwrap_or_default();
    let line = table
        .lines()
        .find_map(|line| line.strip_prefix(number)?.strip_prefix(':'));
    let mut interrupt = None;
    for (key, value) in line
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| {
            let (key, value) = word.split_once(':')?;
            Some((key, value.parse::<u64>().ok()?))
        })
    {
        match key {
            "irq" => interrupt = Some(value),
            "tx" => counters.tx = value,
            "rx" => counters.rx = value,
            "fe" => counters.framing = value,
            "pe" => counters.parity = value,
            "brk" => counters.breaks = value,
            "oe" => counters.overruns = value,
            _ => {}
        }
    }
    if let Some(interrupt) = interrupt {
        let label = format!("{interrupt}:");
        let table = fs::read_to_string("/proc/interrupts").unwrap_or_default();
        let line = table
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(&label));
        // One column per CPU, then names.
        counters.interrupts = line
            .unwrap_or_default()
            .split_whitespace()
            .map_while(|word| word.parse::<u64>().ok())
            .sum();
    }
    counters
}
