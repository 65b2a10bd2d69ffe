// SPDX-License-Identifier: GPL-2.0

//! Suspends the guest's devices and resumes them, as a guest that sleeps does.
//!
//! The port to the host is such a device, and does not stand it: when Linux 7.3.4 resumes it, the kernel tells QEMU that the port is
//! ready before it has given a buffer for the answer. The answer is lost, and each write to the port waits for ever. So the
//! port has no driver meanwhile (`findings/linux-virtio-console-suspend.sh`).

use std::fs;

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;

/// The driver of virtio-serial devices.
const DRIVER: &str = "/sys/bus/virtio/drivers/virtio_console";

/// Suspends and resumes all devices but the port to the host, which has to be opened anew afterwards.
pub fn run() -> Result<()> {
    let devices = devices()?;
    for device in &devices {
        write(&format!("{DRIVER}/unbind"), device)?;
    }
    let suspended = suspend();
    for device in &devices {
        write(&format!("{DRIVER}/bind"), device)?;
    }
    suspended
}

/// The devices that have the driver.
fn devices() -> Result<Vec<String>> {
    let mut devices = Vec::new();
    for entry in fs::read_dir(DRIVER).with_context(|| DRIVER.to_owned())? {
        let name = entry.with_context(|| DRIVER.to_owned())?.file_name();
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("virtio") {
            devices.push(name);
        }
    }
    ensure!(!devices.is_empty(), "{DRIVER} has no device");
    Ok(devices)
}

/// Goes to sleep as far as the suspended devices.
fn suspend() -> Result<()> {
    write("/sys/module/suspend/parameters/pm_test_delay", "0")?;
    write("/sys/power/pm_test", "devices")?;
    write("/sys/power/state", "mem")?;
    write("/sys/power/pm_test", "none")
}

fn write(path: &str, value: &str) -> Result<()> {
    fs::write(path, value).with_context(|| format!("writing {value} to {path}"))
}
