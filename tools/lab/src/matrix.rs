// SPDX-License-Identifier: GPL-2.0

//! The table of QEMUs, protocols and devices: in the README with the number of scenarios, and at the end of a test run
//! with their results.

use lab_host::device::driver;
use lab_host::device::Kind;
use lab_host::device::CARD_DRIVER;
use lab_host::event::Outcome;
use lab_host::scenario::Scenario;
use lab_host::vmm::Qemu;

/// The mdev types and the variant driver with which the scenarios are run.
pub const SERIAL: &str = "ferry_uart-2";
pub const DISK: &str = "ferry_nvme-512";
pub const DEVICES: [&str; 3] = [SERIAL, DISK, CARD_DRIVER];

/// The QEMU that uses the device's own log of DMA on the debug kernel.
pub const QEMU_WITH_DEVICE_LOG: Qemu = Qemu::V10_0;

const HEADS: [&str; 2] = ["QEMU", "protocol"];

/// QEMUs of one kind, and the protocol that they use.
struct Row {
    qemu: Qemu,
    title: String,
    protocol: &'static str,
    has: fn(Scenario) -> bool,
    debug: bool,
}

impl Row {
    /// The scenarios that a device goes through.
    fn scenarios(&self, device: &str) -> Vec<Scenario> {
        let all = match Kind::of(device) {
            // Nothing follows the DMA of the network card.
            Some(Kind::NetworkCard) if self.debug => Vec::new(),
            Some(_) if self.debug => vec![Scenario::DeviceLog],
            Some(kind) => Scenario::of(kind, self.qemu),
            None => Vec::new(),
        };
        all.into_iter().filter(|it| (self.has)(*it)).collect()
    }
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for qemu in Qemu::ALL {
        rows.push(Row {
            qemu,
            title: qemu.version().to_owned(),
            protocol: if qemu.speaks_v1() { "v1" } else { "v2" },
            has: |scenario| scenario != Scenario::FromOldQemu,
            debug: false,
        });
    }
    for qemu in Qemu::OF_V2 {
        rows.push(Row {
            qemu,
            title: format!("{} to {}", Qemu::V7_2.version(), qemu.version()),
            protocol: "v1 to v2",
            has: |scenario| scenario == Scenario::FromOldQemu,
            debug: false,
        });
    }
    rows.push(Row {
        qemu: QEMU_WITH_DEVICE_LOG,
        title: format!("{} with iommufd", QEMU_WITH_DEVICE_LOG.version()),
        protocol: "v2 and DMA log",
        has: |_| true,
        debug: true,
    });
    rows
}

/// The part of a test run in which a device goes through the scenarios with a QEMU.
pub fn part(device: &str, qemu: Qemu) -> String {
    let driver = driver(device);
    let name = driver.strip_prefix("ferry_").unwrap_or(driver);
    if qemu == Qemu::default() {
        format!("scenarios {name}")
    } else {
        format!("scenarios {name} QEMU {}", qemu.version())
    }
}

/// Lays out a table in Markdown. Rows with only empty cells are left out.
fn table(cell: impl Fn(&Row, &str) -> String) -> String {
    let mut heads: Vec<String> = HEADS.map(str::to_owned).to_vec();
    heads.extend(DEVICES.map(|device| driver(device).to_owned()));
    let mut lines = vec![heads];
    for row in rows() {
        let cells = DEVICES.map(|device| cell(&row, device));
        if cells.iter().any(|cell| !cell.is_empty()) {
            let mut line = vec![row.title.clone(), row.protocol.to_owned()];
            line.extend(cells);
            lines.push(line);
        }
    }
    if lines.len() == 1 {
        return String::new();
    }
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max();
    let widths: Vec<_> = (0..lines[0].len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            text.push_str(&format!("| {cell:width$} "));
        }
        text.push_str("|\n");
        if index == 0 {
            for width in &widths {
                text.push_str(&format!("|{}", "-".repeat(width + 2)));
            }
            text.push_str("|\n");
        }
    }
    text
}

/// The numbers of scenarios that run on the stock kernel.
pub fn tested() -> String {
    table(|row, device| match row.scenarios(device).len() {
        _ if row.debug => String::new(),
        0 => String::new(),
        1 => "1 scenario".to_owned(),
        count => format!("{count} scenarios"),
    })
}

/// A result of a scenario: the part that ran it, its title, and its outcome.
pub type Seen<'a> = (&'a str, &'a str, &'a Outcome);

/// The numbers of scenarios that passed.
pub fn seen(results: &[Seen<'_>]) -> String {
    table(|row, device| {
        let part = part(device, row.qemu);
        let titles: Vec<_> = row
            .scenarios(device)
            .iter()
            .map(|scenario| scenario.title())
            .collect();
        let outcomes = results
            .iter()
            .filter(|(of, title, _)| *of == part && titles.iter().any(|it| it == title));
        let passed = outcomes
            .clone()
            .filter(|(_, _, outcome)| matches!(outcome, Outcome::Passed));
        match outcomes.count() {
            0 => String::new(),
            _ => format!("{} of {} passed", passed.count(), titles.len()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_tested() {
        for row in rows() {
            for device in DEVICES {
                if row.debug && device == CARD_DRIVER {
                    continue;
                }
                assert!(
                    !row.scenarios(device).is_empty(),
                    "expected a scenario of {device} with QEMU {}, saw none",
                    row.title
                );
            }
        }
    }

    #[test]
    fn only_what_was_run_is_in_the_table() {
        assert_eq!(seen(&[]), "");
        let part = part(DISK, Qemu::V11_1);
        let title = Scenario::Multifd.title();
        let other = Scenario::FromOldQemu.title();
        let failed = Outcome::Failed(String::new());
        let table = seen(&[(&part, &title, &Outcome::Passed), (&part, &other, &failed)]);
        let all = Scenario::of(Kind::Disk, Qemu::V11_1).len() - 1;
        let expected = [
            format!("| 11.1        | v2       |            | 1 of {all} passed |              |"),
            "| 7.2 to 11.1 | v1 to v2 |            | 0 of 1 passed |              |".to_owned(),
        ];
        assert_eq!(table.lines().skip(2).collect::<Vec<_>>(), expected);
    }
}
