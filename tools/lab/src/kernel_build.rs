// SPDX-License-Identifier: GPL-2.0

//! Kernel modules: the kernel's build on this tree, or on a copy of it, for the stock kernel or for the debug kernel.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;

use crate::cache::Cache;
use crate::console::Console;
use crate::file_lock::FileLock;
use crate::in_root::in_root;
use crate::setup::Component;
use crate::setup::SetUp;
use crate::source::Source;

/// The compiler that the stock kernel was built with.
pub const STOCK_COMPILER: &str = "CC=x86_64-linux-gnu-gcc-14";

/// The debug kernel is built with clang, as KASAN with Rust wants it.
const DEBUG_COMPILER: &str = "LLVM=1";

/// Where modules are installed.
const INSTALL_PATH: &str = "INSTALL_MOD_PATH=";

/// What a build makes, and so is neither copied into another directory nor deleted there.
const BUILT: [&str; 13] = [
    "*.o",
    "*.o.*",
    "*.a",
    "*.ko",
    "*.mod",
    "*.mod.c",
    ".*.cmd",
    ".*.d",
    "*.symvers",
    "modules.order",
    "*.rmeta",
    "/rust/metadata",
    "*_generated.*",
];

/// What the modules are built from.
pub const SOURCES: [&str; 3] = ["Kbuild", "include", "rust"];

/// A build of modules.
#[derive(Clone, Debug, Default)]
pub struct KernelBuild {
    /// For the debug kernel instead of the stock one.
    pub debug: bool,
    /// The directory below `build` that a copy of the sources is built in, so that the build in the source tree is not
    /// disturbed. The kernel's own way to build a module elsewhere, `MO=`, insists on a source tree without objects.
    pub directory: Option<String>,
    /// The directory has sources already: those of another commit, in place of a copy.
    pub has_sources: bool,
    /// Targets and variables for make.
    pub arguments: Vec<String>,
}

/// Commands that are run one after the other, and the lock that they hold.
pub struct Commands {
    pub commands: Vec<Command>,
    pub lock: FileLock,
}

impl KernelBuild {
    /// The components that a build uses.
    pub fn components(debug: bool) -> [Component; 2] {
        let tree = if debug {
            Component::DebugKernel
        } else {
            Component::Kbuild
        };
        [Component::Toolchain, tree]
    }

    /// Where the modules are afterwards.
    pub fn output(&self, source: &Source) -> PathBuf {
        match &self.directory {
            Some(name) => source.build().join(name),
            None => source.root().to_owned(),
        }
    }

    /// The commands that build.
    pub fn commands(
        &self,
        source: &Source,
        cache: &Cache,
        console: &Console,
        set_up: &SetUp,
    ) -> Result<Commands> {
        let [toolchain, tree] = Self::components(self.debug);
        let (toolchain, tree) = (set_up.path(toolchain)?, set_up.path(tree)?);
        let directory = self.output(source);
        let (arguments, installed) = self.with_absolute_install_path()?;
        let lock = lock(source, console, &directory)?;
        let mut commands = Vec::new();
        if self.directory.is_some() && !self.has_sources {
            fs::create_dir_all(&directory)
                .with_context(|| format!("creating {}", directory.display()))?;
            commands.push(copy_sources(source, cache, toolchain, &directory));
        }
        let options: [OsString; 3] = if self.debug {
            ["-C".into(), tree.join("obj").into(), DEBUG_COMPILER.into()]
        } else {
            ["-C".into(), tree.into(), STOCK_COMPILER.into()]
        };
        let mut make = make(source, cache, toolchain, &installed);
        make.args(options)
            .arg(format!("M={}", directory.display()))
            .args(arguments);
        commands.push(make);
        Ok(Commands { commands, lock })
    }

    /// The arguments with `INSTALL_MOD_PATH` as an absolute path, and that path. Modules are installed only below it:
    /// these builds see nothing of the machine's own kernels.
    fn with_absolute_install_path(&self) -> Result<(Vec<String>, Vec<PathBuf>)> {
        let mut arguments = self.arguments.clone();
        let mut installed = Vec::new();
        for argument in &mut arguments {
            let Some(path) = argument
                .strip_prefix(INSTALL_PATH)
                .filter(|it| !it.is_empty())
            else {
                continue;
            };
            let creating = || format!("creating {path}");
            fs::create_dir_all(path).with_context(creating)?;
            let path = Path::new(path).canonicalize().with_context(creating)?;
            *argument = format!("{INSTALL_PATH}{}", path.display());
            installed.push(path);
        }
        if installed.is_empty() && arguments.iter().any(|it| it == "modules_install") {
            bail!(
                "modules_install: where to?\n    Give INSTALL_MOD_PATH=DIR, or KDIR=DIR with the build directory of \
                 your own kernel, see Documentation/setup.rst."
            );
        }
        Ok((arguments, installed))
    }
}

