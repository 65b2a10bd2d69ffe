// SPDX-License-Identifier: GPL-2.0

//! The user's side of migration protocol v2: `VFIO_DEVICE_FEATURE` and the data files.
//!
//! What QEMU 8 and later do ([`Migration::set_state`], [`DataFile::read_all`],
//! [`DataFile::write_all`]), and each ioctl alone for whoever wants to do it wrongly
//! ([`Migration::feature`]).

use core::fmt;
use core::mem::offset_of;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::poll;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::fs::fcntl_getfl;
use rustix::fs::fcntl_setfl;
use rustix::fs::OFlags;
use rustix::io::Errno;
use vfio_bindings::bindings::vfio;
use vfio_uapi::v2::MigState;

use crate::error::Context as _;
use crate::region::u32_at;
use crate::region::u64_at;
use crate::sys;
use crate::sys::Request;
use crate::Device;
use crate::Error;
use crate::Result;

/// The size of `struct vfio_device_feature` without its data, in bytes.
pub const FEATURE_SIZE: usize = size_of::<vfio::vfio_device_feature>();

/// How the data is to be used, `VFIO_DEVICE_FEATURE_GET`.
pub const GET: u32 = vfio::VFIO_DEVICE_FEATURE_GET;
/// How the data is to be used, `VFIO_DEVICE_FEATURE_SET`.
pub const SET: u32 = vfio::VFIO_DEVICE_FEATURE_SET;
/// Only asks whether that is possible, `VFIO_DEVICE_FEATURE_PROBE`.
pub const PROBE: u32 = vfio::VFIO_DEVICE_FEATURE_PROBE;

/// A state of the device, `enum vfio_device_mig_state`.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct State(pub u32);

impl State {
    /// The device must be reset.
    pub const ERROR: State = State(MigState::Error.raw());
    /// Neither running nor moving.
    pub const STOP: State = State(MigState::Stop.raw());
    /// The default.
    pub const RUNNING: State = State(MigState::Running.raw());
    /// Stopped, with all of its state to be read.
    pub const STOP_COPY: State = State(MigState::StopCopy.raw());
    /// Taking a saved state.
    pub const RESUMING: State = State(MigState::Resuming.raw());
    /// Running without initiating DMA.
    pub const RUNNING_P2P: State = State(MigState::RunningP2p.raw());
    /// Saving while it runs.
    pub const PRE_COPY: State = State(MigState::PreCopy.raw());
    /// Saving while it runs without initiating DMA.
    pub const PRE_COPY_P2P: State = State(MigState::PreCopyP2p.raw());

    /// The states that a user may set.
    pub const ALL: [State; 7] = [
        State::STOP,
        State::RUNNING,
        State::STOP_COPY,
        State::RESUMING,
        State::RUNNING_P2P,
        State::PRE_COPY,
        State::PRE_COPY_P2P,
    ];

    /// Says whether the device's state can be read in it.
    pub fn is_saving(self) -> bool {
        MigState::from_raw(self.0).is_some_and(MigState::is_saving)
    }

    /// Returns the state's name, as debugfs has it.
    pub fn name(self) -> &'static str {
        MigState::from_raw(self.0).map_or("invalid", MigState::name)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

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

/// What there is to read in pre-copy, `struct vfio_precopy_info`. In bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PrecopyInfo {
    /// `VFIO_PRECOPY_INFO_*`, or what the user put there.
    pub flags: u32,
    /// Left of what there was when pre-copy began.
    pub initial_bytes: u64,
    /// Of what has changed since.
    pub dirty_bytes: u64,
}

impl PrecopyInfo {
    /// Returns what there is in all.
    pub fn bytes(self) -> u64 {
        self.initial_bytes.saturating_add(self.dirty_bytes)
    }
}

/// Protocol v2 of an open device.
#[derive(Clone, Debug)]
pub struct Migration {
    device: Device,
}

impl Migration {
    /// Takes a device; whether it has the protocol, [`Migration::flags`] tells.
    pub fn new(device: &Device) -> Self {
        Migration {
            device: device.clone(),
        }
    }

    fn what(&self, ioctl: &str) -> String {
        format!("{}: {ioctl}", self.device.name())
    }

    /// Does `VFIO_DEVICE_FEATURE` with any flags, any `argsz` and any data, which is changed as the
    /// kernel has it.
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
    /// What the kernel answers: `ENOTTY` if it does not have it.
    pub fn probe(&self, feature: Feature, how: u32) -> Result<()> {
        self.well_formed(feature, PROBE | how, &mut [])
    }

    /// Returns what of the protocol the device has, `VFIO_MIGRATION_*`.
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

