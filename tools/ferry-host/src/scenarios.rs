// SPDX-License-Identifier: GPL-2.0

//! The migration scenarios.
//!
//! Each boots a guest in a QEMU of its own, has it stream, does something to it, sees that it goes
//! on, and asks for the guest's verdict on its data: nothing lost, doubled, reordered or changed.

use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
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

/// What all scenarios share.
pub struct Bench<'a> {
    /// The mdev type; none runs the scenarios without a device.
    pub device: Option<&'a str>,
    /// The tracepoints.
    pub tracer: &'a Tracer,
    /// The kernel's log.
    pub log: &'a mut Log,
}

/// Runs a scenario and reports how it went.
pub fn run(bench: &mut Bench<'_>, scenario: Scenario) {
    let name = scenario.name().to_owned();
    report::say(What::Started { name: name.clone() });
    let began = Instant::now();
    bench.tracer.forget();
    let _ = bench.log.take();
    vm::forget_logs();
    let result = perform(bench, scenario);
    let lines = bench.log.take();
    let outcome = match (result, kernel::trouble(&lines)) {
        (Ok(()), None) => Outcome::Passed,
        (Ok(()), Some(text)) => Outcome::Failed(format!("the kernel reported:\n{text}")),
        (Err(error), trouble) => {
            let mut why = format!("{error:#}");
            for (name, log) in vm::logs() {
                why.push_str(&format!("\n{name}:\n{log}"));
            }
            let log = trouble.unwrap_or_else(|| lines.join("\n"));
            if !log.is_empty() {
                why.push_str(&format!("\nThe host's kernel log meanwhile:\n{log}"));
            }
            Outcome::Failed(why)
        }
    };
    report::say(What::Ended { name, outcome, seconds: began.elapsed().as_secs_f64() });
}

fn perform(bench: &mut Bench<'_>, scenario: Scenario) -> Result<()> {
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
        Scenario::DestinationRefuses => destination_refuses(bench),
    }
}

impl Bench<'_> {
    fn create(&self) -> Result<Option<Mdev>> {
        self.device.map(Mdev::create).transpose()
    }

    /// Waits until the device at `mdev` has entered `state`, when there is one.
    fn wait_state(&self, mdev: &Option<Mdev>, state: &str) -> Result<()> {
        let Some(mdev) = mdev else { return Ok(()) };
        self.tracer.wait(STEP_LIMIT, &format!("the state {state}"), |trace| {
            matches!(trace, Trace::State { device, to, result: 0, .. }
                if device == mdev.uuid() && to == state)
        })?;
        Ok(())
    }
}

/// Checks that the device at `mdev` is in `state`, when there is one.
fn expect_state(mdev: &Option<Mdev>, state: &str) -> Result<()> {
    let Some(mdev) = mdev else { return Ok(()) };
    let seen = mdev.get(DEVICE_STATE)?;
    ensure!(seen == state, "device_state of {}: expected {state}, saw {seen}", mdev.uuid());
    Ok(())
}

/// Boots a guest that streams.
fn boot(mdev: &Option<Mdev>) -> Result<(Guest, Vm)> {
    doing("booting a guest in QEMU A");
    let guest = Guest::default();
    let vm = Vm::start("A", &guest, mdev.as_ref(), false)?;
    let ports = guest.wait_ready(BOOT_LIMIT)?;
    if mdev.is_some() {
        ensure!(!ports.is_empty(), "the guest found no serial port of the card");
    }
    vm.link.ask(Request::Start)?;
    guest.wait_alive().context("before anything was done")?;
    Ok((guest, vm))
}

/// Starts a QEMU that waits for `guest` at a socket; the socket's URI.
fn destination(name: &str, guest: &Guest, mdev: &Option<Mdev>) -> Result<(Vm, String)> {
    let mut vm = Vm::start(name, guest, mdev.as_ref(), true)?;
    let uri = format!("unix:/run/ferry/{name}/migration");
    vm.qmp.execute("migrate-incoming", json!({ "uri": uri }))?;
    Ok((vm, uri))
}

fn set_bandwidth(vm: &mut Vm, bytes_per_second: u64) -> Result<()> {
    let parameters = json!({ "max-bandwidth": bytes_per_second });
    vm.qmp.execute("migrate-set-parameters", parameters)?;
    Ok(())
}

