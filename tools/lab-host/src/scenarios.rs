// SPDX-License-Identifier: GPL-2.0

//! The migration scenarios.
//!
//! Each boots a guest, keeps its devices busy, migrates or otherwise treats the guest, checks that the guest goes on, and
//! asks for its verdict on the data: nothing lost, doubled, reordered or changed.
//!
//! [`running`] is a guest in a QEMU, [`load`] keeps its disks busy, [`traffic`] its network card. [`migration`] has the scenarios of all devices, [`disk`]
//! those of disks, [`card`] those of the network card, with [`pings`], [`newer`] those of QEMUs with protocol v2, and [`client`] the one in which the client library moves the
//! state.

mod card;
mod client;
mod disk;
mod load;
mod machine;
mod migration;
mod newer;
mod pings;
mod running;
mod traffic;

use std::time::Instant;

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use lab_host::device::Kind;
use lab_host::device::EMULATED_DISK;
use lab_host::event::Outcome;
use lab_host::event::What;
use lab_host::scenario::Scenario;
use lab_host::vmm::Qemu;

use crate::assigned::Assigned;
use crate::diagnosis;
use crate::emulated;
use crate::kernel;
use crate::kernel::Log;
use crate::recipe::Recipe;
use crate::report;
use crate::trace::Tracer;
use crate::vm::Hardware;
use crate::vm_directory;
pub use running::Running;
pub use running::ALL_DIRTY_DOWNTIME;
pub use running::DOWNTIME_LIMIT;
pub use running::FAST;
pub use running::MIGRATION_LIMIT;
pub use running::STEP_LIMIT;

/// The state that scenarios share.
pub struct Bench<'a> {
    /// The mdev type. Without a type the guests have no device.
    pub device: Option<&'a str>,
    /// The QEMU that runs the guests.
    pub qemu: Qemu,
    /// The tracepoints.
    pub tracer: Tracer,
    /// The guest that the last scenario left running, if the scenario passed. Booting a guest takes longer than most
    /// scenarios.
    pub running: Option<Running>,
}

/// Runs a scenario and reports its outcome.
pub fn run(bench: &mut Bench<'_>, log: &mut Log, scenario: Scenario, qemu: Qemu) {
    let name = scenario.title();
    report::say(What::Started { name: name.clone() });
    let began = Instant::now();
    bench.tracer.forget();
    let _ = log.take();
    if bench.qemu != qemu {
        bench.running = None;
        bench.qemu = qemu;
    }
    if bench.running.is_none() {
        vm_directory::forget_logs();
    }
    let result = perform(bench, log, scenario).and_then(|running| {
        running.verdict()?;
        Ok(running)
    });
    // Faults that are in the kernel's log now are this scenario's. Others may show only when QEMU has
    // ended, so the log is read again before the next scenario.
    let lines = log.take();
    let outcome = match (result, kernel::trouble(&lines)) {
        (Ok(running), None) => {
            // The next scenario expects a guest with the bench's device.
            bench.running = (!scenario.has_own_devices()).then_some(running);
            Outcome::Passed
        }
        (Ok(_), Some(text)) => Outcome::Failed(format!("the kernel reported:\n{text}")),
        (Err(error), trouble) => {
            let mut why = format!("{error:#}");
            for (name, log) in vm_directory::logs() {
                why.push_str(&format!("\n{name}:\n{log}"));
            }
            if let Some(seen) = diagnosis::take() {
                why.push_str(&format!("\n{seen}"));
            }
            let log = trouble.unwrap_or_else(|| lines.join("\n"));
            if !log.is_empty() {
                why.push_str(&format!("\nThe host's kernel log meanwhile:\n{log}"));
            }
            Outcome::Failed(why)
        }
    };
    let seconds = began.elapsed().as_secs_f64();
    report::say(What::Ended {
        name,
        outcome,
        seconds,
    });
}

