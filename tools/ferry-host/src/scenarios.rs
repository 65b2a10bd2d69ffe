// SPDX-License-Identifier: GPL-2.0

//! The migration scenarios.
//!
//! Each boots a guest in a QEMU of its own, has it stream, does something to it, sees that it goes
//! on, and asks for the guest's verdict on its data: nothing lost, doubled, reordered or changed.

use std::fs;
use std::time::Duration;
use std::time::Instant;

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use ferry_guest::report::Request;
use ferry_host::event::Migrated;
use ferry_host::event::Outcome;
use ferry_host::event::Trace;
use ferry_host::event::What;
use ferry_host::scenario::Scenario;
use serde_json::json;
use serde_json::Value;

use crate::diagnosis;
use crate::guest::Guest;
use crate::kernel;
use crate::kernel::Log;
use crate::mdev::Mdev;
use crate::report;
use crate::report::doing;
use crate::trace::Tracer;
use crate::vm;
use crate::vm::Vm;

/// How long a guest may take to boot.
const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// How long a migration may take.
const MIGRATION_LIMIT: Duration = Duration::from_secs(180);

/// How long anything may take that needs no guest memory to be moved.
const STEP_LIMIT: Duration = Duration::from_secs(60);

/// QEMU's parameters of a migration.
const BANDWIDTH: &str = "max-bandwidth";
const DOWNTIME_LIMIT: &str = "downtime-limit";

/// Milliseconds for which a guest may stand still: what QEMU takes by itself, and so few that it
/// stays in pre-copy.
const USUAL_DOWNTIME: u64 = 300;
const SHORT_DOWNTIME: u64 = 1;

/// Bytes per second at which pre-copy does not come to its end while we do something to it.
const SLOW: u64 = 1 << 20;

/// Bytes per second at which nothing waits for the network.
const FAST: u64 = 1 << 30;

/// Where the guest's state goes that is kept in a file.
const STATE_FILE: &str = "/tmp/guest-state";

/// The disk that holds internal snapshots, and its size in bytes.
const DISK: &str = "/tmp/snapshots.qcow2";
const DISK_SIZE: u64 = 1 << 30;

/// The mdev attribute that has the device's migration state.
const DEVICE_STATE: &str = "migration/device_state";

/// The mdev attribute that has the size of the data section in bytes.
const WINDOW_SIZE: &str = "migration/window_size";

/// How the kernel's log line ends when a stream of another configuration was refused: EXDEV.
const REFUSED: &str = "(-18)";

/// What all scenarios share.
pub struct Bench<'a> {
    /// The mdev type; none runs the scenarios without a device.
    pub device: Option<&'a str>,
    /// The tracepoints.
    pub tracer: Tracer,
    /// The guest that the last scenario left running, if it went well: booting one takes longer
    /// than most scenarios do.
    pub running: Option<Running>,
}

/// A guest in a QEMU with its device. The device goes last, for QEMU holds it open.
pub struct Running {
    tracer: Tracer,
    guest: Guest,
    vm: Vm,
    mdev: Option<Mdev>,
}

