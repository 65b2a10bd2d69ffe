// SPDX-License-Identifier: GPL-2.0

//! The paths that a run uses: components of the set-up, and what was built in the source tree.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use lab_host::vmm::Qemu;

use crate::setup::Component;
use crate::setup::SetUp;
use crate::source::Source;

/// What [`prepare`](crate::prepare) has made.
#[derive(Clone, Debug)]
pub struct Components {
    pub source: Source,
    pub set_up: SetUp,
    /// The QEMU that runs the host VM.
    pub host_qemu: Component,
    /// The directory of Ferry's modules.
    pub modules: PathBuf,
    /// The directory of the kernel's sample device, on which kselftests run, too.
    pub samples: Option<PathBuf>,
    /// The directory of the static programs.
    pub programs: PathBuf,
}

impl Components {
    /// A command that runs the QEMU of the host VM.
    pub fn host_qemu(&self) -> Result<Command> {
        const PROGRAM: &str = "qemu-system-x86_64";
        const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
        let tree = self.set_up.path(self.host_qemu)?;
        let program = tree.join("usr/bin").join(PROGRAM);
        if !program.is_file() {
            bail!("{} is missing", program.display());
        }
        // The tree has its own libraries, which differ from the machine's.
        let mut command = Command::new(tree.join("usr/lib64/ld-linux-x86-64.so.2"));
        command
            .arg("--library-path")
            .arg(tree.join(LIBRARIES))
            .arg(program);
        for firmware in ["usr/share/qemu", "usr/share/seabios"] {
            command.arg("-L").arg(tree.join(firmware));
        }
        Ok(command)
    }

    /// The directory of the kernel that the host VM runs.
    pub fn kernel(&self, debug: bool) -> Result<&Path> {
        self.set_up.path(if debug {
            Component::DebugKernel
        } else {
            Component::Kernel
        })
    }

    /// A QEMU that runs guests in the host VM.
    pub fn guest_qemu(&self, qemu: Qemu) -> Result<&Path> {
        self.set_up.path(qemu.into())
    }

    /// The programs of a guest that has disks.
    pub fn guest_tools(&self) -> Result<&Path> {
        self.set_up.path(Component::GuestTools)
    }

    /// The kernel's sample modules, if they were built.
    pub fn samples(&self) -> Option<&Path> {
        self.samples.as_deref().filter(|path| path.is_dir())
    }

    /// A static program.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self.programs.join(name);
        if !path.is_file() {
            bail!("{} is missing: run \"make programs\"", path.display());
        }
        Ok(path)
    }

    /// A static busybox.
    pub fn busybox(&self) -> Result<PathBuf> {
        let root = self.set_up.path(Component::Toolchain)?;
        ["usr/bin/busybox", "bin/busybox"]
            .iter()
            .map(|path| root.join(path))
            .find(|path| path.is_file())
            .with_context(|| format!("no busybox in {}", root.display()))
    }
}

/// The image of the kernel in `directory`.
pub fn kernel_image(directory: &Path) -> Result<PathBuf> {
    ["vmlinuz", "bzImage", "arch/x86/boot/bzImage"]
        .iter()
        .map(|name| directory.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("no vmlinuz or bzImage in {}", directory.display()))
}

/// The directory of the modules of the kernel in `directory`.
pub fn kernel_modules(directory: &Path) -> Result<PathBuf> {
    let modules = directory.join("lib/modules");
    let releases: Vec<_> = fs::read_dir(&modules)
        .with_context(|| format!("listing {}", modules.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect();
    match releases.as_slice() {
        [release] => Ok(release.clone()),
        _ => bail!(
            "{}: expected one kernel, found {}",
            modules.display(),
            releases.len()
        ),
    }
}
