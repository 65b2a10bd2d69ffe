// SPDX-License-Identifier: GPL-2.0

//! A guest in a QEMU, with operations on both.

use std::time::Duration;

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use lab_host::event::Migrated;
use lab_host::event::Trace;
use lab_host::event::What;
use lab_host::vmm::Qemu;
use serde_json::json;
use serde_json::Value;

use super::load;
use super::traffic::Traffic;
use crate::assigned::Assigned;
use crate::diagnosis;
use crate::guest::Guest;
use crate::network;
use crate::report;
use crate::report::doing;
use crate::trace::Tracer;
use crate::vm::Hardware;
use crate::vm::Vm;

/// The time limit of a guest's boot. On an emulated host with a debug kernel a guest boots in two minutes, and slower beside
/// another VM. Only a hang may reach a limit.
const BOOT_LIMIT: Duration = Duration::from_secs(600);

/// The time limit of a migration.
pub const MIGRATION_LIMIT: Duration = Duration::from_secs(600);

/// The time limit of an operation that moves no guest memory.
pub const STEP_LIMIT: Duration = Duration::from_secs(180);

/// QEMU's parameters of a migration.
pub const BANDWIDTH: &str = "max-bandwidth";
pub const DOWNTIME_LIMIT: &str = "downtime-limit";
pub const SWITCHOVER_BANDWIDTH: &str = "avail-switchover-bandwidth";

/// Downtime limits in milliseconds: QEMU's default, and one so short that QEMU stays in pre-copy.
pub const USUAL_DOWNTIME: u64 = 300;
const SHORT_DOWNTIME: u64 = 1;

/// The downtime limit of a guest with a network card whose DMA is not followed: all of the guest's memory is dirty at each
/// look. At [`SLOW`] that memory takes longer.
pub const ALL_DIRTY_DOWNTIME: u64 = 20_000;

/// Passes over a guest's memory after which a downtime limit that is raised is doubled.
const PASSES_IN_VAIN: u64 = 10;

/// A bandwidth in bytes per second at which pre-copy lasts long enough for a test.
pub const SLOW: u64 = 1 << 20;

/// A bandwidth in bytes per second at which nothing waits for the network.
pub const FAST: u64 = 1 << 30;

/// Bytes of device state that may be left for stop-and-copy.
const LITTLE_LEFT: u64 = 2 << 20;

/// The attribute that has the device's migration state.
const DEVICE_STATE: &str = "migration/device_state";

/// A function's attribute that says whether its DMA is followed.
const DIRTY_TRACKING: &str = "migration/dirty_tracking";

/// A guest in a QEMU with its devices. The devices go last, for QEMU holds them open.
pub struct Running {
    /// The tracepoints.
    pub tracer: Tracer,
    /// The guest.
    pub guest: Guest,
    /// The QEMU that it is in.
    pub vm: Vm,
    /// Its datagrams.
    pub traffic: Traffic,
    /// Its devices.
    pub hardware: Hardware,
    /// The downtime limit in milliseconds of the next migration, if QEMU is to be given more in case that it makes too many passes over
    /// memory in vain.
    pub rising_downtime: Option<u64>,
}

impl Running {
    /// Boots a guest with this hardware, and lays out its disks.
    pub fn boot(tracer: &Tracer, hardware: Hardware) -> Result<Self> {
        if hardware.has_card() {
            network::set_up()?;
        }
        doing("booting a guest in QEMU A");
        let guest = Guest::default();
        let vm = Vm::start("A", &guest, &hardware, false)?;
        let found = guest.wait_ready(BOOT_LIMIT)?;
        ensure!(
            hardware.devices.is_empty() || !found.ports.is_empty() || !found.disks.is_empty(),
            "the guest found nothing of its devices"
        );
        let running = Self {
            tracer: tracer.clone(),
            guest,
            vm,
            traffic: Traffic::default(),
            hardware,
            rising_downtime: None,
        };
        load::lay_out(&running)?;
        Ok(running)
    }

    /// Starts the streams and the disks' loads, which run until the next verdict.
    pub fn start_load(&self) -> Result<()> {
        self.guest.start(&self.vm.link)?;
        load::begin(self)?;
        self.traffic.begin(&self.guest, &self.vm.link)?;
        self.wait_alive("before anything was done")
    }

    /// Runs a script in the guest, and returns its output.
    pub fn script(&self, script: &str) -> Result<String> {
        self.guest.run(&self.vm.link, script)
    }

    /// New devices with the settings of this guest's devices.
    pub fn twins(&self) -> Result<Vec<Assigned>> {
        self.hardware.devices.iter().map(Assigned::twin).collect()
    }

    /// Starts a QEMU with `devices` that listens for this guest. Returns it with its socket's URI.
    pub fn destination(&self, devices: Vec<Assigned>) -> Result<(Running, String)> {
        self.destination_in(self.hardware.qemu, devices, |_| Ok(()))
    }