fn perform(bench: &mut Bench<'_>, log: &mut Log, scenario: Scenario) -> Result<Running> {
    let disk = bench.device.and_then(Kind::of) == Some(Kind::Disk);
    let card = bench.device.and_then(Kind::of) == Some(Kind::NetworkCard);
    ensure!(
        disk || card && scenario == Scenario::TwoDevices || !scenario.needs_disk(),
        "this scenario needs a disk"
    );
    ensure!(
        card || !scenario.needs_card(),
        "this scenario needs a network card"
    );
    ensure!(
        !scenario.needs_v2() || !bench.qemu.speaks_v1(),
        "this scenario needs a QEMU that uses protocol v2"
    );
    match scenario {
        Scenario::LiveMigration => migration::live_migration(bench),
        Scenario::ThereAndBack => migration::there_and_back(bench),
        Scenario::SmallerWindow => migration::smaller_window(bench),
        Scenario::CancelInPreCopy => migration::cancel_in_pre_copy(bench),
        Scenario::PausedGuest => migration::paused_guest(bench),
        Scenario::StopAndContinueInPreCopy => migration::stop_and_continue(bench),
        Scenario::Snapshot => migration::snapshot(bench),
        Scenario::ToFileAndBack => migration::to_file_and_back(bench),
        Scenario::FileThroughV2 => client::file_through_v2(bench, log),
        Scenario::DestinationKilled => migration::destination_killed(bench),
        Scenario::DestinationRefuses => migration::destination_refuses(bench, log),
        Scenario::RoundTrips => disk::round_trips(bench),
        Scenario::FileSystem => disk::file_system(bench),
        Scenario::DiskCommands => disk::commands(bench),
        Scenario::UnbindAndRebind => disk::unbind_and_rebind(bench),
        Scenario::ResetWhileMigrating => disk::reset_while_migrating(bench),
        Scenario::DiskMismatch => disk::mismatch(bench, log),
        Scenario::TwoDisks => disk::two_disks(bench),
        Scenario::Namespaces => disk::namespaces(bench),
        Scenario::SharedFile => disk::shared_file(bench),
        Scenario::OnItsPin => disk::intx_only(bench),
        Scenario::Memory => machine::memory(bench),
        Scenario::Iommu => machine::iommu(bench),
        Scenario::Multifd => newer::multifd(bench),
        Scenario::SwitchoverAck => newer::switchover_ack(bench),
        Scenario::RewrittenDisk => newer::rewritten_disk(bench),
        Scenario::TwoDevices => newer::two_devices(bench),
        Scenario::FromOldQemu => newer::from_old_qemu(bench),
        Scenario::NetworkFeatures => card::features(bench),
        Scenario::NetworkDriver => card::driver(bench),
        Scenario::DeviceLog => newer::device_log(bench),
    }
}

impl Bench<'_> {
    /// The device's type. A scenario that calls this needs a device.
    fn kind(&self) -> Result<&str> {
        self.device.context("this scenario needs a device")
    }

    /// A guest whose devices are busy: the running one, or else a new one.
    fn guest(&mut self) -> Result<Running> {
        let running = match self.running.take() {
            Some(running) => running,
            None if self.device == Some(EMULATED_DISK) => {
                Running::boot(&self.tracer, emulated::nvme(self.qemu)?)?
            }
            None => {
                let recipes: Vec<_> = self.device.map(Recipe::new).into_iter().collect();
                self.boot(&recipes)?
            }
        };
        running.start_load()?;
        Ok(running)
    }

    /// A new guest with devices made like this. The running guest ends.
    fn boot(&mut self, recipes: &[Recipe]) -> Result<Running> {
        self.boot_in(self.qemu, recipes)
    }

    /// The same in another QEMU than the one of the bench.
    fn boot_in(&mut self, qemu: Qemu, recipes: &[Recipe]) -> Result<Running> {
        self.boot_with(Self::hardware(qemu, recipes)?)
    }

    /// The hardware of such a guest.
    fn hardware(qemu: Qemu, recipes: &[Recipe]) -> Result<Hardware> {
        Ok(Hardware {
            qemu,
            machine: qemu,
            devices: recipes
                .iter()
                .map(Assigned::create)
                .collect::<Result<_>>()?,
            ..Hardware::default()
        })
    }

    /// The same with other hardware than the bench's.
    fn boot_with(&mut self, hardware: Hardware) -> Result<Running> {
        self.running = None;
        Running::boot(&self.tracer, hardware)
    }
}
