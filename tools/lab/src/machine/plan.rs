// SPDX-License-Identifier: GPL-2.0

//! The plan of a host VM: its contents and its stages.

use std::path::PathBuf;
use std::time::Duration;

use lab_host::job::Stage;

#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub stages: Vec<Stage>,
    /// Run the debug kernel instead of the stock one.
    pub debug: bool,
    /// Load Ferry's modules.
    pub driver: bool,
    /// Have an IOMMU and two network cards, and load the variant driver of these. The cards of a VM with guests have peers
    /// in the VM.
    pub functions: bool,
    /// Begin with the in-kernel unit tests.
    pub kunit: bool,
    /// Parameters of the driver modules.
    pub parameters: String,
    /// Parameters of the variant driver's module alone.
    pub variant_parameters: String,
    /// Carry a guest, and the QEMUs that the stages ask for.
    pub nested: bool,
    /// The mdev type of the scenarios.
    pub device: Option<String>,
    /// Static programs to carry besides `lab-host`.
    pub programs: Vec<String>,
    /// Other files to carry, into [`PROGRAMS`](lab_host::job::PROGRAMS).
    pub files: Vec<PathBuf>,
    /// The time after which the VM is ended.
    pub limit: Duration,
}
