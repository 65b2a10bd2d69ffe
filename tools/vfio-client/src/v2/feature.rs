// SPDX-License-Identifier: GPL-2.0

//! `VFIO_DEVICE_FEATURE`, `struct vfio_device_feature`: which feature, and what to do with it.

use vfio_bindings::bindings::vfio;

/// The size of `struct vfio_device_feature` without its data, in bytes.
pub const FEATURE_SIZE: usize = size_of::<vfio::vfio_device_feature>();

/// The kernel fills the data in, `VFIO_DEVICE_FEATURE_GET`.
pub const GET: u32 = vfio::VFIO_DEVICE_FEATURE_GET;
/// The kernel takes the data, `VFIO_DEVICE_FEATURE_SET`.
pub const SET: u32 = vfio::VFIO_DEVICE_FEATURE_SET;
/// The kernel only says whether it supports the feature, `VFIO_DEVICE_FEATURE_PROBE`.
pub const PROBE: u32 = vfio::VFIO_DEVICE_FEATURE_PROBE;

/// A feature of `VFIO_DEVICE_FEATURE`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Feature(pub u32);

impl Feature {
    /// The parts of the protocol that the device supports.
    pub const MIGRATION: Feature = Feature(vfio::VFIO_DEVICE_FEATURE_MIGRATION);
    /// The device state.
    pub const STATE: Feature = Feature(vfio::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE);
    /// An estimate of the bytes of STOP_COPY.
    pub const DATA_SIZE: Feature = Feature(vfio::VFIO_DEVICE_FEATURE_MIG_DATA_SIZE);
    /// The opt-in for flags in [`PrecopyInfo`](super::PrecopyInfo).
    pub const PRECOPY_INFO_V2: Feature = Feature(vfio::VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2);
    /// Starts the log of the pages that the device writes.
    pub const LOGGING_START: Feature = Feature(vfio::VFIO_DEVICE_FEATURE_DMA_LOGGING_START);
    /// Stops the log.
    pub const LOGGING_STOP: Feature = Feature(vfio::VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP);
    /// Reads and clears the log.
    pub const LOGGING_REPORT: Feature = Feature(vfio::VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT);
}
