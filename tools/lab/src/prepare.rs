// SPDX-License-Identifier: GPL-2.0

//! Makes all that a command needs before its first virtual machine.
//!
//! There are two halves that run at the same time. One needs the components: they are set up, then the modules are built.
//! The other needs cargo alone, and goes on while packages are fetched.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;

use anyhow::anyhow;
use anyhow::bail;
use anyhow::Result;
use lab_host::job::Stage;
use lab_host::vmm::Qemu;

use crate::components::Components;
use crate::format;
use crate::interrupt;
use crate::kernel_build::Commands;
use crate::kernel_build::KernelBuild;
use crate::kernel_build::Sample;
use crate::kernel_selftests;
use crate::setup;
use crate::setup::Component;
use crate::setup::SetUp;
use crate::setup::SetupTime;
use crate::stage;
use crate::stage::StageResult;
use crate::workplace::Workplace;

/// Where the static programs for the virtual machines go, as the Makefile has it.
const PROGRAMS: &str = "target/static/x86_64-unknown-linux-gnu/debug";

/// What a command needs.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// The debug kernel, and modules for it.
    pub debug: bool,
    /// The QEMUs that run guests in the host VM.
    pub qemus: BTreeSet<Qemu>,
    /// Check the source and run the host tests, too. What fails there ends nothing.
    pub checks: bool,
}

impl Needs {
    /// What VMs with these stages need.
    pub fn of(stages: &[Stage]) -> Self {
        Self {
            qemus: stages.iter().flat_map(Stage::qemus).collect(),
            ..Self::default()
        }
    }

    fn components(&self, host_qemu: Component) -> Vec<Component> {
        let mut components = vec![
            Component::Toolchain,
            Component::Kernel,
            Component::GuestTools,
            host_qemu,
        ];
        components.extend(self.qemus.iter().map(|&qemu| Component::from(qemu)));
        components.extend(KernelBuild::components(self.debug));
        if self.checks {
            components.extend(Sample::COMPONENTS);
            components.extend(kernel_selftests::COMPONENTS);
            components.extend(format::COMPONENTS);
        }
        components
    }
}

/// What was made and seen.
pub struct Prepared {
    /// An error when there is nothing to run in a virtual machine; it has been said already.
    pub components: Result<Components>,
    /// In the order in which they ended.
    pub stages: Vec<StageResult>,
    pub times: Vec<SetupTime>,
}

/// Runs stages and keeps their results.
struct Stages<'a> {
    workplace: &'a Workplace,
    results: Mutex<Vec<StageResult>>,
}

impl Stages<'_> {
    /// Runs a stage. Returns whether it succeeded.
    fn run(&self, name: &str, commands: Vec<Command>) -> Result<bool> {
        self.add(stage::run(
            &self.workplace.source,
            &self.workplace.console,
            name,
            commands,
            None,
        )?)
    }

    fn run_locked(&self, name: &str, Commands { commands, lock }: Commands) -> Result<bool> {
        let workplace = self.workplace;
        self.add(stage::run(
            &workplace.source,
            &workplace.console,
            name,
            commands,
            Some(&lock),
        )?)
    }

    fn add(&self, result: StageResult) -> Result<bool> {
        let success = result.failed == 0;
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        results.push(result);
        Ok(success)
    }

    /// A target of the Makefile.
    fn make(&self, name: &str, target: &str) -> Result<bool> {
        let mut make = Command::new("make");
        make.args(["--no-print-directory", target])
            .current_dir(self.workplace.source.root());
        self.run(name, vec![make])
    }
}

/// Modules with the same options each time, so that one command does not undo another's work. W=e is: warnings are errors.
fn modules(debug: bool) -> KernelBuild {
    KernelBuild {
        debug,
        directory: debug.then(|| "debug".to_owned()),
        arguments: ["modules", "W=e"].map(str::to_owned).to_vec(),
        ..KernelBuild::default()
    }
}

