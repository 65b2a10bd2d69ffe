// SPDX-License-Identifier: GPL-2.0

//! The user's side of migration protocol v2: `VFIO_DEVICE_FEATURE` and the data files.
//!
//! [`Migration::set_state`], [`DataFile::read_all`] and [`DataFile::write_all`] do what QEMU 8 and
//! later do. [`Migration::feature`] hands any bytes to the ioctl, for tests of malformed requests.

mod data_file;
mod feature;
mod state;

use core::mem::offset_of;

use rustix::io::Errno;
use vfio_bindings::bindings::vfio;

use crate::capability::u32_at;
use crate::error::Context as _;
use crate::sys;
use crate::sys::Request;
use crate::Device;
use crate::Error;
use crate::Result;

pub use data_file::DataFile;
pub use data_file::PrecopyInfo;
pub use feature::Feature;
pub use feature::FEATURE_SIZE;
pub use feature::GET;
pub use feature::PROBE;
pub use feature::SET;
pub use state::State;

/// Protocol v2 of an open device.
#[derive(Clone, Debug)]
pub struct Migration {
    device: Device,
}

impl Migration {
    /// Takes a device. [`Migration::flags`] tells whether it supports the protocol.
    pub fn new(device: &Device) -> Self {
        Migration {
            device: device.clone(),
        }
    }

    fn what(&self, ioctl: &str) -> String {
        format!("{}: {ioctl}", self.device.name())
    }

    /// Does `VFIO_DEVICE_FEATURE` with any flags, `argsz` and data. The kernel's answer replaces the data.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn feature(
        &self,
        flags: u32,
        argsz: u32,
        data: &mut [u8],
    ) -> core::result::Result<(), Errno> {
        let mut argument = vec![0; FEATURE_SIZE + data.len()];
        argument[..4].copy_from_slice(&argsz.to_ne_bytes());
        argument[4..FEATURE_SIZE].copy_from_slice(&flags.to_ne_bytes());
        argument[FEATURE_SIZE..].copy_from_slice(data);
        let result = self.device.ioctl(Request::DEVICE_FEATURE, &mut argument);
        data.copy_from_slice(&argument[FEATURE_SIZE..]);
        result.map(drop)
    }

    fn well_formed(&self, feature: Feature, how: u32, data: &mut [u8]) -> Result<()> {
        let argsz = (FEATURE_SIZE + data.len()) as u32;
        self.feature(how | feature.0, argsz, data)
            .what(|| self.what(&format!("VFIO_DEVICE_FEATURE {how:#x} of {feature:?}")))
    }

    /// Asks whether the device has a feature for [`GET`], [`SET`] or both.
    ///
    /// # Errors
    ///
    /// What the kernel answers; `ENOTTY` without the feature.
    pub fn probe(&self, feature: Feature, how: u32) -> Result<()> {
        self.well_formed(feature, PROBE | how, &mut [])
    }

    /// Returns the parts of the protocol that the device supports, `VFIO_MIGRATION_*`.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn flags(&self) -> Result<u64> {
        let mut data = [0; size_of::<vfio::vfio_device_feature_migration>()];
        self.well_formed(Feature::MIGRATION, GET, &mut data)?;
        Ok(u64::from_ne_bytes(data))
    }

    /// Returns the device's state.
    ///
    /// # Errors
    ///
    /// What the kernel answers; [`Error::Malformed`] when a file comes with it.
    pub fn state(&self) -> Result<State> {
        let mut data = [0; size_of::<vfio::vfio_device_feature_mig_state>()];
        self.well_formed(Feature::STATE, GET, &mut data)?;
        let field = |offset| u32_at(&data, offset).unwrap_or_default();
        let file = field(offset_of!(vfio::vfio_device_feature_mig_state, data_fd));
        if file != u32::MAX {
            let why = format!("a file, number {file}");
            return Err(Error::malformed(self.what("state"), why));
        }
        Ok(State(field(offset_of!(
            vfio::vfio_device_feature_mig_state,
            device_state
        ))))
    }

    /// Brings the device to a state. Returns the data file if a session begins.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn set_state(&self, state: State) -> Result<Option<DataFile>> {
        let file = sys::set_migration_state(&self.device, state.0)
            .what(|| self.what(&format!("state {state}")))?;
        Ok(file.map(|fd| DataFile::new(fd, self.device.name())))
    }

    /// Brings the device to a state that begins a session.
    ///
    /// # Errors
    ///
    /// As [`Migration::set_state`]; [`Error::Malformed`] when there is no file.
    pub fn begin(&self, state: State) -> Result<DataFile> {
        self.set_state(state)?
            .ok_or_else(|| Error::malformed(self.what(&format!("state {state}")), "no file"))
    }

    /// Returns the estimate of the bytes that STOP_COPY would give, `VFIO_DEVICE_FEATURE_MIG_DATA_SIZE`.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn data_size(&self) -> Result<u64> {
        let mut data = [0; size_of::<vfio::vfio_device_feature_mig_data_size>()];
        self.well_formed(Feature::DATA_SIZE, GET, &mut data)?;
        Ok(u64::from_ne_bytes(data))
    }

    /// Opts in to flags in [`PrecopyInfo`], until the device is closed.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn use_precopy_info_v2(&self) -> Result<()> {
        self.well_formed(Feature::PRECOPY_INFO_V2, SET, &mut [])
    }

    /// Starts the device's log of the pages that it writes in `ranges`, by start and length. Returns the
    /// page size of the log.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn start_logging(&self, page_size: u64, ranges: &[(u64, u64)]) -> Result<u64> {
        sys::start_dma_logging(&self.device, page_size, ranges)
            .what(|| self.what("VFIO_DEVICE_FEATURE_DMA_LOGGING_START"))
    }

    /// Stops the log.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn stop_logging(&self) -> Result<()> {
        self.well_formed(Feature::LOGGING_STOP, SET, &mut [])
    }

    /// Returns the pages of a range that were written since the last call, and clears them in the log: a
    /// bitmap with a bit for each page of `page_size` bytes.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn take_logged(&self, iova: u64, length: u64, page_size: u64) -> Result<Vec<u64>> {
        sys::dma_logging_report(&self.device, iova, length, page_size)
            .what(|| self.what("VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT"))
    }

    /// As [`Migration::take_logged`], with the bitmap in a mapping.
    ///
    /// # Errors
    ///
    /// What the kernel answers, `EINVAL` if the mapping is too small.
    pub fn take_logged_into(
        &self,
        iova: u64,
        length: u64,
        page_size: u64,
        bitmap: &sys::Mapping,
    ) -> Result<()> {
        sys::dma_logging_report_into(&self.device, iova, length, page_size, bitmap)
            .what(|| self.what("VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT"))
    }
}