/// Starts a migration of `vm` to `uri` at such a speed.
fn begin(vm: &mut Vm, uri: &str, bytes_per_second: u64) -> Result<()> {
    set_bandwidth(vm, bytes_per_second)?;
    vm.qmp.forget_events();
    vm.qmp.execute("migrate", json!({ "uri": uri }))?;
    Ok(())
}

/// Waits for the end of a migration and tells what QEMU says of it.
fn end(vm: &mut Vm, destination: &str, began: f64, guest: &Guest) -> Result<Migrated> {
    let status = vm.qmp.wait_migration(&["completed", "failed", "cancelled"], MIGRATION_LIMIT)?;
    let ended = report::now();
    let info = vm.qmp.execute("query-migrate", json!({}))?;
    let number = |pointer: &str| info.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    Ok(Migrated {
        source: vm.name.clone(),
        destination: destination.to_owned(),
        status,
        began,
        ended,
        total_ms: number("/total-time"),
        setup_ms: number("/setup-time"),
        downtime_ms: number("/downtime"),
        ram_bytes: number("/ram/transferred"),
        precopy_bytes: number("/ram/precopy-bytes"),
        downtime_bytes: number("/ram/downtime-bytes"),
        vfio_bytes: number("/vfio/transferred"),
        stall_ms: guest.stall().as_millis() as u64,
    })
}

/// A whole migration at full speed, after which the guest has to go on in `to`.
fn migrate(from: &mut Vm, to: &mut Vm, uri: &str, guest: &Guest) -> Result<()> {
    doing(format!("migrating from QEMU {} to QEMU {}", from.name, to.name));
    guest.reset_stall();
    let began = report::now();
    begin(from, uri, FAST)?;
    let mut migrated = end(from, &to.name, began, guest)?;
    ensure!(
        migrated.status == "completed",
        "the migration: expected completed, saw {}",
        migrated.status
    );
    to.qmp.wait_name("RESUME", STEP_LIMIT)?;
    guest.wait_alive().context("after the migration")?;
    migrated.stall_ms = guest.stall().as_millis() as u64;
    report::say(What::Migrated(migrated));
    Ok(())
}

/// Asks the guest in `vm` for its verdict, which has to be good.
fn verdict(guest: &Guest, vm: &Vm) -> Result<()> {
    doing("asking the guest for its verdict");
    let ports = guest.stop(&vm.link)?;
    let problems = guest.problems();
    ensure!(problems.is_empty(), "the guest complains: {}", problems.join("; "));
    for port in &ports {
        ensure!(
            port.good(true) && port.received > 0,
            "{}: expected every line once, in order and whole, saw {port:?}",
            port.name
        );
    }
    Ok(())
}

fn live_migration(bench: &mut Bench<'_>) -> Result<()> {
    let (source, target) = (bench.create()?, bench.create()?);
    let (guest, mut a) = boot(&source)?;
    let (mut b, uri) = destination("B", &guest, &target)?;
    migrate(&mut a, &mut b, &uri, &guest)?;
    expect_state(&target, "RUNNING")?;
    verdict(&guest, &b)
}

fn there_and_back(bench: &mut Bench<'_>) -> Result<()> {
    let (source, target) = (bench.create()?, bench.create()?);
    let (guest, mut a) = boot(&source)?;
    let (mut b, uri) = destination("B", &guest, &target)?;
    migrate(&mut a, &mut b, &uri, &guest)?;
    // The same device again, opened anew.
    drop(a);
    let (mut a, uri) = destination("A", &guest, &source)?;
    migrate(&mut b, &mut a, &uri, &guest)?;
    verdict(&guest, &a)
}

fn smaller_window(bench: &mut Bench<'_>) -> Result<()> {
    let (source, target) = (bench.create()?, bench.create()?);
    if let Some(target) = &target {
        target.set(WINDOW_SIZE, "4096")?;
    }
    let (guest, mut a) = boot(&source)?;
    let (mut b, uri) = destination("B", &guest, &target)?;
    migrate(&mut a, &mut b, &uri, &guest)?;
    verdict(&guest, &b)
}

