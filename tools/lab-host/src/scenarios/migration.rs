// SPDX-License-Identifier: GPL-2.0

//! The scenarios of all devices.

use std::fs;

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use lab_host::device;
use lab_host::event::Trace;
use serde_json::json;

use super::running::Running;
use super::running::BANDWIDTH;
use super::running::FAST;
use super::running::MIGRATION_LIMIT;
use super::running::STEP_LIMIT;
use super::running::SWITCHOVER_BANDWIDTH;
use super::Bench;
use crate::assigned::Assigned;
use crate::kernel::Log;
use crate::recipe::Recipe;
use crate::report;
use crate::report::doing;
use crate::vm::Hardware;
use crate::vm::Vm;

/// The file that a guest is put into.
pub const STATE_FILE: &str = "/tmp/guest-state";

/// The disk that holds internal snapshots, and its size in bytes.
const DISK: &str = "/tmp/snapshots.qcow2";
const DISK_SIZE: u64 = 1 << 30;

/// The mdev attribute that has the size of the data section in bytes, and its smallest value.
const WINDOW_SIZE: &str = "migration/window_size";
const SMALLEST_WINDOW: &str = "4096";

/// How the kernel's log line ends when a stream of another configuration was refused: EXDEV.
const REFUSED: &str = "(-18)";

pub fn live_migration(bench: &mut Bench<'_>) -> Result<Running> {
    let mut from = bench.guest()?;
    let (mut to, uri) = from.destination(from.twins()?)?;
    from.migrate(&mut to, &uri)?;
    Ok(to)
}

pub fn there_and_back(bench: &mut Bench<'_>) -> Result<Running> {
    let mut from = bench.guest()?;
    let (mut to, uri) = from.destination(from.twins()?)?;
    from.migrate(&mut to, &uri)?;
    // The same device, opened anew.
    let Running { vm, hardware, .. } = from;
    drop(vm);
    let (mut back, uri) = to.destination(hardware.devices)?;
    to.migrate(&mut back, &uri)?;
    Ok(back)
}

pub fn smaller_window(bench: &mut Bench<'_>) -> Result<Running> {
    let mut from = bench.guest()?;
    let targets = from.twins()?;
    for target in &targets {
        target.set(WINDOW_SIZE, SMALLEST_WINDOW)?;
    }
    let (mut to, uri) = from.destination(targets)?;
    from.migrate(&mut to, &uri)?;
    Ok(to)
}

pub fn cancel_in_pre_copy(bench: &mut Bench<'_>) -> Result<Running> {
    let mut from = bench.guest()?;
    let (to, uri) = from.destination(from.twins()?)?;
    from.enter_pre_copy(&uri)?;
    from.wait_alive("in pre-copy")?;
    from.vm.qmp.execute("migrate_cancel", json!({}))?;
    // QEMU shuts the connection down before it marks the migration as cancelled. If the migration
    // notices the shutdown in between, it has failed.
    let ends = ["cancelled", "failed"];
    from.vm.qmp.wait_migration(&ends, STEP_LIMIT)?;
    drop(to);
    from.wait_alive("after the cancellation")?;
    from.expect_state("RUNNING")?;
    // The first attempt must not hinder the next.
    let (mut to, uri) = from.destination(from.twins()?)?;
    from.migrate(&mut to, &uri)?;
    Ok(to)
}

