// SPDX-License-Identifier: GPL-2.0

//! Disks that QEMU itself emulates, on files in memory.

use std::fs::File;

use anyhow::Context;
use anyhow::Result;

use crate::vm::Hardware;

/// Bytes of a disk, as many as a Ferry disk has by itself.
const SIZE: u64 = 64 << 20;

/// What a virtio disk and an NVMe disk are called, and QEMU's devices.
const VIRTIO: (&str, &str) = ("virtio", "virtio-blk-pci");
const NVME: (&str, &str) = ("nvme", "nvme,serial=ferry");

/// A disk whose content is `medium`, as QEMU's block layer has it.
fn disk((name, device): (&str, &str), medium: &str) -> Hardware {
    Hardware {
        arguments: vec![
            "-blockdev".to_owned(),
            format!("{medium},node-name={name}"),
            "-device".to_owned(),
            format!("{device},drive={name}"),
        ],
        ..Hardware::default()
    }
}

/// A disk in a new file in memory.
fn in_memory(disk_of: (&str, &str)) -> Result<Hardware> {
    let path = format!("/tmp/disk-{}", disk_of.0);
    let file = File::create(&path).with_context(|| format!("creating {path}"))?;
    file.set_len(SIZE)
        .with_context(|| format!("creating {path}"))?;
    let medium = format!("driver=file,filename={path},discard=unmap");
    Ok(disk(disk_of, &medium))
}

/// A disk on a disk of the host, past its page cache.
fn on_disk(disk_of: (&str, &str), path: &str) -> Hardware {
    let medium = format!("driver=host_device,filename={path},cache.direct=on,aio=threads");
    disk(disk_of, &medium)
}

/// One virtio disk in memory.
pub fn virtio_blk() -> Result<Hardware> {
    in_memory(VIRTIO)
}

/// One NVMe disk in memory.
pub fn nvme() -> Result<Hardware> {
    in_memory(NVME)
}

/// One virtio disk on the host's disk `path`.
pub fn virtio_blk_on(path: &str) -> Hardware {
    on_disk(VIRTIO, path)
}

/// One NVMe disk on the host's disk `path`.
pub fn nvme_on(path: &str) -> Hardware {
    on_disk(NVME, path)
}