/// Two builds in one directory would tear at each other's files.
pub fn lock(source: &Source, console: &Console, directory: &Path) -> Result<FileLock> {
    let build = source.build();
    fs::create_dir_all(&build).with_context(|| format!("creating {}", build.display()))?;
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    FileLock::take(&build.join(format!(".lock-{name}")), || {
        console.say(&format!(
            "modules: waiting for another build in {}",
            directory.display()
        ));
    })
}

/// make in the toolchain root, on all processors.
pub fn make(source: &Source, cache: &Cache, toolchain: &Path, binds: &[PathBuf]) -> Command {
    let jobs = thread::available_parallelism().map_or(1, |count| count.get());
    let mut make = in_root(source, cache, toolchain, binds, "make");
    make.args(["--no-print-directory", &format!("-j{jobs}")]);
    make
}

fn copy_sources(source: &Source, cache: &Cache, toolchain: &Path, directory: &Path) -> Command {
    let mut rsync = in_root(source, cache, toolchain, &[], "rsync");
    rsync.args(["-rlpt", "--delete"]);
    for pattern in BUILT.into_iter().chain(["target"]) {
        rsync.args(["--exclude", pattern]);
    }
    rsync.args(SOURCES.map(|name| source.join(name)));
    rsync.arg(format!("{}/", directory.display()));
    rsync
}

/// The kernel's sample device `mtty.ko`, built from the pinned kernel's source for the stock kernel. The kselftests of
/// migration protocol v2 run on it, too, see Documentation/mtty-comparison.rst.
pub struct Sample;

impl Sample {
    pub const COMPONENTS: [Component; 3] = [
        Component::Toolchain,
        Component::LinuxSource,
        Component::Kbuild,
    ];

    /// The directory of the module.
    pub fn output(source: &Source) -> PathBuf {
        source.build().join("mtty")
    }

    /// The commands that build the module.
    pub fn commands(
        source: &Source,
        cache: &Cache,
        console: &Console,
        set_up: &SetUp,
    ) -> Result<Commands> {
        const KBUILD: &str = "# SPDX-License-Identifier: GPL-2.0\nobj-m := mtty.o\n";
        let directory = Self::output(source);
        let writing = || format!("writing into {}", directory.display());
        let lock = lock(source, console, &directory)?;
        fs::create_dir_all(&directory).with_context(writing)?;
        let from = set_up
            .path(Component::LinuxSource)?
            .join("samples/vfio-mdev/mtty.c");
        let text = fs::read(&from).with_context(|| format!("reading {}", from.display()))?;
        // A file that stays as it is is not compiled again.
        for (name, text) in [("mtty.c", &*text), ("Kbuild", KBUILD.as_bytes())] {
            let path = directory.join(name);
            if fs::read(&path).ok().as_deref() != Some(text) {
                fs::write(&path, text).with_context(writing)?;
            }
        }
        let mut make = make(source, cache, set_up.path(Component::Toolchain)?, &[]);
        make.arg("-C").arg(set_up.path(Component::Kbuild)?).args([
            STOCK_COMPILER,
            &format!("M={}", directory.display()),
            "modules",
        ]);
        Ok(Commands {
            commands: vec![make],
            lock,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_installed_only_below_a_path_that_is_given() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let build = |arguments: &[&str]| KernelBuild {
            arguments: arguments.iter().map(|it| (*it).to_owned()).collect(),
            ..KernelBuild::default()
        };
        for arguments in [
            &["modules_install"][..],
            &["modules_install", "INSTALL_MOD_PATH="],
        ] {
            assert!(
                build(arguments).with_absolute_install_path().is_err(),
                "{arguments:?}"
            );
        }
        let place = directory.path().canonicalize().expect("a path").join("a");
        let given = format!("INSTALL_MOD_PATH={}/../a", place.display());
        fs::create_dir(&place).expect("a directory");
        let (arguments, installed) = build(&["modules_install", &given])
            .with_absolute_install_path()
            .expect("a path");
        assert_eq!(
            arguments[1],
            format!("INSTALL_MOD_PATH={}", place.display())
        );
        assert_eq!(installed, [place]);
    }
}