pub fn paused_guest(bench: &mut Bench<'_>) -> Result<Running> {
    let mut from = bench.guest()?;
    let (mut to, uri) = from.destination(from.twins()?)?;
    from.vm.qmp.execute("stop", json!({}))?;
    from.expect_state("STOP")?;
    doing("migrating a guest that is paused");
    // QEMU does not enter pre-copy for it, from which on a card's DMA is followed. A card that has been followed once still is.
    from.allow_all_dirty("idle")?;
    if !from.hardware.qemu.speaks_v1() {
        // Without pre-copy all of a device's state is left for stop-and-copy. QEMU compares the state's
        // size with the amount that it can send in the downtime, by its last bandwidth. Once the memory
        // has been moved the bandwidth is 0, and QEMU would wait for ever.
        from.set(SWITCHOVER_BANDWIDTH, FAST)?;
    }
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

pub fn stop_and_continue(bench: &mut Bench<'_>) -> Result<Running> {
    let mut from = bench.guest()?;
    let (mut to, uri) = from.destination(from.twins()?)?;
    from.enter_pre_copy(&uri)?;
    from.vm.qmp.execute("stop", json!({}))?;
    from.wait_state("STOP_COPY")?;
    from.traffic.stood_still();
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

pub fn snapshot(bench: &mut Bench<'_>) -> Result<Running> {
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

/// Puts the guest into a file, [`STATE_FILE`], by a migration that `begin` begins.
pub fn to_file(
    from: &mut Running,
    begin: impl FnOnce(&mut Running, &str) -> Result<()>,
) -> Result<()> {
    // A file has no return path.
    from.vm.set_return_path(false)?;
    doing("migrating to a file");
    begin(from, &format!("exec:cat > {STATE_FILE}"))?;
    from.completed("file", report::now())?;
    Ok(())
}

/// Starts the guest from its file in a new QEMU with new devices.
pub fn from_file(from: Running) -> Result<Running> {
    let recipes: Vec<_> = from
        .hardware
        .devices
        .iter()
        .map(Assigned::recipe)
        .cloned()
        .collect();
    let Running {
        tracer,
        guest,
        vm,
        traffic,
        mut hardware,
        rising_downtime,
    } = from;
    drop(vm);
    drop(std::mem::take(&mut hardware.devices));
    doing("starting from the file");
    let hardware = Hardware {
        devices: recipes
            .iter()
            .map(Assigned::create)
            .collect::<Result<_>>()?,
        ..hardware
    };
    let vm = Vm::start("B", &guest, &hardware, true)?;
    let mut to = Running {
        tracer,
        guest,
        vm,
        traffic,
        hardware,
        rising_downtime,
    };
    to.vm.set_return_path(false)?;
    to.vm.receive(&format!("exec:cat {STATE_FILE}"))?;
    to.vm.qmp.wait_name("RESUME", MIGRATION_LIMIT)?;
    to.vm.set_return_path(true)?;
    to.wait_alive("after starting from the file")?;
    fs::remove_file(STATE_FILE).context("removing the file")?;
    Ok(to)
}

pub fn to_file_and_back(bench: &mut Bench<'_>) -> Result<Running> {
    let mut from = bench.guest()?;
    to_file(&mut from, |from, uri| from.begin(uri, FAST))?;
    from_file(from)
}

pub fn destination_killed(bench: &mut Bench<'_>) -> Result<Running> {
    let mut from = bench.guest()?;
    let (mut to, uri) = from.destination(from.twins()?)?;
    from.enter_pre_copy(&uri)?;
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

pub fn destination_refuses(bench: &mut Bench<'_>, log: &mut Log) -> Result<Running> {
    let other = match bench.kind()? {
        device::CARD_DRIVER => device::OTHER_CARD,
        // A card with another number of ports.
        kind if kind.ends_with("-1") => "ferry_uart-2",
        _ => "ferry_uart-1",
    };
    let mut from = bench.guest()?;
    refused(&mut from, &Recipe::new(other), log)?;
    Ok(from)
}

/// Migrates `from` to a device that is made like `other` and so refuses, and checks that the guest goes on.
pub fn refused(from: &mut Running, other: &Recipe, log: &mut Log) -> Result<()> {
    let target = Assigned::create(other)?;
    let uuid = target.name().to_owned();
    let (mut to, uri) = from.destination(vec![target])?;
    doing("migrating to a device of another configuration");
    from.tracer.forget();
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
    let consumed = from
        .tracer
        .count(|trace| matches!(trace, Trace::Chunk { device, .. } if *device == uuid));
    ensure!(
        consumed == 0,
        "expected the first chunk to be refused, saw {consumed} consumed before"
    );
    let prefix = format!("{} {uuid}: ", device::driver(&other.kind));
    let reason = |line: &&String| line.starts_with(&prefix) && line.ends_with(REFUSED);
    let found = log.peek().iter().any(|line| reason(&line));
    ensure!(
        found,
        "expected a line \"{prefix}... {REFUSED}\" in the kernel's log, saw:\n{}",
        log.peek().join("\n")
    );
    Ok(())
}
