// SPDX-License-Identifier: GPL-2.0

//! A migration whose disk is mirrored meanwhile, as libvirt does it for a disk that only one host sees: QEMU copies the content
//! through NBD, stops the guest, ends the copy, and goes on with the migration.

use anyhow::Context;
use anyhow::Result;
use lab_host::event::Migrated;
use lab_host::event::What;
use lab_host::job::MEASURED_QEMU;
use serde_json::json;
use serde_json::Value;

use crate::emulated;
use crate::report;
use crate::report::doing;
use crate::scenarios::Running;
use crate::scenarios::FAST;
use crate::scenarios::MIGRATION_LIMIT;
use crate::scenarios::STEP_LIMIT;
use crate::vm::Hardware;

/// The files of both sides.
const SOURCE: &str = "/tmp/mirror-source";
const DESTINATION: &str = "/tmp/mirror-destination";

/// The socket of the destination's NBD server.
const SOCKET: &str = "/tmp/mirror-nbd";

/// The names of the export, of the node that it is at the source, and of the copying job.
const EXPORT: &str = "content";
const TARGET: &str = "target";
const JOB: &str = "mirror";

/// The source's hardware.
pub fn hardware() -> Result<Hardware> {
    emulated::nvme_in(MEASURED_QEMU, SOURCE)
}

/// Starts a QEMU that listens for the guest and for its disk's content. Returns it with its socket's URI.
pub fn destination(from: &mut Running) -> Result<(Running, String)> {
    let ours = std::mem::replace(
        &mut from.hardware.arguments,
        emulated::nvme_in(MEASURED_QEMU, DESTINATION)?.arguments,
    );
    let destination = from.destination_in(MEASURED_QEMU, Vec::new(), |vm| {
        let address = json!({ "type": "unix", "data": { "path": SOCKET } });
        vm.qmp
            .execute("nbd-server-start", json!({ "addr": address }))?;
        let export = json!({
            "type": "nbd",
            "id": EXPORT,
            "name": EXPORT,
            "node-name": emulated::NVME_NODE,
            "writable": true,
        });
        vm.qmp.execute("block-export-add", export)?;
        Ok(())
    });
    from.hardware.arguments = ours;
    destination
}

/// The bytes that the job has copied so far.
fn copied(jobs: &Value) -> Option<u64> {
    let jobs = jobs.as_array()?;
    let its_own = |job: &&Value| job["device"] == JOB;
    jobs.iter().find(its_own)?["offset"].as_u64()
}

/// Migrates. The bytes that were moved while the guest stood still are those of the migration and of the disk's content.
pub fn migrate(from: &mut Running, to: &mut Running, uri: &str) -> Result<Migrated> {
    doing("mirroring the disk");
    let server = json!({ "type": "unix", "path": SOCKET });
    let target = json!({
        "driver": "nbd",
        "node-name": TARGET,
        "server": server,
        "export": EXPORT,
    });
    let qmp = &mut from.vm.qmp;
    qmp.execute("blockdev-add", target)?;
    let mirror = json!({
        "job-id": JOB,
        "device": emulated::NVME_NODE,
        "target": TARGET,
        "sync": "full",
    });
    let began = report::now();
    qmp.execute("blockdev-mirror", mirror)?;
    qmp.wait_name("BLOCK_JOB_READY", MIGRATION_LIMIT)?;
    doing("migrating the guest");
    from.guest.reset_stall();
    from.vm.set_capability("pause-before-switchover", true)?;
    from.begin(uri, FAST)?;
    let qmp = &mut from.vm.qmp;
    qmp.wait_migration(&["pre-switchover"], MIGRATION_LIMIT)?;
    let jobs = qmp.execute("query-block-jobs", json!({}))?;
    let before = copied(&jobs).with_context(|| format!("the copying job in {jobs}"))?;
    qmp.execute("block-job-cancel", json!({ "device": JOB }))?;
    let after = qmp.wait(STEP_LIMIT, "the end of the copy", |event| {
        (event.name == "BLOCK_JOB_COMPLETED").then(|| event.data["offset"].as_u64())
    })?;
    let after = after.context("the copying job has no offset")?;
    let state = json!({ "state": "pre-switchover" });
    qmp.execute("migrate-continue", state)?;
    let mut migrated = from.completed(&to.vm.name, began)?;
    to.vm.qmp.wait_name("RESUME", STEP_LIMIT)?;
    to.wait_alive("after the migration")?;
    let late = after.saturating_sub(before);
    migrated.total_ms = ((migrated.ended - began) * 1000.0) as u64;
    migrated.downtime_bytes += late;
    migrated.ram_bytes += after;
    report::say(What::Migrated(migrated.clone()));
    Ok(migrated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jobs_offset_is_what_was_copied() {
        let jobs = json!([
            { "device": "other", "offset": 1, "len": 2 },
            { "device": JOB, "offset": 4096, "len": 8192 },
        ]);
        assert_eq!(copied(&jobs), Some(4096));
        assert_eq!(copied(&json!([])), None);
    }
}
