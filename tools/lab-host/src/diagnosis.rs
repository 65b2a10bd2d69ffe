// SPDX-License-Identifier: GPL-2.0

//! The state of the host VM and its QEMUs at the moment when something has not happened in time.
//!
//! Code that gives up waiting calls [`look`] before anything is torn down. `look` may disturb the guest, whose test has
//! failed by then: it reads registers of the card that a read changes.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use lab_host::event::What;
use lab_host::event::WAITS;
use lab_host::monitor::Monitor;
use serde_json::json;

use crate::endless_wait;
use crate::kernel;
use crate::report;
use crate::vm_directory;

/// The first look since [`take`].
static SEEN: Mutex<Option<String>> = Mutex::new(None);

/// The kernel of the newest guest.
static GUEST_KERNEL: Mutex<Option<String>> = Mutex::new(None);

/// QMP commands whose answers are recorded.
const COMMANDS: [&str; 2] = ["query-status", "query-migrate"];

/// Commands of the monitor for humans whose answers are recorded.
const REGISTERS_COMMAND: &str = "info registers";
const HUMAN_COMMANDS: [&str; 3] = [REGISTERS_COMMAND, "info lapic", "info pic"];

/// The beginning of QEMU's line on the serial card, and on other devices whose number begins so.
const CARD: &str = "PCI device 1af4:10f";

/// Registers of a port of the card that are recorded, as offset and name. Reading the receiver would take a character.
const REGISTERS: [(u64, &str); 6] = [
    (1, "IER"),
    (2, "IIR"),
    (3, "LCR"),
    (4, "MCR"),
    (5, "LSR"),
    (6, "MSR"),
];

/// The last I/O port.
const LAST_ADDRESS: u64 = 0xffff;

/// Registers of one port.
const PORT_SIZE: u64 = 8;

/// Records the state because `what` has not happened in time. Only the first state is kept: the consequences of a failure
/// say little about its cause.
pub fn look(what: &str) {
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.is_some() {
        return;
    }
    // `lab` looks at this VM from outside before anything in the VM changes.
    report::say(What::Stuck {
        what: what.to_owned(),
    });
    let mut text = String::new();
    for (name, directory) in vm_directory::directories() {
        section(&mut text, &format!("QEMU {name}"), &qemu(&directory));
    }
    section(&mut text, "threads of QEMUs", &threads());
    let interrupts = fs::read_to_string("/proc/interrupts").unwrap_or_default();
    section(&mut text, "/proc/interrupts", &interrupts);
    // The kernel's log is part of a failure's report anyway.
    let _ = fs::write("/proc/sysrq-trigger", "w");
    *seen = Some(text);
}

/// Remembers the kernel release of a guest.
pub fn guest_runs(kernel: &str) {
    let mut guest = GUEST_KERNEL.lock().unwrap_or_else(PoisonError::into_inner);
    *guest = Some(kernel.to_owned());
}

/// The symbols of the guest's kernel, if the host runs the same kernel.
fn guest_symbols() -> Option<String> {
    let guest = GUEST_KERNEL.lock().unwrap_or_else(PoisonError::into_inner);
    let same = guest.as_ref()? == &kernel::release();
    same.then(|| fs::read_to_string("/proc/kallsyms").unwrap_or_default())
}

/// Returns and forgets the recorded state.
pub fn take() -> Option<String> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn section(text: &mut String, title: &str, content: &str) {
    let content = content.trim_end();
    if !content.is_empty() {
        let _ = writeln!(text, "--- {title}:\n{content}");
    }
}

