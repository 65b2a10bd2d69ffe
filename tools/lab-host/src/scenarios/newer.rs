// SPDX-License-Identifier: GPL-2.0

//! Scenarios of QEMUs that migrate devices through protocol v2.

use anyhow::ensure;
use anyhow::Result;
use lab_host::device::Kind;
use lab_host::event::Trace;
use lab_host::vmm::Qemu;
use serde_json::json;

use super::running::Running;
use super::running::DOWNTIME_LIMIT;
use super::running::FAST;
use super::running::STEP_LIMIT;
use super::running::SWITCHOVER_BANDWIDTH;
use super::running::USUAL_DOWNTIME;
use super::Bench;
use crate::recipe::Recipe;
use crate::report;
use crate::report::doing;
use crate::vm::Hardware;
use crate::vm::Vm;

/// Migration capabilities of QEMU.
const MULTIFD: &str = "multifd";
const SWITCHOVER_ACK: &str = "switchover-ack";

/// The property of a device that sends the rest of its state through multifd's connections. By default QEMU does so if it
/// can; with this property it reports an error if it cannot.
const MULTIFD_STATE: &str = "x-migration-multifd-transfer";

/// The serial card that goes with a disk, and the disk that goes with a network card.
const CARD: &str = "ferry_uart-2";
const DISK: &str = "ferry_nvme-512";

/// Sets whether the devices of a QEMU send their state through multifd's connections.
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
    let devices = running.hardware.devices.len();
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
        // Without the capability QEMU would not stay in pre-copy with its default downtime limit.
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
    let is_of = |running: &Running, name: &str| {
        let mut devices = running.hardware.devices.iter();
        devices.any(|device| device.name() == name)
    };
    let before_stop = from.tracer.until(
        |trace| matches!(trace, Trace::State { device, to, .. } if to == "STOP_COPY" && is_of(from, device)),
    );
    for other in &to.hardware.devices {
        let taken = before_stop
            .iter()
            .any(|trace| matches!(trace, Trace::Chunk { device, .. } if device == other.name()));
        ensure!(
            taken,
            "expected that {} took a chunk before the source was stopped, saw until then: {before_stop:?}",
            other.name()
        );
    }
    Ok(())
}

/// Further options of QEMU: events of devices' states, loading its own part of a device's state last, and a log of pre-copy
/// information.
const EVENTS: [&str; 8] = [
    "-global",
    "vfio-pci.migration-events=on",
    "-global",
    "vfio-pci.x-migration-load-config-after-iter=on",
    "-trace",
    "vfio_query_precopy_size",
    "-trace",
    "vfio_send_init_data_flag",
];

/// QEMU's event of a device's state, and its log lines on a new first part and on a first part that was sent completely,
/// which the destination then has to acknowledge.
const STATE_EVENT: &str = "VFIO_MIGRATION";
const BEGUN_ANEW: &str = "reinit 1";
const FIRST_PART_SENT: &str = "vfio_send_init_data_flag";

/// The begin and length, in MiB, of the part of the disk that is rewritten: more than half of the disk's written part.
const REWRITTEN: (u64, u64) = (32, 28);

