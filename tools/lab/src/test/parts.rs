// SPDX-License-Identifier: GPL-2.0

//! The parts of a test run. Each has a VM of its own.

use std::time::Duration;

use lab_host::device::Kind;
use lab_host::device::CARDS;
use lab_host::job::Stage;
use lab_host::scenario::Scenario;
use lab_host::vmm::Qemu;

use super::Options;
use crate::kernel_selftests;
use crate::matrix;

/// The kselftest programs.
const SELFTESTS: [&str; 2] = ["vfio-migration-selftests", "vfio-migration-v2-selftests"];

/// The times after which the VM with the kselftests is ended. A debug kernel is slow.
const SELFTESTS_LIMIT: Duration = Duration::from_secs(600);
const DEBUG_LIMIT: Duration = Duration::from_secs(1800);

/// The time after which the VM with the scenarios is ended. On two emulated processors, beside another VM, the scenarios
/// of the disk took 30 minutes.
const SCENARIOS_LIMIT: Duration = Duration::from_secs(3600);

/// The kselftests on a network card of the host, and those of the kernel.
const CARD_KSELFTEST: &str = "kselftest e1000e";
const KERNEL_KSELFTEST: &str = "kselftest of the kernel";

/// A part of the test that one VM runs.
#[derive(Default)]
pub struct Part {
    pub name: String,
    pub stages: Vec<Stage>,
    pub kunit: bool,
    /// The mdev type of the scenarios. A VM with scenarios carries a guest.
    pub device: Option<&'static str>,
    /// The VM has an IOMMU and network cards.
    pub functions: bool,
    /// Parameters of the variant driver's module.
    pub variant_parameters: &'static str,
    pub programs: Vec<String>,
    /// Programs of the kernel's selftests.
    pub kernel_programs: &'static [&'static str],
    pub limit: Duration,
}

/// The parts of a test run with `options`, in their order.
pub fn parts(options: &Options) -> Vec<Part> {
    let scenarios = |part: &str, list: &[Scenario], qemu: Qemu| {
        let wanted = |scenario: &&Scenario| {
            options.only.as_ref().is_none_or(|only| {
                part.contains(only.as_str()) || scenario.title().contains(only.as_str())
            })
        };
        let stage = |&scenario: &Scenario| Stage::Scenario { scenario, qemu };
        list.iter().filter(wanted).map(stage).collect::<Vec<_>>()
    };
    let wanted = |name: &str| {
        options
            .only
            .as_ref()
            .is_none_or(|only| name.contains(only.as_str()))
    };
    let program = |name: &str| format!("{}/{name}", lab_host::job::PROGRAMS);
    let selftests = SELFTESTS.map(|name| Stage::Kselftest {
        program: program(name),
        arguments: Vec::new(),
        cards: false,
    });
    let [first, second] = CARDS;
    let card_selftests = SELFTESTS.map(|name| Stage::Kselftest {
        program: program(name),
        arguments: ["--device", first, "--second", second]
            .map(str::to_owned)
            .to_vec(),
        cards: true,
    });
    let kernel_selftests = kernel_selftests::PROGRAMS.map(|name| Stage::Kselftest {
        program: program(name),
        arguments: kernel_selftests::TYPE1
            .into_iter()
            .chain([first])
            .map(str::to_owned)
            .collect(),
        cards: true,
    });
    let mut parts = Vec::new();
    if options.debug {
        if wanted("kunit") || wanted("kselftest") {
            let mut stages = Vec::new();
            if wanted("kselftest") {
                stages.extend(selftests);
            }
            stages.push(Stage::Kmemleak);
            parts.push(Part {
                name: "kunit and kselftest".to_owned(),
                stages,
                kunit: wanted("kunit"),
                device: None,
                programs: SELFTESTS.map(str::to_owned).to_vec(),
                limit: DEBUG_LIMIT,
                ..Part::default()
            });
        }
        if wanted(CARD_KSELFTEST) {
            let mut stages = card_selftests.to_vec();
            stages.push(Stage::Kmemleak);
            parts.push(Part {
                name: CARD_KSELFTEST.to_owned(),
                stages,
                functions: true,
                programs: SELFTESTS.map(str::to_owned).to_vec(),
                limit: DEBUG_LIMIT,
                ..Part::default()
            });
        }
        // The device's dirty log needs iommufd, which the stock kernel does not have.
        let with_log = (Scenario::DeviceLog, matrix::QEMU_WITH_DEVICE_LOG);
        for (scenario, qemu) in [(Scenario::LiveMigration, Qemu::default()), with_log] {
            for device in matrix::DEVICES {
                // Nothing follows the DMA of the network card.
                let card = Kind::of(device) == Some(Kind::NetworkCard);
                if card && scenario == Scenario::DeviceLog {
                    continue;
                }
                let name = matrix::part(device, qemu);
                let mut stages = scenarios(&name, &[scenario], qemu);
                if stages.is_empty() {
                    continue;
                }
                stages.push(Stage::Kmemleak);
                parts.push(Part {
                    name,
                    stages,
                    device: Some(device),
                    functions: card,
                    limit: DEBUG_LIMIT,
                    ..Part::default()
                });
            }
        }
        return parts;
    }
    if wanted("kselftest") {
        parts.push(Part {
            name: "kselftest".to_owned(),
            stages: selftests.to_vec(),
            programs: SELFTESTS.map(str::to_owned).to_vec(),
            limit: SELFTESTS_LIMIT,
            ..Part::default()
        });
    }
    if wanted(CARD_KSELFTEST) {
        parts.push(Part {
            name: CARD_KSELFTEST.to_owned(),
            stages: card_selftests.to_vec(),
            functions: true,
            programs: SELFTESTS.map(str::to_owned).to_vec(),
            limit: SELFTESTS_LIMIT,
            ..Part::default()
        });
    }
    if wanted(KERNEL_KSELFTEST) {
        let mut stages = kernel_selftests.to_vec();
        // A card without traps.
        stages.push(Stage::Kselftest {
            program: program(SELFTESTS[0]),
            arguments: ["--device", first, "--second", second, "card_"]
                .map(str::to_owned)
                .to_vec(),
            cards: true,
        });
        parts.push(Part {
            name: KERNEL_KSELFTEST.to_owned(),
            stages,
            functions: true,
            // The kernel's library maps BARs whole.
            variant_parameters: "dirty_tracking=0",
            programs: vec![SELFTESTS[0].to_owned()],
            kernel_programs: &kernel_selftests::PROGRAMS,
            limit: SELFTESTS_LIMIT,
            ..Part::default()
        });
    }
    let with_each = |qemu: Qemu| matrix::DEVICES.map(|device| (device, qemu));
    for (device, qemu) in Qemu::ALL.into_iter().flat_map(with_each) {
        let name = matrix::part(device, qemu);
        let list = Kind::of(device).map(|kind| Scenario::of(kind, qemu));
        let stages = scenarios(&name, &list.unwrap_or_default(), qemu);
        if !stages.is_empty() {
            parts.push(Part {
                name,
                stages,
                device: Some(device),
                functions: Kind::of(device) == Some(Kind::NetworkCard),
                limit: SCENARIOS_LIMIT,
                ..Part::default()
            });
        }
    }
    parts
}
