// SPDX-License-Identifier: GPL-2.0

//! SIGINT, SIGTERM and SIGHUP end a run in order: VMs and jobs are ended, temporary files removed.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;

/// Set by the signal handler, and never cleared.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Installs the handler of the signals.
pub fn catch_signals() -> Result<()> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed)).context("catching signals")
}

/// Whether a signal has come.
pub fn has_come() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Fails once a signal has come. Every loop that waits calls this.
pub fn check() -> Result<()> {
    if has_come() {
        bail!("interrupted");
    }
    Ok(())
}