pub fn rewritten_disk(bench: &mut Bench<'_>) -> Result<Running> {
    let recipe = Recipe::new(bench.kind()?);
    let mut running = bench.boot_with(Hardware {
        arguments: EVENTS.map(str::to_owned).to_vec(),
        ..Bench::hardware(bench.qemu, &[recipe])?
    })?;
    rewrite(&running)?;
    running.start_load()?;
    // Through one connection, and through several.
    for multifd in [false, true] {
        let prepare = |vm: &mut Vm| {
            vm.set_capability(SWITCHOVER_ACK, true)?;
            set_multifd(vm, 1, multifd)
        };
        prepare(&mut running.vm)?;
        let (mut to, uri) =
            running.destination_in(running.hardware.qemu, running.twins()?, prepare)?;
        doing("starting a migration that gives the whole disk and does not come to an end");
        running.set(DOWNTIME_LIMIT, 0)?;
        running.tracer.forget();
        running.begin(&uri, FAST)?;
        wait_event(&mut running, "pre-copy")?;
        running.wait_little_left()?;
        // A frozen destination takes no data, so the source does not read the rewritten blocks at once.
        to.vm.freeze(true)?;
        rewrite(&running)?;
        doing("letting the migration come to its end");
        // QEMU measured no bandwidth while the destination was frozen. With this one it queries the
        // device before it reads much more.
        running.set(SWITCHOVER_BANDWIDTH, FAST)?;
        running.set(DOWNTIME_LIMIT, USUAL_DOWNTIME)?;
        to.vm.freeze(false)?;
        running.completed(&to.vm.name, report::now())?;
        wait_event(&mut to, "resuming")?;
        to.vm.qmp.wait_name("RESUME", STEP_LIMIT)?;
        let log = running.vm.log();
        let count = |what| log.matches(what).count();
        let (anew, sent) = (count(BEGUN_ANEW), count(FIRST_PART_SENT));
        ensure!(
            anew > 0 && sent == anew + 1,
            "expected new first parts and each of them sent, saw {anew} and {sent}:\n{log}"
        );
        to.wait_alive("after the migration")?;
        to.expect_state("RUNNING")?;
        check_rewritten(&to)?;
        running = to;
    }
    set_multifd(&mut running.vm, 1, false)?;
    running.vm.set_capability(SWITCHOVER_ACK, false)?;
    Ok(running)
}

/// Waits for QEMU's event that one of its devices is in this state.
fn wait_event(running: &mut Running, state: &str) -> Result<()> {
    let what = format!("the event {STATE_EVENT} with {state}");
    running.vm.qmp.wait(STEP_LIMIT, &what, |event| {
        (event.name == STATE_EVENT && event.data["device-state"] == state).then_some(())
    })
}

/// Has the guest rewrite most of its disk, with other bytes each time.
fn rewrite(running: &Running) -> Result<()> {
    let first = REWRITTEN.0;
    for disk in running.guest.found().disks {
        doing(format!("rewriting {}", disk.name));
        let (name, new) = (&disk.name, new_content(&disk.name));
        running.script(&format!(
            "set -e
             dd if=/dev/urandom of={new}.1 bs=1M count=1 2>/dev/null
             cat {new}.1 {new}.1 {new}.1 {new}.1 > {new}.4
             cat {new}.4 {new}.4 {new}.4 {new}.4 {new}.4 {new}.4 {new}.4 > {new}
             dd if={new} of=/dev/{name} bs=1M seek={first} conv=notrunc,fsync 2>/dev/null"
        ))?;
    }
    Ok(())
}

/// The guest's copy of the data that it has written.
fn new_content(disk: &str) -> String {
    format!("/tmp/new-{disk}")
}

/// Compares the disk with the copy, past the page cache.
fn check_rewritten(running: &Running) -> Result<()> {
    let (first, len) = REWRITTEN;
    for disk in running.guest.found().disks {
        let (name, new) = (&disk.name, new_content(&disk.name));
        running.script(&format!(
            "echo 1 > /proc/sys/vm/drop_caches
             dd if=/dev/{name} bs=1M skip={first} count={len} 2>/dev/null | cmp - {new} && exit 0
             echo \"{name}: expected what was written, saw something else\"
             exit 1"
        ))?;
    }
    Ok(())
}

pub fn two_devices(bench: &mut Bench<'_>) -> Result<Running> {
    let kind = bench.kind()?;
    let other = match Kind::of(kind) {
        Some(Kind::NetworkCard) => DISK,
        _ => CARD,
    };
    let recipes = [Recipe::new(kind), Recipe::new(other)];
    let running = bench.boot(&recipes)?;
    let found = running.guest.found();
    ensure!(
        !found.disks.is_empty() && !found.ports.is_empty(),
        "expected a disk and another device in the guest, saw {found:?}"
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
