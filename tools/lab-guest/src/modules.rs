// SPDX-License-Identifier: GPL-2.0

//! The kernel modules of the guest's devices.

use std::ffi::CString;
use std::fs;
use std::fs::File;

use anyhow::Context;
use anyhow::Result;
use rustix::io::Errno;

/// The list of the modules that a guest with a disk or a network card needs, in loading order. Each line has a file and
/// parameters.
const MODULES: &str = "/lib/modules/order";

/// Loads all modules. One that is loaded already is no error.
pub fn load() -> Result<()> {
    let Ok(list) = fs::read_to_string(MODULES) else {
        return Ok(());
    };
    for line in list.lines() {
        let (path, parameters) = line.split_once(' ').unwrap_or((line, ""));
        let parameters = CString::new(parameters).context("module parameters")?;
        let file = File::open(path).with_context(|| format!("opening {path}"))?;
        match rustix::system::finit_module(&file, &parameters, 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).with_context(|| format!("loading {path}")),
        }
    }
    Ok(())
}
