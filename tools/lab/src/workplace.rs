// SPDX-License-Identifier: GPL-2.0

//! Where a run takes place: the source tree, the cache, and where messages go.

use crate::cache::Cache;
use crate::console::Console;
use crate::setup::Component;
use crate::source::Source;

pub struct Workplace {
    pub source: Source,
    pub cache: Cache,
    pub console: Console,
    /// The QEMU that runs the host VM.
    pub host_qemu: Component,
}
