// SPDX-License-Identifier: GPL-2.0

//! Disks that QEMU itself emulates, on files in memory.

use std::fs::File;

use anyhow::Context;
use anyhow::Result;
use lab_host::vmm::Qemu;

use crate::vm::Hardware;

/// The capacity of a disk in bytes, which is a Ferry disk's default.
pub const SIZE: u64 = 64 << 20;

/// The name of an NVMe disk in results, and QEMU's device.
const NVME: (&str, &str) = (NVME_NODE, "nvme,serial=ferry");

/// The node of the block layer that an NVMe disk is on.
pub const NVME_NODE: &str = "nvme";

/// A virtio disk and an NVMe disk as fast as QEMU makes them. The processor of the guest goes on at once after a doorbell, and a thread of its own serves
/// the virtio disk; QEMU's NVMe disk has no such thread.
const FAST_VIRTIO: (&str, &str) = ("virtio", "virtio-blk-pci,iothread=disk-thread");
const FAST_NVME: (&str, &str) = ("nvme", "nvme,serial=ferry,ioeventfd=on");
const THREAD: [&str; 2] = ["-object", "iothread,id=disk-thread"];

/// A disk of `qemu` on the block device `medium` of QEMU's block layer.
fn disk(qemu: Qemu, (name, device): (&str, &str), medium: &str) -> Hardware {
    Hardware {
        qemu,
        machine: qemu,
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
fn in_memory(qemu: Qemu, disk_of: (&str, &str)) -> Result<Hardware> {
    in_file(qemu, disk_of, &format!("/tmp/disk-{}", disk_of.0))
}

/// A disk in a new file `path`.
fn in_file(qemu: Qemu, disk_of: (&str, &str), path: &str) -> Result<Hardware> {
    let file = File::create(path).with_context(|| format!("creating {path}"))?;
    file.set_len(SIZE)
        .with_context(|| format!("creating {path}"))?;
    let medium = format!("driver=file,filename={path},discard=unmap");
    Ok(disk(qemu, disk_of, &medium))
}

/// A disk on a disk of the host, past its page cache.
fn on_disk(qemu: Qemu, disk_of: (&str, &str), path: &str) -> Hardware {
    let medium = format!("driver=host_device,filename={path},cache.direct=on,aio=threads");
    disk(qemu, disk_of, &medium)
}

/// A virtio disk with a thread of its own.
fn with_thread(mut disk: Hardware) -> Hardware {
    disk.arguments
        .splice(0..0, THREAD.map(str::to_owned))
        .for_each(drop);
    disk
}

/// One NVMe disk in memory.
pub fn nvme(qemu: Qemu) -> Result<Hardware> {
    in_memory(qemu, NVME)
}

/// One NVMe disk in a new file `path`.
pub fn nvme_in(qemu: Qemu, path: &str) -> Result<Hardware> {
    in_file(qemu, NVME, path)
}

/// One virtio disk in memory, as fast as it can be.
pub fn fast_virtio_blk(qemu: Qemu) -> Result<Hardware> {
    Ok(with_thread(in_memory(qemu, FAST_VIRTIO)?))
}

/// One NVMe disk in memory, as fast as it can be.
pub fn fast_nvme(qemu: Qemu) -> Result<Hardware> {
    in_memory(qemu, FAST_NVME)
}

/// One virtio disk on the host's disk `path`, as fast as it can be.
pub fn fast_virtio_blk_on(qemu: Qemu, path: &str) -> Hardware {
    with_thread(on_disk(qemu, FAST_VIRTIO, path))
}

/// One NVMe disk on the host's disk `path`, as fast as it can be.
pub fn fast_nvme_on(qemu: Qemu, path: &str) -> Hardware {
    on_disk(qemu, FAST_NVME, path)
}
