// SPDX-License-Identifier: GPL-2.0

//! The kernel's own selftests for VFIO, built by their Makefile from the pinned kernel's source.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;

use crate::cache::Cache;
use crate::console::Console;
use crate::kernel_build;
use crate::kernel_build::Commands;
use crate::setup::Component;
use crate::setup::SetUp;
use crate::source::Source;

/// Where the tests are in the kernel's source.
const DIRECTORY: &str = "tools/testing/selftests/vfio";

/// The programs that have variants for type1. The others need iommufd.
pub const PROGRAMS: [&str; 3] = [
    "vfio_dma_mapping_test",
    "vfio_dma_mapping_mmio_test",
    "vfio_pci_device_init_perf_test",
];

/// The variants that the stock kernel can run, as options.
pub const TYPE1: [&str; 8] = [
    "-v",
    "vfio_type1_iommu",
    "-v",
    "vfio_type1v2_iommu",
    "-v",
    "vfio_type1_iommu_anonymous",
    "-v",
    "vfio_type1v2_iommu_anonymous",
];

/// What the build needs.
pub const COMPONENTS: [Component; 3] = [
    Component::Toolchain,
    Component::LinuxSource,
    Component::GuestTools,
];

/// The directory of the programs.
pub fn output(source: &Source) -> PathBuf {
    source.build().join("kernel-selftests")
}

/// The commands that build the programs: the kernel's headers for programs, and with these the tests.
pub fn commands(
    source: &Source,
    cache: &Cache,
    console: &Console,
    set_up: &SetUp,
) -> Result<Commands> {
    let output = output(source);
    let lock = kernel_build::lock(source, console, &output)?;
    fs::create_dir_all(&output).with_context(|| format!("creating {}", output.display()))?;
    let linux = set_up.path(Component::LinuxSource)?;
    let tools = set_up.path(Component::GuestTools)?;
    let toolchain = set_up.path(Component::Toolchain)?;
    let make = || kernel_build::make(source, cache, toolchain, &[]);

    let mut headers = make();
    headers
        .arg("-C")
        .arg(linux)
        .arg(format!("O={}/headers", output.display()))
        .arg("headers");
    let mut tests = make();
    tests
        .arg("-C")
        .arg(linux.join(DIRECTORY))
        .arg(format!("OUTPUT={}", output.display()))
        .arg(format!(
            "KHDR_INCLUDES=-isystem {}/headers/usr/include",
            output.display()
        ))
        .arg(kernel_build::STOCK_COMPILER)
        // libuuid is not in the toolchain.
        .arg(format!(
            "EXTRA_CFLAGS=-idirafter {}/usr/include",
            tools.display()
        ))
        .arg(format!(
            "LDFLAGS=-static -pthread -L{}/usr/lib/x86_64-linux-gnu",
            tools.display()
        ));
    Ok(Commands {
        commands: vec![headers, tests],
        lock,
    })
}