/// The state of a QEMU, its guest and the guest's card.
fn qemu(directory: &Path) -> String {
    let mut monitor = match Monitor::connect(&directory.join(vm_directory::DIAGNOSIS)) {
        Ok(monitor) => monitor,
        Err(error) => return format!("{error:#}"),
    };
    let mut text = String::new();
    for command in COMMANDS {
        let answer = monitor.execute(command, json!({}));
        let _ = match answer {
            Ok(value) => writeln!(text, "{command}: {value}"),
            Err(error) => writeln!(text, "{error:#}"),
        };
    }
    for command in HUMAN_COMMANDS {
        let answer = monitor.human(command);
        if command == REGISTERS_COMMAND
            && guest_symbols().is_some_and(|symbols| endless_wait::is_endless(&answer, &symbols))
        {
            let _ = writeln!(text, "{WAITS}");
        }
        // Floating-point registers fill pages.
        for line in answer.lines().filter(|line| !is_vector_register(line)) {
            let _ = writeln!(text, "{line}");
        }
    }
    if let Some((base, ports)) = card(&monitor.human("info pci")) {
        for port in 0..ports {
            for (offset, name) in REGISTERS {
                let address = base + port * PORT_SIZE + offset;
                let value = monitor.human(&format!("i/b {address:#x}"));
                let _ = writeln!(text, "port {port} {name}: {value}");
            }
        }
    }
    text
}

fn is_vector_register(line: &str) -> bool {
    ["XMM", "YMM", "FPR", "FCW", "Opmask"]
        .iter()
        .any(|start| line.starts_with(start))
}

/// First I/O port and number of serial ports of the card in what `info pci` prints.
fn card(pci: &str) -> Option<(u64, u64)> {
    pci.split(CARD).skip(1).find_map(|device| {
        // The devices 1, 2 and 3 have one, two and four ports.
        let ports = match device.chars().next()? {
            '1' => 1,
            '2' => 2,
            '3' => 4,
            _ => return None,
        };
        let (_, address) = device.split_once("I/O at 0x")?;
        let digits = address.split_whitespace().next()?;
        let base = u64::from_str_radix(digits, 16).ok()?;
        // A card that the guest has not set up has no I/O ports.
        (base <= LAST_ADDRESS).then_some((base, ports))
    })
}

/// The kernel function in which each thread of each QEMU sleeps.
fn threads() -> String {
    let mut text = String::new();
    let numbered = |directory: &Path| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| {
                path.file_name()
                    .and_then(|name| name.to_str())
                    .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
            })
            .collect::<Vec<PathBuf>>()
    };
    let read = |directory: &Path, file: &str| {
        let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
        text.trim_end().to_owned()
    };
    for process in numbered(Path::new("/proc")) {
        if !read(&process, "comm").starts_with(vm_directory::PROCESS) {
            continue;
        }
        for task in numbered(&process.join("task")) {
            let stat = read(&task, "stat");
            // "number (name) state ...": the name may have blanks and parentheses.
            let state = stat
                .rsplit_once(") ")
                .and_then(|(_, rest)| rest.chars().next())
                .unwrap_or('?');
            let _ = writeln!(
                text,
                "{} {}: {state}, system call {}",
                task.display(),
                read(&task, "comm"),
                read(&task, "syscall"),
            );
            for line in read(&task, "stack").lines() {
                let _ = writeln!(text, "    {line}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_card_is_found_among_other_devices() {
        let pci = "  Bus  0, device   2, function 0:\n    PCI bridge: PCI device 1b36:000c\n      \
                   BUS 1.\n      BAR0: 32 bit memory at 0xfebc0000 [0xfebc0fff].\n  \
                   Bus  1, device   0, function 0:\n    Class 1792: PCI device 1af4:10f2\n      \
                   PCI subsystem 1af4:10f2\n      IRQ 11, pin A\n      \
                   BAR0: I/O at 0xc000 [0xc00f].\n      id \"card\"\n";
        assert_eq!(card(pci), Some((0xc000, 2)));
    }

    #[test]
    fn a_card_without_address_is_none() {
        let pci = "Class 1792: PCI device 1af4:10f1\n BAR0: I/O at 0xffffffffffffffff [0x6].\n";
        assert_eq!(card(pci), None);
        assert_eq!(card("nothing"), None);
        let disk = "Class 0264: PCI device 1af4:10f0\n BAR0: 64 bit memory at 0xfebc0000.\n";
        assert_eq!(card(disk), None);
    }
}
