// SPDX-License-Identifier: GPL-2.0

//! What only a QEMU can do that migrates devices through protocol v2.

use anyhow::ensure;
use anyhow::Result;
use ferry_host::event::Trace;
use ferry_host::vmm::Qemu;
use serde_json::json;

use super::running::Running;
use super::running::FAST;
use super::running::STEP_LIMIT;
use super::Bench;
use crate::mdev::Recipe;
use crate::report;
use crate::report::doing;
use crate::vm::Hardware;
use crate::vm::Vm;

/// QEMU's capabilities in migrations.
const MULTIFD: &str = "multifd";
const SWITCHOVER_ACK: &str = "switchover-ack";

/// The property of a device that has the rest of its state go through multifd's connections. By
/// itself it does so only when it can; when it is told to and cannot, it says so.
const MULTIFD_STATE: &str = "x-migration-multifd-transfer";

/// The serial card that goes with a disk.
const CARD: &str = "ferry_uart-2";

/// Has all devices of a QEMU send their state through multifd's connections, or not.
fn set_multifd(vm: &mut Vm, devices: usize, on: bool) -> Result<()> {
    vm.set_capability(MULTIFD, on)?;
    for index in 0..devices {
        let value = if on { "on" } else { "auto" };
        let path = format!("/machine/peripheral/device{index}");
        let property = json!({ "path": path, "property": MULTIFD_STATE, "value": value });
        vm.qmp.execute("qom-set", property)?;
    }
    Ok(())
}

pub fn multifd(bench: &mut Bench<'_>) -> Result<Running> {
    let mut running = bench.guest()?;
    let devices = running.hardware.mdevs.len();
    set_multifd(&mut running.vm, devices, true)?;
    for _ in 0..2 {
        let (mut to, uri) =
            running.destination_in(running.hardware.qemu, running.twins()?, |vm| {
                set_multifd(vm, devices, true)
            })?;
        running.migrate(&mut to, &uri)?;
        running = to;
    }
    set_multifd(&mut running.vm, devices, false)?;
    Ok(running)
}

pub fn switchover_ack(bench: &mut Bench<'_>) -> Result<Running> {
    let mut running = bench.guest()?;
    running.vm.set_capability(SWITCHOVER_ACK, true)?;
    for _ in 0..2 {
        let (mut to, uri) =
            running.destination_in(running.hardware.qemu, running.twins()?, |vm| {
                vm.set_capability(SWITCHOVER_ACK, true)
            })?;
        doing(format!(
            "migrating from QEMU {} to QEMU {} with {SWITCHOVER_ACK}",
            running.vm.name, to.vm.name
        ));
        running.tracer.forget();
        // Without the capability QEMU would not wait in pre-copy with its usual limit.
        running.begin(&uri, FAST)?;
        running.completed(&to.vm.name, report::now())?;
        to.vm.qmp.wait_name("RESUME", STEP_LIMIT)?;
        expect_ack(&running, &to)?;
        to.wait_alive("after the migration")?;
        to.expect_state("RUNNING")?;
        running = to;
    }
    running.vm.set_capability(SWITCHOVER_ACK, false)?;
    Ok(running)
}

/// Checks that each device of `to` had taken the first part of its state before any of `from` was
/// stopped.
fn expect_ack(from: &Running, to: &Running) -> Result<()> {
    let is_of = |running: &Running, uuid: &str| {
        let mut mdevs = running.hardware.mdevs.iter();
        mdevs.any(|mdev| mdev.uuid() == uuid)
    };
    let before_stop = from.tracer.until(
        |trace| matches!(trace, Trace::State { device, to, .. } if to == "STOP_COPY" && is_of(from, device)),
    );
    for mdev in &to.hardware.mdevs {
        let taken = before_stop
            .iter()
            .any(|trace| matches!(trace, Trace::Chunk { device, .. } if device == mdev.uuid()));
        ensure!(
            taken,
            "expected that {} took a chunk before the source was stopped, saw until then: {before_stop:?}",
            mdev.uuid()
        );
    }
    Ok(())
}

pub fn two_devices(bench: &mut Bench<'_>) -> Result<Running> {
    let recipes = [Recipe::new(bench.kind()?), Recipe::new(CARD)];
    let running = bench.boot(&recipes)?;
    let found = running.guest.found();
    ensure!(
        !found.disks.is_empty() && !found.ports.is_empty(),
        "expected a disk and serial ports in the guest, saw {found:?}"
    );
    running.start_load()?;
    there_and_back(running)
}

fn there_and_back(mut running: Running) -> Result<Running> {
    for _ in 0..2 {
        let (mut to, uri) = running.destination(running.twins()?)?;
        running.migrate(&mut to, &uri)?;
        running = to;
    }
    Ok(running)
}

pub fn device_log(bench: &mut Bench<'_>) -> Result<Running> {
    let recipe = Recipe::new(bench.kind()?);
    let running = bench.boot_with(Hardware {
        iommufd: true,
        ..Bench::hardware(bench.qemu, &[recipe])?
    })?;
    running.start_load()?;
    there_and_back(running)
}

pub fn from_old_qemu(bench: &mut Bench<'_>) -> Result<Running> {
    let recipe = Recipe::new(bench.kind()?);
    let qemu = bench.qemu;
    let mut from = bench.boot_in(Qemu::V7_2, &[recipe])?;
    from.start_load()?;
    let (mut to, uri) = from.destination_in(qemu, from.twins()?, |_| Ok(()))?;
    from.migrate(&mut to, &uri)?;
    Ok(to)
}
