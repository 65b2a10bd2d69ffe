// SPDX-License-Identifier: GPL-2.0

//! The initramfs of the migrated guest.

use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use lab_host::job;

use super::contents::add_busybox;
use super::contents::add_modules;
use super::contents::add_program;
use crate::components::kernel_modules;
use crate::components::Components;
use crate::initramfs::Initramfs;
use crate::modules::Modules;

/// Programs of the guest, which load, make and check disks, and set network cards.
const GUEST_PROGRAMS: [&str; 6] = [
    "usr/bin/fio",
    "usr/sbin/nvme",
    "usr/sbin/mke2fs",
    "usr/sbin/e2fsck",
    "usr/sbin/blkdiscard",
    "usr/sbin/ethtool",
];

/// Modules of the stock kernel that a guest with disks, a network card or a balloon needs, with parameters. With a queue for
/// writes alone, a guest with one processor has two pairs of queues.
const GUEST_MODULES: [(&str, &str); 7] = [
    ("nvme", "write_queues=1"),
    ("virtio_blk", ""),
    ("ext4", ""),
    ("virtio_balloon", ""),
    ("e1000e", ""),
    ("8021q", ""),
    ("macvlan", ""),
];

/// The file from which the guest's first process reads the modules' order.
const GUEST_MODULES_ORDER: &str = "/lib/modules/order";

/// Writes the guest's initramfs: its first process, programs for its disks, and the modules that
/// disks need.
pub(super) fn write_guest(components: &Components, path: &Path) -> Result<()> {
    let mut archive = Initramfs::create(path)?;
    archive.file("/init", &components.program("lab-guest")?, true)?;
    add_busybox(components, &mut archive)?;
    let root = components.guest_tools()?;
    for program in GUEST_PROGRAMS {
        add_program(root, program, "", &mut archive)?;
    }
    let kernel = kernel_modules(components.kernel(false)?)?;
    let available = Modules::find(&[], &kernel)?;
    let mut modules = Vec::new();
    for (name, parameters) in GUEST_MODULES {
        let closure = available
            .closure(name)
            .context("collecting the guest's modules")?;
        let added = add_modules(&mut archive, closure, &modules)?;
        modules.extend(added.into_iter().map(|module| job::Module {
            parameters: if module.name == name {
                parameters.to_owned()
            } else {
                String::new()
            },
            ..module
        }));
    }
    let order: String = modules
        .iter()
        .map(|module| format!("{} {}\n", module.path, module.parameters))
        .collect();
    archive.data(GUEST_MODULES_ORDER, order.as_bytes(), false)?;
    archive.finish()
}
