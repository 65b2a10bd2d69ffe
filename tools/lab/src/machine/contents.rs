// SPDX-License-Identifier: GPL-2.0

//! The contents of initramfs images: busybox, programs with their libraries, QEMUs, kernel modules.

use std::path::Path;

use anyhow::Result;
use lab_host::job;
use lab_host::vmm::Qemu;

use crate::components::Components;
use crate::initramfs::Initramfs;
use crate::libraries;
use crate::modules::Module;

/// Firmware and option ROMs that the nested QEMU may ask for.
const FIRMWARE: [(&str, &str); 4] = [
    ("usr/share/seabios", "bios-256k.bin"),
    ("usr/share/qemu", "qboot.rom"),
    ("usr/share/qemu", "kvmvapic.bin"),
    ("usr/share/qemu", "linuxboot_dma.bin"),
];

/// Commands of busybox that VMs have.
const BUSYBOX_APPLETS: [&str; 52] = [
    "sh",
    "cat",
    "ls",
    "echo",
    "dmesg",
    "grep",
    "sed",
    "awk",
    "head",
    "tail",
    "sort",
    "wc",
    "od",
    "hexdump",
    "dd",
    "mkdir",
    "rm",
    "rmdir",
    "cp",
    "mv",
    "ln",
    "find",
    "ps",
    "kill",
    "sleep",
    "env",
    "insmod",
    "rmmod",
    "lsmod",
    "mount",
    "umount",
    "test",
    "tr",
    "cut",
    "timeout",
    "readlink",
    "seq",
    "true",
    "cmp",
    "sha256sum",
    "sync",
    "stat",
    "basename",
    "touch",
    "truncate",
    "printf",
    "false",
    "uniq",
    "ip",
    "brctl",
    "ping",
    "arp",
];

/// Writes busybox and its commands into `archive`.
pub(super) fn add_busybox(components: &Components, archive: &mut Initramfs) -> Result<()> {
    archive.file("/bin/busybox", &components.busybox()?, true)?;
    for applet in BUSYBOX_APPLETS {
        archive.symlink(&format!("/bin/{applet}"), "busybox")?;
    }
    Ok(())
}

/// Writes a program of `root` into `archive`, with the libraries that it needs, all below `place`.
pub(super) fn add_program(
    root: &Path,
    program: &str,
    place: &str,
    archive: &mut Initramfs,
) -> Result<()> {
    let file = root.join(program);
    archive.file(&format!("{place}/{program}"), &file, true)?;
    for (name, path) in libraries::needed(root, &file)? {
        let directory = if name.starts_with("ld-linux") {
            "lib64"
        } else {
            "usr/lib/x86_64-linux-gnu"
        };
        archive.file(&format!("{place}/{directory}/{name}"), &path, true)?;
    }
    Ok(())
}

/// Writes a QEMU into `archive`.
pub(super) fn add_qemu(components: &Components, qemu: Qemu, archive: &mut Initramfs) -> Result<()> {
    let (root, place) = (components.guest_qemu(qemu)?, qemu.root());
    add_program(root, "usr/bin/qemu-system-x86_64", place, archive)?;
    for (directory, name) in FIRMWARE {
        archive.file(
            &format!("{place}/usr/share/qemu/{name}"),
            &root.join(directory).join(name),
            false,
        )?;
    }
    Ok(())
}

/// Writes modules into `archive`, except for `known` ones, which it has already.
pub(super) fn add_modules(
    archive: &mut Initramfs,
    modules: Vec<Module>,
    known: &[job::Module],
) -> Result<Vec<job::Module>> {
    let mut added = Vec::new();
    for module in modules {
        if known.iter().any(|known| known.name == module.name) {
            continue;
        }
        let path = format!("/lib/modules/{}.ko", module.name);
        archive.data(&path, &module.content, false)?;
        added.push(job::Module {
            name: module.name,
            path,
            parameters: String::new(),
            optional: false,
        });
    }
    Ok(added)
}
