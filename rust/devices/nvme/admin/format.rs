// SPDX-License-Identifier: GPL-2.0

//! Format NVM, section 5.23.
//!
//! A format zeroes the namespace. As that can take long, it is done in parts, one in each call of the worker, and the
//! completion comes after the last one. Meanwhile the command is a part of the state, as a request for an event is, so that
//! the format goes on where the controller is moved to. Commands of the namespace are refused until then.
//!
//! A reset ends a format half way, as it aborts each command.

use device_model::saved_state::{
    check_range,
    StateReader,
    StateWriter, //
};
use device_model::BlockBackend;

use super::Outcome;
use crate::executor::Executor;
use crate::io::{
    backend_failure,
    flush, //
};
use crate::load_error::LoadError;
use crate::marks::Marks;
use crate::namespace::Namespace;
use crate::parameters::{
    Parameters,
    CAPACITY_UNIT,
    NSID, //
};
use crate::spec::command::{
    Command,
    Format,
    NSID_ALL, //
};
use crate::spec::status::Status;

/// Bytes that a part of a format is about.
const PART: u64 = 16 << 20;

/// A format that is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Formatting {
    /// Command identifier (`cid`) of the command.
    pub(crate) cid: u16,
    /// The command's namespace.
    pub(crate) nsid: u32,
    /// The LBA format to be.
    format: u8,
    /// Bytes at the front of the namespace that are zeros.
    done: u64,
}

impl Executor {
    /// Format NVM. Both secure erases that the controller has are those of any format: the content is zeros afterwards.
    pub(super) fn format(&mut self, command: &Command) -> Outcome {
        if ![NSID, NSID_ALL].contains(&command.nsid) {
            return Err(Status::INVALID_NAMESPACE);
        }
        let Format {
            lba_format,
            protection,
            erase,
        } = Format::decode(command.cdw10());
        if lba_format >= self.parameters.lba_formats() || protection != 0 {
            return Err(Status::INVALID_FORMAT);
        }
        if ![Format::ERASE_NONE, Format::ERASE_USER_DATA].contains(&erase) {
            return Err(Status::INVALID_FIELD);
        }
        if self.formatting.is_some() {
            return Err(Status::FORMAT_IN_PROGRESS);
        }
        self.formatting = Some(Formatting {
            cid: command.cid,
            nsid: command.nsid,
            format: lba_format,
            done: 0,
        });
        Ok(None)
    }

    /// Does the next part of a format. Returns the outcome after the last part; the format is no longer under way then.
    pub(crate) fn format_part<B: BlockBackend + ?Sized>(
        &mut self,
        backend: &mut B,
    ) -> Option<Result<(), Status>> {
        let mut formatting = self.formatting?;
        let capacity = self.parameters.capacity;
        let length = PART.min(capacity - formatting.done);

        let outcome = match backend.write_zeroes(formatting.done, length, true) {
            Ok(()) => {
                formatting.done += length;
                self.formatting = Some(formatting);
                if formatting.done < capacity {
                    return None;
                }
                self.end_format(formatting.format, backend)
            }
            Err(error) => Err(backend_failure(error, Status::WRITE_FAULT)),
        };
        self.formatting = None;
        Some(outcome)
    }

    /// Completes a format: from here on the namespace is a new one.
    fn end_format<B: BlockBackend + ?Sized>(
        &mut self,
        format: u8,
        backend: &mut B,
    ) -> Result<(), Status> {
        if self.namespace.marked {
            Marks::new(self.parameters.capacity, backend)
                .clear()
                .map_err(|error| backend_failure(error, Status::WRITE_FAULT))?;
        }
        flush(backend)?;
        self.namespace = Namespace {
            format,
            ..Namespace::default()
        };
        Ok(())
    }
}

impl Formatting {
    /// Bytes of a saved format.
    pub(crate) const STATE_SIZE: usize = 24;

    /// The part of the namespace that is left, in percent, rounded up.
    pub(crate) fn percent_left(self, parameters: &Parameters) -> u8 {
        let left = parameters.capacity.saturating_sub(self.done);
        // At most 100, as `left` is at most the capacity, which is far from the end of 64 bits.
        (left * 100).div_ceil(parameters.capacity) as u8
    }

    /// Saves a format, if one is under way.
    pub(crate) fn save(this: Option<Self>, state: &mut StateWriter<'_>) {
        let formatting = this.unwrap_or_default();
        state.u8(this.is_some().into());
        state.u8(formatting.format);
        state.u16(formatting.cid);
        state.u32(formatting.nsid);
        state.u64(formatting.done);
        state.u32(if this.is_some() { NSID } else { 0 });
        state.reserved::<4>();
    }

    /// Loads what [`Self::save`] saved, of a namespace with `parameters`.
    pub(crate) fn load(
        parameters: &Parameters,
        state: &mut StateReader<'_>,
    ) -> Result<Option<Self>, LoadError> {
        let under_way = state.flag("format")?;
        let formatting = Self {
            format: state.at_most("LBA format to be", parameters.lba_formats() - 1)?,
            cid: state.u16()?,
            nsid: state.u32()?,
            done: state.u64()?,
        };
        state.reserved::<8>()?;
        if !under_way {
            return Ok(None);
        }
        // The last part is completed at once.
        check_range("formatted bytes", formatting.done, parameters.capacity - 1)?;
        let whole = formatting.done % CAPACITY_UNIT == 0;
        if !whole || ![NSID, NSID_ALL].contains(&formatting.nsid) {
            return Err(LoadError::Format {
                done: formatting.done,
                nsid: formatting.nsid,
            });
        }
        Ok(Some(formatting))
    }
}
