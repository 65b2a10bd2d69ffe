// SPDX-License-Identifier: GPL-2.0

//! Disks that QEMU itself emulates, on files in memory.

use std::fs::File;

use anyhow::Context;
use anyhow::Result;

use crate::vm::Hardware;

/// Bytes of a disk, as many as a Ferry disk has by itself.
const SIZE: u64 = 64 << 20;

/// QEMU's arguments for a disk called `name`, with `device` in front of QEMU's device.
fn disk(name: &str, device: &str, size: u64) -> Result<Vec<String>> {
    let path = format!("/tmp/disk-{name}");
    let file = File::create(&path).with_context(|| format!("creating {path}"))?;
    file.set_len(size)
        .with_context(|| format!("creating {path}"))?;
    Ok(vec![
        "-blockdev".to_owned(),
        format!("driver=file,node-name={name},filename={path},discard=unmap"),
        "-device".to_owned(),
        format!("{device},drive={name}"),
    ])
}

/// One virtio disk.
pub fn virtio_blk() -> Result<Hardware> {
    Ok(Hardware {
        arguments: disk("virtio", "virtio-blk-pci", SIZE)?,
        ..Hardware::default()
    })
}

/// One NVMe disk.
pub fn nvme() -> Result<Hardware> {
    Ok(Hardware {
        arguments: disk("nvme", "nvme,serial=ferry", SIZE)?,
        ..Hardware::default()
    })
}
