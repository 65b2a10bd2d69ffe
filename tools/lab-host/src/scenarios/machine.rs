// SPDX-License-Identifier: GPL-2.0

//! Scenarios with a machine other than that of the rest: with a DIMM and a balloon, or with an IOMMU.

use anyhow::Result;
use serde_json::json;

use super::running::Running;
use super::running::BANDWIDTH;
use super::running::FAST;
use super::running::STEP_LIMIT;
use super::Bench;
use crate::qmp::Qmp;
use crate::recipe::Recipe;
use crate::report;
use crate::report::doing;
use crate::vm::Hardware;
use crate::vm::MEMORY;

/// Bytes that a balloon leaves to a guest with [`MEMORY`] and a DIMM of [`DIMM`]: all, and fewer.
const ALL_MEMORY: u64 = (256 + 128) << 20;
const LESS_MEMORY: u64 = 376 << 20;

/// The size of a DIMM.
const DIMM: &str = "128M";

/// Waits until the guest has the memory of a DIMM. The DIMM is the only memory above 4 GiB, so the zone Normal is the DIMM.
const HAS_DIMM: &str = "
    for i in $(seq 200); do
        [ ! -d /sys/devices/system/memory/memory32 ] || exit 0
        sleep 0.1
    done
    echo 'no memory at 4 GiB'
    exit 1";

/// Has the disk write into the DIMM, from which the guest takes its pages as long as the DIMM has free memory.
const READ_INTO_DIMM: &str = r#"
    dd if=/dev/nvme0n1 of=/tmp/in-dimm bs=1M count=8 iflag=direct 2>/dev/null || exit 1
    used=$(awk '
        $1 == "Node" { zone = $4 }
        zone == "Normal" && $1 == "managed" { managed = $2 }
        zone == "Normal" && $1 == "nr_free_pages" { free = $2 }
        END { print managed - free }' /proc/zoneinfo)
    [ "$used" -gt 2048 ] && exit 0
    echo "expected more than 2048 pages of the DIMM to be in use, saw $used"
    exit 1"#;

/// Checks that the data read is the data written when the disk was laid out.
const CHECK_IN_DIMM: &str = r#"
    expected=$(cat /tmp/cold-nvme0n1)
    seen=$(sha256sum < /tmp/in-dimm)
    [ "$expected" = "$seen" ] && exit 0
    echo "what was read into the DIMM: expected $expected, saw $seen"
    exit 1"#;

/// Has the balloon leave a number of bytes to the guest.
fn balloon(qmp: &mut Qmp, bytes: u64) -> Result<()> {
    doing(format!("leaving {} MiB to the guest", bytes >> 20));
    qmp.forget_events();
    qmp.execute("balloon", json!({ "value": bytes }))?;
    qmp.wait(STEP_LIMIT, "the balloon's size", |event| {
        let there = event.name == "BALLOON_CHANGE" && event.data["actual"] == json!(bytes);
        there.then_some(())
    })
}

/// Plugs a DIMM into a guest, and into its later destinations.
fn plug_dimm(running: &mut Running) -> Result<()> {
    doing("plugging a DIMM");
    let qmp = &mut running.vm.qmp;
    let memory = json!({
        "qom-type": "memory-backend-memfd", "id": "dimm", "size": 128 << 20, "share": true
    });
    qmp.execute("object-add", memory)?;
    let dimm = json!({ "driver": "pc-dimm", "id": "dimm0", "memdev": "dimm" });
    qmp.execute("device_add", dimm)?;
    running.hardware.arguments.extend([
        "-object".to_owned(),
        format!("memory-backend-memfd,id=dimm,size={DIMM},share=on"),
        "-device".to_owned(),
        "pc-dimm,id=dimm0,memdev=dimm".to_owned(),
    ]);
    running.script(HAS_DIMM)?;
    Ok(())
}

pub fn memory(bench: &mut Bench<'_>) -> Result<Running> {
    let recipe = Recipe::new(bench.kind()?);
    let mut from = bench.boot_with(Hardware {
        machine_options: ",memory-backend=memory",
        memory_options: ",slots=1,maxmem=1G",
        // The device pins no pages, so the balloon may give memory back to the host.
        device_options: ",x-balloon-allowed=on",
        arguments: vec![
            "-object".to_owned(),
            format!("memory-backend-memfd,id=memory,size={MEMORY},share=on"),
            "-device".to_owned(),
            "virtio-balloon-pci".to_owned(),
        ],
        ..Bench::hardware(bench.qemu, &[recipe])?
    })?;
    from.start_load()?;
    plug_dimm(&mut from)?;
    from.wait_alive("with more memory")?;
    from.script(READ_INTO_DIMM)?;
    from.script(CHECK_IN_DIMM)?;
    let (mut to, uri) = from.destination(from.twins()?)?;
    from.enter_pre_copy(&uri)?;
    balloon(&mut from.vm.qmp, LESS_MEMORY)?;
    from.wait_alive("in pre-copy, with less memory")?;
    from.set(BANDWIDTH, FAST)?;
    from.completed(&to.vm.name, report::now())?;
    to.vm.qmp.wait_name("RESUME", STEP_LIMIT)?;
    balloon(&mut to.vm.qmp, ALL_MEMORY)?;
    to.wait_alive("after the migration, with all memory")?;
    to.script(CHECK_IN_DIMM)?;
    Ok(to)
}

/// The guest's IOMMU, in passthrough mode: how QEMU treats the mappings of a guest that maps each buffer does not concern
/// the device.
const IOMMU: &str = "intel-iommu,caching-mode=on";
const WITH_IOMMU: &str = "intel_iommu=on iommu=pt";

/// The disk is behind an IOMMU.
const BEHIND_IOMMU: &str = "
    seen=$(cat $(readlink -f /sys/class/nvme/nvme0/device)/iommu_group/type)
    [ \"$seen\" = identity ] && exit 0
    echo \"expected an IOMMU group of the type identity, saw: $seen\"
    exit 1";

pub fn iommu(bench: &mut Bench<'_>) -> Result<Running> {
    let recipe = Recipe::new(bench.kind()?);
    let mut running = bench.boot_with(Hardware {
        kernel_options: WITH_IOMMU,
        arguments: vec!["-device".to_owned(), IOMMU.to_owned()],
        ..Bench::hardware(bench.qemu, &[recipe])?
    })?;
    running.script(BEHIND_IOMMU)?;
    running.start_load()?;
    for _ in 0..2 {
        let (mut to, uri) = running.destination(running.twins()?)?;
        running.migrate(&mut to, &uri)?;
        running = to;
    }
    Ok(running)
}
