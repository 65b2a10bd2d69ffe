// SPDX-License-Identifier: GPL-2.0

//! `VFIO_DEVICE_FEATURE`, `struct vfio_device_feature`: which feature, and what to do with it.

use vfio_bindings::bindings::vfio;

/// The size of `struct vfio_device_feature` without its data, in bytes.
pub const FEATURE_SIZE: usize = size_of::<vfio::vfio_device_feature>();

/// How the data is to be used, `VFIO_DEVICE_FEATURE_GET`.
pub const GET: u32 = vfio::VFIO_DEVICE_FEATURE_GET;
/// How the data is to be used, `VFIO_DEVICE_FEATURE_SET`.
pub const SET: u32 = vfio::VFIO_DEVICE_FEATURE_SET;
/// Only asks whether that is possible, `VFIO_DEVICE_FEATURE_PROBE`.
pub const PROBE: u32 = vfio::VFIO_DEVICE_FEATURE_PROBE;

/// What `VFIO_DEVICE_FEATURE` is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Feature(pub u32);

impl Feature {
    /// What of the protocol the device has.
    pub const MIGRATION: Feature = Feature(vfio::VFIO_DEVICE_FEATURE_MIGRATION);
    /// The state of the device.
    pub const STATE: Feature = Feature(vfio::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE);
    /// How much data STOP_COPY would give.
    pub const DATA_SIZE: Feature = Feature(vfio::VFIO_DEVICE_FEATURE_MIG_DATA_SIZE);
    /// The opt-in for flags in [`PrecopyInfo`].
    pub const PRECOPY_INFO_V2: Feature = Feature(vfio::VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2);
    /// Begins to log which memory the device writes.
    pub const LOGGING_START: Feature = Feature(vfio::VFIO_DEVICE_FEATURE_DMA_LOGGING_START);
    /// Ends that.
    pub const LOGGING_STOP: Feature = Feature(vfio::VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP);
    /// Takes what was logged.
    pub const LOGGING_REPORT: Feature = Feature(vfio::VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT);
}