    /// Brings the device to a state. Returns the file of the session that begins, if one does.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn set_state(&self, state: State) -> Result<Option<DataFile>> {
        let file = sys::set_migration_state(&self.device, state.0)
            .what(|| self.what(&format!("state {state}")))?;
        Ok(file.map(|fd| DataFile {
            fd,
            name: self.device.name().to_string(),
        }))
    }

    /// Brings the device to a state that comes with a file.
    ///
    /// # Errors
    ///
    /// As [`Migration::set_state`]; [`Error::Malformed`] when there is no file.
    pub fn begin(&self, state: State) -> Result<DataFile> {
        self.set_state(state)?
            .ok_or_else(|| Error::malformed(self.what(&format!("state {state}")), "no file"))
    }

    /// Returns how many bytes the device would give in STOP_COPY.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn data_size(&self) -> Result<u64> {
        let mut data = [0; size_of::<vfio::vfio_device_feature_mig_data_size>()];
        self.well_formed(Feature::DATA_SIZE, GET, &mut data)?;
        Ok(u64::from_ne_bytes(data))
    }

    /// Has [`PrecopyInfo::flags`] mean something, until the device is closed.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn use_precopy_info_v2(&self) -> Result<()> {
        self.well_formed(Feature::PRECOPY_INFO_V2, SET, &mut [])
    }

    /// Begins to log which pages of these ranges, given by start and length, the device writes.
    /// Returns the size of a page as the device has it.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn start_logging(&self, page_size: u64, ranges: &[(u64, u64)]) -> Result<u64> {
        sys::start_dma_logging(&self.device, page_size, ranges)
            .what(|| self.what("VFIO_DEVICE_FEATURE_DMA_LOGGING_START"))
    }

    /// Ends the logging.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn stop_logging(&self) -> Result<()> {
        self.well_formed(Feature::LOGGING_STOP, SET, &mut [])
    }

    /// Takes the pages of a range that were written since the last time, as a bitmap with a bit for
    /// each page of `page_size` bytes.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn take_logged(&self, iova: u64, length: u64, page_size: u64) -> Result<Vec<u64>> {
        sys::dma_logging_report(&self.device, iova, length, page_size)
            .what(|| self.what("VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT"))
    }

    /// The same into memory that is mapped.
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

/// The file of a session, through which a state flows.
#[derive(Debug)]
pub struct DataFile {
    fd: OwnedFd,
    name: String,
}

impl DataFile {
    fn what(&self, call: &str) -> String {
        format!("{}: {call} of the data file", self.name)
    }

    /// Reads once. 0 is the end of the stream.
    ///
    /// # Errors
    ///
    /// What the kernel answers: `ENOMSG` when there is nothing in pre-copy.
    pub fn read(&self, into: &mut [u8]) -> Result<usize> {
        rustix::io::read(&self.fd, &mut *into).what(|| self.what("read"))
    }

    /// Reads up to `piece` bytes at a time, until the end of the stream, or to where there is
    /// nothing more for now.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn read_all(&self, piece: usize) -> Result<Vec<u8>> {
        let mut stream = Vec::new();
        let mut bytes = vec![0; piece];
        loop {
            match self.read(&mut bytes) {
                Ok(0) => return Ok(stream),
                Ok(len) => stream.extend(&bytes[..len]),
                Err(error) if error.errno() == Some(Errno::NOMSG) => return Ok(stream),
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes once. Returns how much was taken.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn write(&self, bytes: &[u8]) -> Result<usize> {
        rustix::io::write(&self.fd, bytes).what(|| self.what("write"))
    }

    /// Writes a stream, up to `piece` bytes at a time.
    ///
    /// # Errors
    ///
    /// What the kernel answers; [`Error::Short`] when it takes nothing without an error.
    pub fn write_all(&self, stream: &[u8], piece: usize) -> Result<()> {
        for mut bytes in stream.chunks(piece.max(1)) {
            while !bytes.is_empty() {
                let done = self.write(bytes)?;
                if done == 0 {
                    return Err(Error::Short {
                        what: self.what("write"),
                        done,
                        wanted: bytes.len(),
                    });
                }
                bytes = bytes.get(done..).unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Waits for one of `events`, not at all without a `limit`. Returns what there is.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn poll(&self, events: PollFlags, limit: Option<Duration>) -> Result<PollFlags> {
        let limit = limit.unwrap_or_default();
        let limit = Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&self.fd, events)];
        poll(&mut fds, Some(&limit)).what(|| self.what("poll"))?;
        Ok(fds[0].revents())
    }

    /// Sets or clears `O_NONBLOCK`.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn set_nonblocking(&self, nonblocking: bool) -> Result<()> {
        let flags = fcntl_getfl(&self.fd).what(|| self.what("F_GETFL"))?;
        let mut new = flags;
        new.set(OFlags::NONBLOCK, nonblocking);
        fcntl_setfl(&self.fd, new).what(|| self.what("F_SETFL"))
    }

    /// Asks what there is to read in pre-copy.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn precopy_info(&self) -> Result<PrecopyInfo> {
        let size = size_of::<vfio::vfio_precopy_info>() as u32;
        self.precopy_info_with(size, 0)
            .what(|| self.what("VFIO_MIG_GET_PRECOPY_INFO"))
    }

    /// Asks the same with any `argsz` and flags.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn precopy_info_with(
        &self,
        argsz: u32,
        flags: u32,
    ) -> core::result::Result<PrecopyInfo, Errno> {
        let mut info = [0; size_of::<vfio::vfio_precopy_info>()];
        info[..4].copy_from_slice(&argsz.to_ne_bytes());
        info[4..8].copy_from_slice(&flags.to_ne_bytes());
        sys::ioctl(&self.fd, Request::GET_PRECOPY_INFO, &mut info)?;
        let long = |offset| u64_at(&info, offset).ok_or(Errno::PROTO);
        Ok(PrecopyInfo {
            flags: u32_at(&info, offset_of!(vfio::vfio_precopy_info, flags)).ok_or(Errno::PROTO)?,
            initial_bytes: long(offset_of!(vfio::vfio_precopy_info, initial_bytes))?,
            dirty_bytes: long(offset_of!(vfio::vfio_precopy_info, dirty_bytes))?,
        })
    }
}

impl AsFd for DataFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
