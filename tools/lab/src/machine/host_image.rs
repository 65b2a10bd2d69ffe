// SPDX-License-Identifier: GPL-2.0

//! The initramfs of the host VM.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use lab_host::device;
use lab_host::job;
use lab_host::job::Job;
use lab_host::job::Stage;

use super::contents::add_busybox;
use super::contents::add_modules;
use super::contents::add_program;
use super::contents::add_qemu;
use super::guest_image::write_guest;
use super::plan::Plan;
use crate::components::kernel_image;
use crate::components::kernel_modules;
use crate::components::Components;
use crate::initramfs::Initramfs;
use crate::modules::Modules;

/// Modules of the kernel that a host needs, and whether each is optional: Intel's and AMD's processors have different KVM
/// modules.
const HOST_MODULES: [(&str, bool); 5] = [
    ("kvm_amd", true),
    ("kvm_intel", true),
    ("vfio_iommu_type1", false),
    ("vfio", false),
    ("virtio_blk", false),
];

/// Ferry's driver modules. Modules that they depend on are added.
const DRIVERS: [&str; 2] = [device::SERIAL_DRIVER, device::DISK_DRIVER];

/// Modules of the kernel for the network of guests with a network card.
const NETWORK_MODULES: [&str; 3] = ["virtio_net", "bridge", "8021q"];

/// What disks are measured with.
const FIO: &str = "usr/bin/fio";

/// The module of the driver that is measured beside the variant driver of network cards.
const PLAIN_MODULE: &str = "vfio_pci";

/// The kernel's sample device, on which some tests run, too.
const SAMPLE: &str = "mtty";

/// The module with the in-kernel unit tests.
const KUNIT_TESTS: &str = "ferry_kunit";

/// Writes the host VM's initramfs.
pub(super) fn write_host(
    components: &Components,
    plan: &Plan,
    directory: &Path,
) -> Result<PathBuf> {
    let path = directory.join("host.cpio");
    let mut archive = Initramfs::create(&path)?;
    archive.file("/init", &components.program("lab-host")?, true)?;
    add_busybox(components, &mut archive)?;
    for program in &plan.programs {
        let from = components.program(program)?;
        archive.file(&format!("{}/{program}", job::PROGRAMS), &from, true)?;
    }
    for file in &plan.files {
        let name = file.file_name().and_then(|name| name.to_str());
        let name = name.with_context(|| format!("{} has no name", file.display()))?;
        archive.file(&format!("{}/{name}", job::PROGRAMS), file, true)?;
    }

    let runs_fio = |stage: &Stage| matches!(stage, Stage::SlowFile { .. });
    if plan.stages.iter().any(runs_fio) {
        add_program(components.guest_tools()?, FIO, "", &mut archive)?;
    }

    let mut own = Vec::new();
    if plan.driver {
        own.push(&*components.modules);
        own.extend(components.samples());
    }
    let kernel = kernel_modules(components.kernel(plan.debug)?)?;
    let available = Modules::find(&own, &kernel)?;
    let mut wanted = HOST_MODULES
        .map(|(name, optional)| (name, "", optional))
        .to_vec();
    if plan.driver {
        wanted.extend(DRIVERS.map(|driver| (driver, &*plan.parameters, false)));
        wanted.push((SAMPLE, "", true));
    }
    let variant;
    if plan.driver && plan.functions {
        let parameters = [&*plan.parameters, &*plan.variant_parameters].join(" ");
        variant = parameters.trim().to_owned();
        wanted.push((device::CARD_DRIVER, &*variant, false));
    }
    if plan.functions && plan.nested {
        wanted.extend(NETWORK_MODULES.map(|module| (module, "", false)));
    }
    let beside_plain = |stage: &Stage| matches!(stage, Stage::CardSpeed { .. });
    if plan.stages.iter().any(beside_plain) {
        wanted.push((PLAIN_MODULE, "", false));
    }
    if plan.stages.iter().any(Stage::is_on_slow_disk) {
        wanted.push((job::SLOW_DISK, job::SLOW_DISK_PARAMETERS, false));
    } else if plan.driver {
        // Tests make disks of their own.
        wanted.push((job::SLOW_DISK, "nr_devices=0", true));
    }
    let mut modules: Vec<job::Module> = Vec::new();
    for (name, parameters, optional) in wanted {
        let closure = match available.closure(name) {
            Ok(closure) => closure,
            Err(_) if optional => continue,
            Err(error) => return Err(error).context("collecting the host's modules"),
        };
        // The modules that an optional module depends on load on any processor.
        let added = add_modules(&mut archive, closure, &modules)?
            .into_iter()
            .map(|module| job::Module {
                optional: optional && module.name == name,
                parameters: if module.name == name {
                    parameters.to_owned()
                } else {
                    String::new()
                },
                ..module
            });
        modules.extend(added);
    }
    let mut stages = plan.stages.clone();
    if plan.kunit {
        let closure = available
            .closure(KUNIT_TESTS)
            .context("collecting the unit tests")?;
        let tests = add_modules(&mut archive, closure, &modules)?;
        stages.insert(0, Stage::Kunit { modules: tests });
    }

    if plan.nested {
        let qemus: BTreeSet<_> = plan.stages.iter().flat_map(Stage::qemus).collect();
        for qemu in qemus {
            add_qemu(components, qemu, &mut archive)?;
        }
        let guest = directory.join("guest.cpio");
        write_guest(components, &guest)?;
        archive.file(job::GUEST_INITRD, &guest, false)?;
        archive.file(
            job::GUEST_KERNEL,
            &kernel_image(components.kernel(false)?)?,
            false,
        )?;
    }
    let job = Job {
        modules,
        stages,
        device: plan.device.clone(),
    };
    archive.data(
        job::PATH,
        &serde_json::to_vec(&job).context("writing the job")?,
        false,
    )?;
    archive.finish()?;
    Ok(path)
}