    /// As above with the version `qemu`. `prepare` is called before the QEMU listens.
    pub fn destination_in(
        &self,
        qemu: Qemu,
        devices: Vec<Assigned>,
        prepare: impl FnOnce(&mut Vm) -> Result<()>,
    ) -> Result<(Running, String)> {
        let name = if self.vm.name == "A" { "B" } else { "A" };
        let hardware = Hardware {
            qemu,
            machine: self.hardware.machine,
            devices,
            iommufd: self.hardware.iommufd,
            memory_mib: self.hardware.memory_mib,
            kernel_options: self.hardware.kernel_options,
            machine_options: self.hardware.machine_options,
            memory_options: self.hardware.memory_options,
            device_options: self.hardware.device_options,
            arguments: self.hardware.arguments.clone(),
        };
        let mut vm = Vm::start(name, &self.guest, &hardware, true)?;
        prepare(&mut vm)?;
        let uri = vm.migration_socket();
        vm.receive(&uri)?;
        Ok((
            Running {
                tracer: self.tracer.clone(),
                guest: self.guest.clone(),
                vm,
                traffic: self.traffic.clone(),
                hardware,
                rising_downtime: None,
            },
            uri,
        ))
    }

    /// Waits until the guest has run for a while, and its devices have done something.
    pub fn wait_alive(&self, when: &str) -> Result<()> {
        self.guest.wait_alive().with_context(|| when.to_owned())
    }

    /// Checks the state of all devices.
    pub fn expect_state(&self, state: &str) -> Result<()> {
        for device in &self.hardware.devices {
            let seen = device.get(DEVICE_STATE)?;
            ensure!(
                seen == state,
                "device_state of {}: expected {state}, saw {seen}",
                device.name()
            );
        }
        Ok(())
    }

    /// Waits until the first device, if there is one, has entered `state`.
    pub fn wait_state(&self, state: &str) -> Result<()> {
        let Some(first) = self.hardware.devices.first() else {
            return Ok(());
        };
        self.tracer
            .wait(STEP_LIMIT, &format!("the state {state}"), |trace| {
                matches!(trace, Trace::State { device, to, result: 0, .. }
                if device == first.name() && to == state)
            })?;
        Ok(())
    }

    /// Sets one of QEMU's parameters of a migration.
    pub fn set(&mut self, parameter: &str, value: u64) -> Result<()> {
        let parameters = json!({ parameter: value });
        self.vm.qmp.execute("migrate-set-parameters", parameters)?;
        Ok(())
    }

    /// Raises the downtime limit if a network card's DMA is not followed in this way.
    pub fn allow_all_dirty(&mut self, tracking: &str) -> Result<()> {
        for device in &self.hardware.devices {
            let is_card = matches!(device, Assigned::Function(_));
            if is_card && device.get(DIRTY_TRACKING)? == tracking {
                return self.set(DOWNTIME_LIMIT, ALL_DIRTY_DOWNTIME);
            }
        }
        Ok(())
    }

    /// Starts a migration to `uri` with this bandwidth.
    pub fn begin(&mut self, uri: &str, bytes_per_second: u64) -> Result<()> {
        self.set(BANDWIDTH, bytes_per_second)?;
        self.allow_all_dirty("off")?;
        self.vm.qmp.forget_events();
        self.vm.qmp.execute("migrate", json!({ "uri": uri }))?;
        Ok(())
    }

    /// Starts a migration and returns in the middle of pre-copy.
    pub fn enter_pre_copy(&mut self, uri: &str) -> Result<()> {
        doing("starting a migration that does not come to an end by itself");
        self.tracer.forget();
        self.begin(uri, SLOW)?;
        self.vm.qmp.wait_migration(&["active"], STEP_LIMIT)?;
        self.wait_state("PRE_COPY")
    }

    /// Waits for the end of a migration, and returns it.
    fn ended(&mut self) -> Result<String> {
        const ENDS: [&str; 3] = ["completed", "failed", "cancelled"];
        loop {
            let Some(limit) = self.rising_downtime else {
                return self.vm.qmp.wait_migration(&ENDS, MIGRATION_LIMIT);
            };
            let ended =
                self.vm
                    .qmp
                    .wait_migration_or_pass(&ENDS, PASSES_IN_VAIN, MIGRATION_LIMIT)?;
            if let Some(status) = ended {
                return Ok(status);
            }
            self.rising_downtime = Some(2 * limit);
            self.set(DOWNTIME_LIMIT, 2 * limit)?;
        }
    }