/// The half that needs components.
fn kernel_side(stages: &Stages<'_>, needs: &Needs, wanted: &[Component]) -> Result<SetUp> {
    let Workplace {
        source,
        cache,
        console,
        ..
    } = stages.workplace;
    let set_up = setup::set_up(source, cache, console, wanted)?;
    if needs.checks {
        stages.run(
            "format",
            vec![format::command(source, cache, &set_up, true)?],
        )?;
    }
    let build = modules(needs.debug);
    let name = if needs.debug {
        "debug modules"
    } else {
        "modules"
    };
    if !stages.run_locked(name, build.commands(source, cache, console, &set_up)?)? {
        bail!("the modules could not be built");
    }
    if needs.checks {
        // Without it some tests are skipped.
        stages.run_locked(
            "mtty.ko",
            Sample::commands(source, cache, console, &set_up)?,
        )?;
        stages.run_locked(
            "the kernel's selftests",
            kernel_selftests::commands(source, cache, console, &set_up)?,
        )?;
        let mut build = modules(false);
        build.directory = Some("clippy".to_owned());
        build.arguments.push("CLIPPY=1".to_owned());
        stages.run_locked(
            "clippy of the modules",
            build.commands(source, cache, console, &set_up)?,
        )?;
    }
    Ok(set_up)
}

/// The half that needs cargo alone.
fn host_side(stages: &Stages<'_>, needs: &Needs) -> Result<()> {
    let programs = stages.make("programs", "programs")?;
    let tools = stages.make("tools", "tools")?;
    if needs.checks {
        stages.make("clippy", "clippy")?;
        stages.make("host tests", "host-test")?;
    }
    if !(programs && tools) {
        bail!("the programs could not be built");
    }
    Ok(())
}

/// Makes what `needs` says.
pub fn prepare(workplace: &Workplace, needs: &Needs) -> Result<Prepared> {
    let Workplace {
        source,
        cache,
        console,
        host_qemu,
    } = workplace;
    setup::check_machine(source, cache)?;
    if needs.checks {
        setup::check_lint()?;
    }
    let wanted = needs.components(*host_qemu);
    let stages = Stages {
        workplace,
        results: Mutex::default(),
    };
    // The other half goes on for a while, so an error is said at once.
    let said = |error: anyhow::Error| {
        console.say(&format!("{error:#}"));
        anyhow!("what the command needs could not be made, see above")
    };
    let (kernel_side, host_side) = thread::scope(|scope| {
        let kernel_side = scope.spawn(|| kernel_side(&stages, needs, &wanted).map_err(said));
        let host_side = host_side(&stages, needs).map_err(said);
        match kernel_side.join() {
            Ok(result) => (result, host_side),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    interrupt::check()?;
    let times = kernel_side
        .as_ref()
        .map_or_else(|_| Vec::new(), |it| it.times.clone());
    let components = match (kernel_side, host_side) {
        (Ok(set_up), Ok(())) => Ok(Components {
            source: source.clone(),
            modules: modules(needs.debug).output(source),
            samples: (!needs.debug).then(|| Sample::output(source)),
            programs: source.join(PROGRAMS),
            host_qemu: *host_qemu,
            set_up,
        }),
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    let stages = stages.results.into_inner();
    Ok(Prepared {
        components,
        stages: stages.unwrap_or_else(PoisonError::into_inner),
        times,
    })
}

/// Makes what VMs with these stages need, on the debug kernel or the stock one. A failed stage is an error.
pub fn components(workplace: &Workplace, stages: &[Stage], debug: bool) -> Result<Components> {
    let needs = Needs {
        debug,
        ..Needs::of(stages)
    };
    prepare(workplace, &needs)?.components
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_sets_up_what_it_uses_and_no_more() {
        let needs = Needs {
            qemus: BTreeSet::from([Qemu::V7_2]),
            ..Needs::default()
        };
        let has =
            |needs: &Needs, component| needs.components(Component::Qemu11_1).contains(&component);
        assert!(
            has(&needs, Component::Qemu7_2)
                && has(&needs, Component::Qemu11_1)
                && has(&needs, Component::Kbuild)
        );
        for unused in [
            Component::Qemu10_0,
            Component::DebugKernel,
            Component::LinuxSource,
        ] {
            assert!(!has(&needs, unused), "{unused:?}");
        }
        let debug = Needs {
            debug: true,
            ..needs.clone()
        };
        assert!(has(&debug, Component::DebugKernel) && !has(&debug, Component::Kbuild));
        let checks = Needs {
            checks: true,
            ..needs
        };
        assert!(has(&checks, Component::LinuxSource));
    }
}
