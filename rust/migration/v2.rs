// SPDX-License-Identifier: GPL-2.0

//! Protocol v2, a front end of the engine: `VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE` of Linux 5.18 and later.

pub mod file;
pub mod fsm;
pub mod request;