/// Starts a migration and returns in the middle of pre-copy.
fn into_pre_copy(bench: &Bench<'_>, vm: &mut Vm, mdev: &Option<Mdev>, uri: &str) -> Result<()> {
    doing("starting a migration that does not come to an end by itself");
    bench.tracer.forget();
    begin(vm, uri, SLOW)?;
    vm.qmp.wait_migration(&["active"], STEP_LIMIT)?;
    bench.wait_state(mdev, "PRE_COPY")
}

fn cancel_in_pre_copy(bench: &mut Bench<'_>) -> Result<()> {
    let (source, target) = (bench.create()?, bench.create()?);
    let (guest, mut a) = boot(&source)?;
    let (b, uri) = destination("B", &guest, &target)?;
    into_pre_copy(bench, &mut a, &source, &uri)?;
    guest.wait_alive().context("in pre-copy")?;
    a.qmp.execute("migrate_cancel", json!({}))?;
    a.qmp.wait_migration(&["cancelled"], STEP_LIMIT)?;
    drop(b);
    guest.wait_alive().context("after the cancellation")?;
    expect_state(&source, "RUNNING")?;
    // Nothing of the first attempt may be in the way of the next.
    let (mut b, uri) = destination("B", &guest, &target)?;
    migrate(&mut a, &mut b, &uri, &guest)?;
    verdict(&guest, &b)
}

fn paused_guest(bench: &mut Bench<'_>) -> Result<()> {
    let (source, target) = (bench.create()?, bench.create()?);
    let (guest, mut a) = boot(&source)?;
    let (mut b, uri) = destination("B", &guest, &target)?;
    a.qmp.execute("stop", json!({}))?;
    expect_state(&source, "STOP")?;
    doing("migrating a guest that is paused");
    begin(&mut a, &uri, FAST)?;
    let migrated = end(&mut a, "B", report::now(), &guest)?;
    ensure!(migrated.status == "completed", "expected completed, saw {}", migrated.status);
    b.qmp.wait_migration(&["completed"], STEP_LIMIT)?;
    let status = b.qmp.execute("query-status", json!({}))?;
    ensure!(status["running"] == json!(false), "expected a paused guest, saw {status}");
    b.qmp.execute("cont", json!({}))?;
    guest.wait_alive().context("after the migration")?;
    expect_state(&target, "RUNNING")?;
    verdict(&guest, &b)
}

fn stop_and_continue(bench: &mut Bench<'_>) -> Result<()> {
    let (source, target) = (bench.create()?, bench.create()?);
    let (guest, mut a) = boot(&source)?;
    let (mut b, uri) = destination("B", &guest, &target)?;
    into_pre_copy(bench, &mut a, &source, &uri)?;
    a.qmp.execute("stop", json!({}))?;
    bench.wait_state(&source, "STOP_COPY")?;
    a.qmp.execute("cont", json!({}))?;
    guest.wait_alive().context("after \"cont\" in pre-copy")?;
    set_bandwidth(&mut a, FAST)?;
    let migrated = end(&mut a, "B", report::now(), &guest)?;
    ensure!(migrated.status == "completed", "expected completed, saw {}", migrated.status);
    b.qmp.wait_name("RESUME", STEP_LIMIT)?;
    guest.wait_alive().context("after the migration")?;
    verdict(&guest, &b)
}

/// Makes the disk for snapshots in `vm`.
fn add_disk(vm: &mut Vm) -> Result<()> {
    let _ = std::fs::remove_file(DISK);
    let file = json!({ "driver": "file", "filename": DISK, "size": 0 });
    vm.qmp.job("blockdev-create", json!({ "options": file }), STEP_LIMIT)?;
    let file = json!({ "driver": "file", "node-name": "file", "filename": DISK });
    vm.qmp.execute("blockdev-add", file)?;
    let disk = json!({ "driver": "qcow2", "file": "file", "size": DISK_SIZE });
    vm.qmp.job("blockdev-create", json!({ "options": disk }), STEP_LIMIT)?;
    let disk = json!({ "driver": "qcow2", "node-name": "disk", "file": "file" });
    vm.qmp.execute("blockdev-add", disk)?;
    Ok(())
}

