// SPDX-License-Identifier: GPL-2.0

//! Where the things are that a run is made of.
//!
//! `make` sets them up and names them in the environment; each can be given as an option, too.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use lab_host::vmm::Qemu;

/// Paths of components, as options or from the environment.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Components (set by make)")]
pub struct Components {
    /// Root with busybox; without it the machine's own is used
    #[arg(long, global = true, env = "FERRY_TOOLCHAIN", value_name = "DIR")]
    toolchain: Option<PathBuf>,

    /// Tree with the QEMU that runs the host VM; without it the machine's own is used
    #[arg(long, global = true, env = "FERRY_HOST_QEMU", value_name = "DIR")]
    host_qemu: Option<PathBuf>,

    /// Stock kernel: vmlinuz and lib/modules
    #[arg(long, global = true, env = "FERRY_KERNEL", value_name = "DIR")]
    kernel: Option<PathBuf>,

    /// Debug kernel: vmlinuz and lib/modules
    #[arg(long, global = true, env = "FERRY_DEBUG_KERNEL", value_name = "DIR")]
    debug_kernel: Option<PathBuf>,

    /// Tree with QEMU 7.2, whose devices migrate through the v1 region
    #[arg(long, global = true, env = "FERRY_QEMU7", value_name = "DIR")]
    qemu7: Option<PathBuf>,

    /// Tree with QEMU 10.0, whose devices migrate through protocol v2
    #[arg(long, global = true, env = "FERRY_QEMU10", value_name = "DIR")]
    qemu10: Option<PathBuf>,

    /// Tree with QEMU 11.1, the same
    #[arg(long, global = true, env = "FERRY_QEMU11", value_name = "DIR")]
    qemu11: Option<PathBuf>,

    /// Tree with the programs of a guest that has disks: fio, nvme-cli and others
    #[arg(long, global = true, env = "FERRY_GUEST_TOOLS", value_name = "DIR")]
    guest_tools: Option<PathBuf>,

    /// Directory with Ferry's modules
    #[arg(long, global = true, env = "FERRY_MODULES", value_name = "DIR")]
    modules: Option<PathBuf>,

    /// Directory with the kernel's sample device mtty.ko, on which kselftests run, too
    #[arg(long, global = true, env = "FERRY_SAMPLES", value_name = "DIR")]
    samples: Option<PathBuf>,

    /// Directory with the static programs
    #[arg(long, global = true, env = "FERRY_PROGRAMS", value_name = "DIR")]
    programs: Option<PathBuf>,

    /// Ferry's source
    #[arg(long, global = true, env = "FERRY_SRC", value_name = "DIR")]
    source: Option<PathBuf>,
}

fn given<'a>(path: &'a Option<PathBuf>, what: &str, option: &str) -> Result<&'a Path> {
    match path {
        Some(path) if path.exists() => Ok(path),
        Some(path) => bail!("{what}: {} does not exist", path.display()),
        None => bail!("{what} is not known: run this through make, or give --{option}"),
    }
}

impl Components {
    /// A command that runs the QEMU of the host VM.
    pub fn host_qemu(&self) -> Result<Command> {
        const PROGRAM: &str = "qemu-system-x86_64";
        const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
        let Some(tree) = &self.host_qemu else {
            return Ok(Command::new(PROGRAM));
        };
        let program = tree.join("usr/bin").join(PROGRAM);
        if !program.is_file() {
            bail!("{} is missing", program.display());
        }
        // The tree has libraries of its own, which are not this machine's.
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
        if debug {
            given(&self.debug_kernel, "the debug kernel", "debug-kernel")
        } else {
            given(&self.kernel, "the stock kernel", "kernel")
        }
    }

    /// A QEMU that runs guests in the host VM.
    pub fn guest_qemu(&self, qemu: Qemu) -> Result<&Path> {
        let (tree, option) = match qemu {
            Qemu::V7_2 => (&self.qemu7, "qemu7"),
            Qemu::V10_0 => (&self.qemu10, "qemu10"),
            Qemu::V11_1 => (&self.qemu11, "qemu11"),
        };
        given(tree, &format!("QEMU {}", qemu.version()), option)
    }

    /// The programs of a guest that has disks.
    pub fn guest_tools(&self) -> Result<&Path> {
        given(&self.guest_tools, "the guest's programs", "guest-tools")
    }

    /// Ferry's modules.
    pub fn modules(&self) -> Result<&Path> {
        given(
            &self.modules,
            "the directory with Ferry's modules",
            "modules",
        )
    }

    /// The kernel's sample modules, if they were built.
    pub fn samples(&self) -> Option<&Path> {
        self.samples.as_deref().filter(|path| path.is_dir())
    }

    /// A static program.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = given(
            &self.programs,
            "the directory with the static programs",
            "programs",
        )?
        .join(name);
        if !path.is_file() {
            bail!("{} is missing: run \"make programs\"", path.display());
        }
        Ok(path)
    }

    /// Ferry's source.
    pub fn source(&self) -> Result<&Path> {
        given(&self.source, "Ferry's source", "source")
    }

    /// Where a file goes that is made for a person: the build directory, when there is one.
    pub fn output(&self, name: &str) -> PathBuf {
        match &self.source {
            Some(source) => source.join("build").join(name),
            None => PathBuf::from(name),
        }
    }

    /// A static busybox.
    pub fn busybox(&self) -> Result<PathBuf> {
        let root = self.toolchain.as_deref().unwrap_or(Path::new("/"));
        ["usr/bin/busybox", "bin/busybox"]
            .iter()
            .map(|path| root.join(path))
            .find(|path| path.is_file())
            .with_context(|| format!("no busybox in {}: install busybox-static", root.display()))
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
