// SPDX-License-Identifier: GPL-2.0

//! The guest's disks, as its stock drivers offer them.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use lab_guest::report::Disk;
use lab_guest::report::DiskCounters;

use crate::modules;
use crate::pci;
use crate::pci::number;

/// PCI classes of the controllers that have disks, most of them one: NVMe and virtio's block device. A PC has other controllers, without
/// disks.
const DISK_CLASSES: [u32; 2] = [0x0108, 0x0100];

/// The option of the kernel's command line that has the number of disks.
const EXPECTED: &str = "lab.disks=";

/// Bytes of the unit of the block layer's statistics, which does not depend on the disk's blocks.
const SECTOR: u64 = 512;

/// How long all disks may take to appear once their drivers are there.
const APPEAR_LIMIT: Duration = Duration::from_secs(60);

/// How often disks are looked for: sysfs notifies of no new disk.
const APPEAR_SLICE: Duration = Duration::from_millis(20);

/// Loads the drivers, and waits until every controller has shown its disk.
pub fn find_all() -> Result<Vec<Disk>> {
    let controllers = pci::count(&DISK_CLASSES)?;
    if controllers == 0 {
        return Ok(Vec::new());
    }
    let line = fs::read_to_string("/proc/cmdline").context("the kernel's command line")?;
    let wanted = controllers.max(expected(&line));
    modules::load()?;
    let deadline = Instant::now() + APPEAR_LIMIT;
    loop {
        let disks = list()?;
        if disks.len() >= wanted {
            return Ok(disks);
        }
        if Instant::now() >= deadline {
            bail!("expected {wanted} disks, the controllers have shown these: {disks:?}");
        }
        thread::sleep(APPEAR_SLICE);
    }
}

/// The number of disks that the kernel's command line says there are, if that is more than one for each controller.
fn expected(line: &str) -> usize {
    let mut options = line.split_whitespace();
    let number = options.find_map(|option| option.strip_prefix(EXPECTED)?.parse().ok());
    number.unwrap_or(0)
}

/// The present disks, in the order of their names.
fn list() -> Result<Vec<Disk>> {
    let mut disks = Vec::new();
    for entry in fs::read_dir("/sys/block").context("listing /sys/block")? {
        let path = entry.context("listing /sys/block")?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let Some(pci) = identity(&path) else {
            continue;
        };
        let field = |file: &str| {
            let text = fs::read_to_string(path.join(file)).unwrap_or_default();
            text.trim().parse::<u64>().ok()
        };
        // A disk that disappears meanwhile is skipped.
        let (Some(sectors), Some(block)) = (field("size"), field("queue/logical_block_size"))
        else {
            continue;
        };
        disks.push(Disk {
            name: name.to_owned(),
            pci,
            bytes: sectors.saturating_mul(SECTOR),
            block,
        });
    }
    disks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(disks)
}

/// Vendor and device of the PCI function that a disk belongs to.
fn identity(disk: &Path) -> Option<String> {
    let device = fs::canonicalize(disk.join("device")).ok()?;
    device.ancestors().find_map(|directory| {
        // A virtio device has files of these names, too, which are not PCI's.
        let _ = number(&directory.join("subsystem_device"))?;
        let vendor = number(&directory.join("vendor"))?;
        let device = number(&directory.join("device"))?;
        Some(format!("{vendor:04x}:{device:04x}"))
    })
}

/// The counters of the disks `names`.
pub fn counters(names: &[String]) -> Vec<DiskCounters> {
    let counted = |name: &String| {
        // A disk whose driver is being unbound has no counters.
        let stat = fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap_or_default();
        parse_stat(name, &stat)
    };
    names.iter().map(counted).collect()
}

/// Parses the line that the kernel's `Documentation/block/stat.rst` describes.
fn parse_stat(name: &str, stat: &str) -> DiskCounters {
    let fields: Vec<u64> = stat
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    let field = |index: usize| fields.get(index).copied().unwrap_or(0);
    DiskCounters {
        name: name.to_owned(),
        reads: field(0),
        read_bytes: field(2).saturating_mul(SECTOR),
        writes: field(4),
        written_bytes: field(6).saturating_mul(SECTOR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_the_number_of_disks() {
        assert_eq!(expected("console=ttyS0 lab.disks=4 quiet\n"), 4);
        assert_eq!(expected("console=ttyS0\n"), 0);
    }

    #[test]
    fn the_block_layers_statistics_are_read_by_column() {
        let counters = parse_stat("vda", "   446 1 5672 10 81 2 648 20 0 30 40 0 0 0 0 0 0\n");
        let expected = DiskCounters {
            name: "vda".to_owned(),
            reads: 446,
            read_bytes: 5672 * 512,
            writes: 81,
            written_bytes: 648 * 512,
        };
        assert_eq!(counters, expected);
        assert_eq!(parse_stat("vda", "").reads, 0, "a disk that is gone");
    }
}