/// Runs a scenario and reports how it went.
pub fn run(bench: &mut Bench<'_>, log: &mut Log, scenario: Scenario) {
    let name = format!("scenario: {}", scenario.name());
    report::say(What::Started { name: name.clone() });
    let began = Instant::now();
    bench.tracer.forget();
    let _ = log.take();
    if bench.running.is_none() {
        vm::forget_logs();
    }
    let result = perform(bench, log, scenario).and_then(|running| {
        running.verdict()?;
        Ok(running)
    });
    // What is wrong with the kernel may show only when QEMU is gone, so the log is looked at again
    // before the next scenario; what is known now is this scenario's.
    let lines = log.take();
    let outcome = match (result, kernel::trouble(&lines)) {
        (Ok(running), None) => {
            bench.running = Some(running);
            Outcome::Passed
        }
        (Ok(_), Some(text)) => Outcome::Failed(format!("the kernel reported:\n{text}")),
        (Err(error), trouble) => {
            let mut why = format!("{error:#}");
            for (name, log) in vm::logs() {
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
    match scenario {
        Scenario::LiveMigration => live_migration(bench),
        Scenario::ThereAndBack => there_and_back(bench),
        Scenario::SmallerWindow => smaller_window(bench),
        Scenario::CancelInPreCopy => cancel_in_pre_copy(bench),
        Scenario::PausedGuest => paused_guest(bench),
        Scenario::StopAndContinueInPreCopy => stop_and_continue(bench),
        Scenario::Snapshot => snapshot(bench),
        Scenario::ToFileAndBack => to_file_and_back(bench),
        Scenario::DestinationKilled => destination_killed(bench),
        Scenario::DestinationRefuses => destination_refuses(bench, log),
    }
}

impl Bench<'_> {
    fn create(&self) -> Result<Option<Mdev>> {
        self.device.map(Mdev::create).transpose()
    }

    /// A guest that streams: the one that is there, or else a new one.
    fn guest(&mut self) -> Result<Running> {
        let running = match self.running.take() {
            Some(running) => running,
            None => self.boot()?,
        };
        running.vm.link.ask(Request::Start)?;
        running.wait_alive("before anything was done")?;
        Ok(running)
    }

    fn boot(&self) -> Result<Running> {
        doing("booting a guest in QEMU A");
        let mdev = self.create()?;
        let guest = Guest::default();
        let vm = Vm::start("A", &guest, mdev.as_ref(), false)?;
        let ports = guest.wait_ready(BOOT_LIMIT)?;
        if mdev.is_some() {
            ensure!(
                !ports.is_empty(),
                "the guest found no serial port of the card"
            );
        }
        let tracer = self.tracer.clone();
        Ok(Running {
            tracer,
            guest,
            vm,
            mdev,
        })
    }

    /// Waits until the device at `mdev` has entered `state`, when there is one.
    fn wait_state(&self, running: &Running, state: &str) -> Result<()> {
        let Some(mdev) = &running.mdev else {
            return Ok(());
        };
        self.tracer
            .wait(STEP_LIMIT, &format!("the state {state}"), |trace| {
                matches!(trace, Trace::State { device, to, result: 0, .. }
                if device == mdev.uuid() && to == state)
            })?;
        Ok(())
    }

    /// Starts a migration of `from` and returns in the middle of pre-copy.
    fn enter_pre_copy(&self, from: &mut Running, uri: &str) -> Result<()> {
        doing("starting a migration that does not come to an end by itself");
        self.tracer.forget();
        from.begin(uri, SLOW)?;
        from.vm.qmp.wait_migration(&["active"], STEP_LIMIT)?;
        self.wait_state(from, "PRE_COPY")
    }
}

impl Running {
    /// Starts a QEMU with the device `mdev` that waits for this guest at a socket, and the
    /// socket's URI.
    fn destination(&self, mdev: Option<Mdev>) -> Result<(Running, String)> {
        let name = if self.vm.name == "A" { "B" } else { "A" };
        let mut vm = Vm::start(name, &self.guest, mdev.as_ref(), true)?;
        let uri = vm.migration_socket();
        vm.qmp.execute("migrate-incoming", json!({ "uri": uri }))?;
        Ok((
            Running {
                tracer: self.tracer.clone(),
                guest: self.guest.clone(),
                vm,
                mdev,
            },
            uri,
        ))
    }

    fn wait_alive(&self, when: &str) -> Result<()> {
        self.guest.wait_alive().with_context(|| when.to_owned())
    }

    /// Checks the state of the device, when there is one.
    fn expect_state(&self, state: &str) -> Result<()> {
        let Some(mdev) = &self.mdev else {
            return Ok(());
        };
        let seen = mdev.get(DEVICE_STATE)?;
        ensure!(
            seen == state,
            "device_state of {}: expected {state}, saw {seen}",
            mdev.uuid()
        );
        Ok(())
    }

    fn set(&mut self, parameter: &str, value: u64) -> Result<()> {
        let parameters = json!({ parameter: value });
        self.vm.qmp.execute("migrate-set-parameters", parameters)?;
        Ok(())
    }

    /// Starts a migration to `uri` at such a speed.
    fn begin(&mut self, uri: &str, bytes_per_second: u64) -> Result<()> {
        self.set(BANDWIDTH, bytes_per_second)?;
        self.vm.qmp.forget_events();
        self.vm.qmp.execute("migrate", json!({ "uri": uri }))?;
        Ok(())
    }

    /// Waits for the end of a migration that has to succeed, and tells what QEMU says of it.
    fn completed(&mut self, destination: &str, began: f64) -> Result<Migrated> {
        let ends = ["completed", "failed", "cancelled"];
        let status = self.vm.qmp.wait_migration(&ends, MIGRATION_LIMIT)?;
        ensure!(
            status == "completed",
            "the migration: expected completed, saw {status}"
        );
        let ended = report::now();
        let info = self.vm.qmp.execute("query-migrate", json!({}))?;
        let number = |pointer: &str| info.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        Ok(Migrated {
            source: self.vm.name.clone(),
            destination: destination.to_owned(),
            began,
            ended,
            total_ms: number("/total-time"),
            setup_ms: number("/setup-time"),
            downtime_ms: number("/downtime"),
            ram_bytes: number("/ram/transferred"),
            precopy_bytes: number("/ram/precopy-bytes"),
            downtime_bytes: number("/ram/downtime-bytes"),
            stall_ms: self.guest.stall().as_millis() as u64,
        })
    }

    /// A whole migration at full speed, after which the guest has to go on in `to`.
    fn migrate(&mut self, to: &mut Running, uri: &str) -> Result<()> {
        doing(format!(
            "migrating from QEMU {} to QEMU {}",
            self.vm.name, to.vm.name
        ));
        self.guest.reset_stall();
        let began = report::now();
        if let Some(uuid) = self.mdev.as_ref().map(|mdev| mdev.uuid().to_owned()) {
            // QEMU turns to the devices in pre-copy only when no memory is left to be moved. With
            // the usual limit it goes over to stop-and-copy long before that.
            self.set(DOWNTIME_LIMIT, SHORT_DOWNTIME)?;
            self.tracer.forget();
            self.begin(uri, FAST)?;
            self.tracer
                .wait(MIGRATION_LIMIT, "a chunk in pre-copy", |trace| {
                    matches!(trace, Trace::Chunk { device, state, .. }
                    if *device == uuid && (state == "PRE_COPY" || state == "STOP_COPY"))
                })?;
            self.set(DOWNTIME_LIMIT, USUAL_DOWNTIME)?;
        } else {
            self.begin(uri, FAST)?;
        }
        let mut migrated = self.completed(&to.vm.name, began)?;
        to.vm.qmp.wait_name("RESUME", STEP_LIMIT)?;
        to.wait_alive("after the migration")?;
        to.expect_state("RUNNING")?;
        migrated.stall_ms = self.guest.stall().as_millis() as u64;
        report::say(What::Migrated(migrated));
        Ok(())
    }

    /// Asks the guest for its verdict, which has to be good.
    fn verdict(&self) -> Result<()> {
        doing("asking the guest for its verdict");
        let ports = self.guest.stop(&self.vm.link)?;
        let problems = self.guest.problems();
        ensure!(
            problems.is_empty(),
            "the guest complains: {}",
            problems.join("; ")
        );
        for port in &ports {
            ensure!(
                port.good(true) && port.received > 0 && port.driver.interrupts > 0,
                "{}: expected every line once, in order and whole, saw {port:?}",
                port.name
            );
        }
        Ok(())
    }
}

fn live_migration(bench: &mut Bench<'_>) -> Result<Running> {
    let mut from = bench.guest()?;
    let (mut to, uri) = from.destination(bench.create()?)?;
    from.migrate(&mut to, &uri)?;
    Ok(to)
}

fn there_and_back(bench: &mut Bench<'_>) -> Result<Running> {
    let mut from = bench.guest()?;
    let (mut to, uri) = from.destination(bench.create()?)?;
    from.migrate(&mut to, &uri)?;
    // The same device again, opened anew.
    let Running { vm, mdev, .. } = from;
    drop(vm);
    let (mut back, uri) = to.destination(mdev)?;
    to.migrate(&mut back, &uri)?;
    Ok(back)
}

fn smaller_window(bench: &mut Bench<'_>) -> Result<Running> {
    let mut from = bench.guest()?;
    let target = bench.create()?;
    if let Some(target) = &target {
        target.set(WINDOW_SIZE, "4096")?;
    }
    let (mut to, uri) = from.destination(target)?;
    from.migrate(&mut to, &uri)?;
    Ok(to)
}

fn cancel_in_pre_copy(bench: &mut Bench<'_>) -> Result<Running> {
    let mut from = bench.guest()?;
    let (to, uri) = from.destination(bench.create()?)?;
    bench.enter_pre_copy(&mut from, &uri)?;
    from.wait_alive("in pre-copy")?;
    from.vm.qmp.execute("migrate_cancel", json!({}))?;
    from.vm.qmp.wait_migration(&["cancelled"], STEP_LIMIT)?;
    drop(to);
    from.wait_alive("after the cancellation")?;
    from.expect_state("RUNNING")?;
    // Nothing of the first attempt may be in the way of the next.
    let (mut to, uri) = from.destination(bench.create()?)?;
    from.migrate(&mut to, &uri)?;
    Ok(to)
}

fn paused_guest(bench: &mut Bench<'_>) -> Result<Running> {
    let mut from = bench.guest()?;
    let (mut to, uri) = from.destination(bench.create()?)?;
    from.vm.qmp.execute("stop", json!({}))?;
    from.expect_state("STOP")?;
    doing("migrating a guest that is paused");
    from.begin(&uri, FAST)?;
    from.completed(&to.vm.name, report::now())?;
    to.vm.qmp.wait_migration(&["completed"], STEP_LIMIT)?;
    let status = to.vm.qmp.execute("query-status", json!({}))?;
    ensure!(
        status["running"] == json!(false),
        "expected a paused guest, saw {status}"
    );
    to.vm.qmp.execute("cont", json!({}))?;
    to.wait_alive("after the migration")?;
    to.expect_state("RUNNING")?;
    Ok(to)
}

fn stop_and_continue(bench: &mut Bench<'_>) -> Result<Running> {
    let mut from = bench.guest()?;
    let (mut to, uri) = from.destination(bench.create()?)?;
    bench.enter_pre_copy(&mut from, &uri)?;
    from.vm.qmp.execute("stop", json!({}))?;
    bench.wait_state(&from, "STOP_COPY")?;
    from.vm.qmp.execute("cont", json!({}))?;
    from.wait_alive("after \"cont\" in pre-copy")?;
    from.set(BANDWIDTH, FAST)?;
    from.completed(&to.vm.name, report::now())?;
    to.vm.qmp.wait_name("RESUME", STEP_LIMIT)?;
    to.wait_alive("after the migration")?;
    Ok(to)
}

/// Makes the disk for snapshots in `vm`.
fn add_disk(vm: &mut Vm) -> Result<()> {
    let file = json!({ "driver": "file", "filename": DISK, "size": 0 });
    vm.qmp
        .job("blockdev-create", json!({ "options": file }), STEP_LIMIT)?;
    let file = json!({ "driver": "file", "node-name": "file", "filename": DISK });
    vm.qmp.execute("blockdev-add", file)?;
    let disk = json!({ "driver": "qcow2", "file": "file", "size": DISK_SIZE });
    vm.qmp
        .job("blockdev-create", json!({ "options": disk }), STEP_LIMIT)?;
    let disk = json!({ "driver": "qcow2", "node-name": "disk", "file": "file" });
    vm.qmp.execute("blockdev-add", disk)?;
    Ok(())
}

fn remove_disk(vm: &mut Vm) -> Result<()> {
    for node in ["disk", "file"] {
        vm.qmp
            .execute("blockdev-del", json!({ "node-name": node }))?;
    }
    fs::remove_file(DISK).context("removing the disk")
}

fn snapshot(bench: &mut Bench<'_>) -> Result<Running> {
    let mut running = bench.guest()?;
    add_disk(&mut running.vm)?;
    let arguments = json!({ "tag": "ferry", "vmstate": "disk", "devices": ["disk"] });
    doing("taking a snapshot");
    running
        .vm
        .qmp
        .job("snapshot-save", arguments.clone(), MIGRATION_LIMIT)?;
    running.wait_alive("after the snapshot")?;
    doing("going back to the snapshot");
    running
        .vm
        .qmp
        .job("snapshot-load", arguments, MIGRATION_LIMIT)?;
    let status = running.vm.qmp.execute("query-status", json!({}))?;
    if status["running"] != json!(true) {
        running.vm.qmp.execute("cont", json!({}))?;
    }
    running.wait_alive("after going back")?;
    running.expect_state("RUNNING")?;
    remove_disk(&mut running.vm)?;
    Ok(running)
}

fn to_file_and_back(bench: &mut Bench<'_>) -> Result<Running> {
    let mut from = bench.guest()?;
    // Nobody answers from a file.
    from.vm.set_return_path(false)?;
    doing("migrating to a file");
    from.begin(&format!("exec:cat > {STATE_FILE}"), FAST)?;
    from.completed("file", report::now())?;
    let Running {
        tracer,
        guest,
        vm,
        mdev,
    } = from;
    drop(vm);
    drop(mdev);
    doing("starting from the file");
    let mdev = bench.create()?;
    let vm = Vm::start("B", &guest, mdev.as_ref(), true)?;
    let mut to = Running {
        tracer,
        guest,
        vm,
        mdev,
    };
    to.vm.set_return_path(false)?;
    to.vm.qmp.execute(
        "migrate-incoming",
        json!({ "uri": format!("exec:cat {STATE_FILE}") }),
    )?;
    to.vm.qmp.wait_name("RESUME", MIGRATION_LIMIT)?;
    to.vm.set_return_path(true)?;
    to.wait_alive("after starting from the file")?;
    fs::remove_file(STATE_FILE).context("removing the file")?;
    Ok(to)
}

fn destination_killed(bench: &mut Bench<'_>) -> Result<Running> {
    let mut from = bench.guest()?;
    let (mut to, uri) = from.destination(bench.create()?)?;
    bench.enter_pre_copy(&mut from, &uri)?;
    doing("killing the destination");
    to.vm.kill();
    let status = from
        .vm
        .qmp
        .wait_migration(&["failed", "completed"], MIGRATION_LIMIT)?;
    ensure!(
        status == "failed",
        "expected a failed migration, saw {status}"
    );
    from.wait_alive("after the destination was killed")?;
    from.expect_state("RUNNING")?;
    Ok(from)
}

fn destination_refuses(bench: &mut Bench<'_>, log: &mut Log) -> Result<Running> {
    let kind = bench.device.context("this scenario needs a device")?;
    // A card with another number of ports.
    let other = if kind.ends_with("-1") {
        "ferry_uart-2"
    } else {
        "ferry_uart-1"
    };
    let mut from = bench.guest()?;
    let target = Mdev::create(other)?;
    let uuid = target.uuid().to_owned();
    let (mut to, uri) = from.destination(Some(target))?;
    doing("migrating to a device of another configuration");
    from.begin(&uri, FAST)?;
    let status = from
        .vm
        .qmp
        .wait_migration(&["failed", "completed"], MIGRATION_LIMIT)?;
    ensure!(
        status == "failed",
        "expected a failed migration, saw {status}"
    );
    to.vm.wait_end(STEP_LIMIT)?;
    from.wait_alive("after the destination refused")?;
    from.expect_state("RUNNING")?;
    let said = to.vm.log();
    ensure!(
        said.contains(&uuid) && said.contains("Invalid cross-device link"),
        "expected QEMU to say that the device refused with EXDEV, saw: {said}"
    );
    let prefix = format!("ferry_uart {uuid}: ");
    let reason = |line: &&String| line.starts_with(&prefix) && line.ends_with(REFUSED);
    let found = log.peek().iter().any(|line| reason(&line));
    ensure!(
        found,
        "expected a line \"{prefix}... {REFUSED}\" in the kernel's log, saw:\n{}",
        log.peek().join("\n")
    );
    Ok(from)
}