fn snapshot(bench: &mut Bench<'_>) -> Result<()> {
    let source = bench.create()?;
    let (guest, mut a) = boot(&source)?;
    add_disk(&mut a)?;
    let arguments = json!({ "tag": "ferry", "vmstate": "disk", "devices": ["disk"] });
    doing("taking a snapshot");
    a.qmp.job("snapshot-save", arguments.clone(), MIGRATION_LIMIT)?;
    guest.wait_alive().context("after the snapshot")?;
    doing("going back to the snapshot");
    a.qmp.job("snapshot-load", arguments, MIGRATION_LIMIT)?;
    let status = a.qmp.execute("query-status", json!({}))?;
    if status["running"] != json!(true) {
        a.qmp.execute("cont", json!({}))?;
    }
    guest.wait_alive().context("after going back")?;
    expect_state(&source, "RUNNING")?;
    let result = verdict(&guest, &a);
    drop(a);
    std::fs::remove_file(DISK).context("removing the disk")?;
    result
}

fn to_file_and_back(bench: &mut Bench<'_>) -> Result<()> {
    let (source, target) = (bench.create()?, bench.create()?);
    let (guest, mut a) = boot(&source)?;
    // Nobody answers from a file.
    let no_return = json!({
        "capabilities": [{ "capability": "return-path", "state": false }]
    });
    a.qmp.execute("migrate-set-capabilities", no_return.clone())?;
    doing("migrating to a file");
    begin(&mut a, &format!("exec:cat > {STATE_FILE}"), FAST)?;
    let migrated = end(&mut a, "file", report::now(), &guest)?;
    ensure!(migrated.status == "completed", "expected completed, saw {}", migrated.status);
    drop(a);
    doing("starting from the file");
    let mut b = Vm::start("B", &guest, target.as_ref(), true)?;
    b.qmp.execute("migrate-set-capabilities", no_return)?;
    b.qmp.execute("migrate-incoming", json!({ "uri": format!("exec:cat {STATE_FILE}") }))?;
    b.qmp.wait_name("RESUME", MIGRATION_LIMIT)?;
    guest.wait_alive().context("after starting from the file")?;
    let result = verdict(&guest, &b);
    std::fs::remove_file(STATE_FILE).context("removing the file")?;
    result
}

fn destination_killed(bench: &mut Bench<'_>) -> Result<()> {
    let (source, target) = (bench.create()?, bench.create()?);
    let (guest, mut a) = boot(&source)?;
    let (mut b, uri) = destination("B", &guest, &target)?;
    into_pre_copy(bench, &mut a, &source, &uri)?;
    doing("killing the destination");
    b.kill();
    let status = a.qmp.wait_migration(&["failed", "completed"], MIGRATION_LIMIT)?;
    ensure!(status == "failed", "expected a failed migration, saw {status}");
    guest.wait_alive().context("after the destination was killed")?;
    expect_state(&source, "RUNNING")?;
    verdict(&guest, &a)
}

fn destination_refuses(bench: &mut Bench<'_>) -> Result<()> {
    let Some(kind) = bench.device else { bail!("needs a device") };
    // A card with another number of ports.
    let other = if kind.ends_with("-1") { "ferry_uart-2" } else { "ferry_uart-1" };
    let (source, target) = (bench.create()?, Some(Mdev::create(other)?));
    let (guest, mut a) = boot(&source)?;
    let (mut b, uri) = destination("B", &guest, &target)?;
    doing("migrating to a device of another configuration");
    begin(&mut a, &uri, FAST)?;
    let status = a.qmp.wait_migration(&["failed", "completed"], MIGRATION_LIMIT)?;
    ensure!(status == "failed", "expected a failed migration, saw {status}");
    b.wait_end(STEP_LIMIT)?;
    guest.wait_alive().context("after the destination refused")?;
    expect_state(&source, "RUNNING")?;
    ensure!(b.log().contains("vfio"), "expected the reason in QEMU's log, saw: {}", b.log());
    let uuid = target.as_ref().map(Mdev::uuid).unwrap_or_default();
    let lines = bench.log.peek();
    let refusal = lines.iter().find(|line| line.starts_with(&format!("ferry_uart {uuid}: ")));
    let refusal = refusal.with_context(|| {
        format!("expected the reason in the kernel's log, saw:\n{}", lines.join("\n"))
    })?;
    ensure!(
        refusal.contains("(-18)"),
        "expected a refusal with EXDEV (-18), another configuration, saw: {refusal}"
    );
    verdict(&guest, &a)
}
