// SPDX-License-Identifier: GPL-2.0

//! Migration of a device: the engine's port, and the two protocols that drive the engine.

pub(crate) mod migrating;
pub(crate) mod port;
pub(crate) mod region;
pub(crate) mod report;
pub(crate) mod state;
pub(crate) mod v1;
pub(crate) mod v2;
