// SPDX-License-Identifier: GPL-2.0

//! The directories of VMs: their sockets and logs.

use std::fs;
use std::path::PathBuf;

/// The name of QEMU's process.
pub const PROCESS: &str = "qemu-system";

/// The parent of the VMs' directories.
pub const DIRECTORY: &str = "/run/ferry";

/// The socket of a second monitor, for the diagnosis of a failure, in a VM's directory.
pub const DIAGNOSIS: &str = "diagnosis";

/// The directories of all VMs, also of those that have ended, with the VMs' names.
pub fn directories() -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, entry.path())
        })
        .collect()
}

/// The logs of all VMs' QEMUs and consoles that are not empty, as name and text.
pub fn logs() -> Vec<(String, String)> {
    let mut logs = Vec::new();
    for (_, directory) in directories() {
        for file in ["qemu.log", "console.log"] {
            let path = directory.join(file);
            let text = fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).trim_end().to_owned();
            if !text.is_empty() {
                logs.push((path.display().to_string(), text));
            }
        }
    }
    logs
}

/// Removes the directories of VMs that have ended.
pub fn forget_logs() {
    let _ = fs::remove_dir_all(DIRECTORY);
}