    /// Waits for the end of a migration, which has to succeed, and returns QEMU's figures.
    pub fn completed(&mut self, destination: &str, began: f64) -> Result<Migrated> {
        let status = self.ended()?;
        ensure!(
            status == "completed",
            "the migration: expected completed, saw {status}"
        );
        let ended = report::now();
        self.traffic.stood_still();
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

    /// Starts a migration at full speed in which the first device, if any, gives a part of its state in pre-copy. Returns
    /// when little of that state is left.
    pub fn begin_through_pre_copy(&mut self, uri: &str) -> Result<()> {
        let first = self.hardware.devices.first();
        let name = first.map(|device| device.name().to_owned());
        if let Some(name) = name.filter(|_| !self.hardware.has_card()) {
            // QEMU reads the devices in pre-copy only when no memory is left to be moved. With the
            // default limit it would enter stop-and-copy long before.
            self.set(DOWNTIME_LIMIT, SHORT_DOWNTIME)?;
            self.tracer.forget();
            self.begin(uri, FAST)?;
            let chunk = |trace: &Trace| {
                matches!(trace, Trace::Chunk { device, state, .. }
                if *device == name && (state == "PRE_COPY" || state == "STOP_COPY"))
            };
            let (tracer, qmp) = (self.tracer.clone(), &mut self.vm.qmp);
            tracer.wait_while(MIGRATION_LIMIT, "a chunk in pre-copy", chunk, || {
                let info = qmp.execute("query-migrate", json!({}))?;
                ensure!(info["status"] != "failed", "the migration failed: {info}");
                Ok(())
            })?;
            // A disk has more than one chunk, and the guest goes on writing. Most of the state is to
            // move while the guest runs, even if QEMU's downtime limit allowed otherwise.
            self.wait_little_left()?;
            self.set(DOWNTIME_LIMIT, USUAL_DOWNTIME)?;
        } else {
            self.begin(uri, FAST)?;
        }
        Ok(())
    }

    /// Waits until little of the first device's state is left in pre-copy, or until the device is stopped. Without a device,
    /// returns at once.
    pub fn wait_little_left(&self) -> Result<()> {
        let Some(name) = self.hardware.devices.first().map(|device| device.name()) else {
            return Ok(());
        };
        self.tracer.wait(
            MIGRATION_LIMIT,
            "the end of pre-copy",
            |trace| match trace {
                Trace::Pending {
                    device, pending, ..
                } => *device == name && *pending <= LITTLE_LEFT,
                Trace::State { device, to, .. } => *device == name && to == "STOP_COPY",
                _ => false,
            },
        )?;
        Ok(())
    }

    /// How often the link of the guest's network card has changed. Empty without a card, or without its driver.
    pub fn link_changes(&self) -> Result<String> {
        if !self.hardware.has_card() {
            return Ok(String::new());
        }
        let changes = self.script("cat /sys/class/net/eth0/carrier_changes 2>/dev/null || true")?;
        Ok(changes.trim_end().to_owned())
    }

    /// Migrates at full speed, and checks that the guest goes on in `to`.
    pub fn migrate(&mut self, to: &mut Running, uri: &str) -> Result<Migrated> {
        doing(format!(
            "migrating from QEMU {} to QEMU {}",
            self.vm.name, to.vm.name
        ));
        self.guest.reset_stall();
        let link_changes = self.link_changes()?;
        let began = report::now();
        self.begin_through_pre_copy(uri)?;
        let mut migrated = self.completed(&to.vm.name, began)?;
        to.vm.qmp.wait_name("RESUME", STEP_LIMIT)?;
        to.wait_alive("after the migration")?;
        to.expect_state("RUNNING")?;
        let seen = to.link_changes()?;
        ensure!(
            seen == link_changes,
            "changes of the network card's link: expected {link_changes} as before, saw {seen}"
        );
        migrated.stall_ms = self.guest.stall().as_millis() as u64;
        report::say(What::Migrated(migrated.clone()));
        to.traffic.renew(&to.guest, &to.vm.link)?;
        Ok(migrated)
    }

    /// Ends the streams and loads, and checks the guest's verdict.
    pub fn verdict(&self) -> Result<()> {
        doing("asking the guest for its verdict");
        self.traffic.end(&self.guest, &self.vm.link)?;
        let verdict = self.guest.stop(&self.vm.link)?;
        for port in &verdict.ports {
            let good = port.good(true) && port.received > 0 && port.driver.interrupts > 0;
            if !good {
                diagnosis::look(&port.name);
            }
            ensure!(
                good,
                "{}: expected every line once, in order and whole, saw {:?}",
                port.name,
                verdict.ports
            );
        }
        for load in &verdict.loads {
            ensure!(
                load.good(),
                "{}: expected every block as it was written, saw {load:?}",
                load.name
            );
        }
        load::check(self)?;
        let problems = self.guest.problems();
        ensure!(
            problems.is_empty(),
            "the guest complains: {}",
            problems.join("; ")
        );
        Ok(())
    }
}
