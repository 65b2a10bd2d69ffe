// SPDX-License-Identifier: GPL-2.0

//! Format NVM, section 5.23.
//!
//! A format zeroes a namespace, or one after the other. As that can take long, it is done in parts, one in each call of the worker, and the
//! completion comes after the last one. Meanwhile the command is a part of the state, as a request for an event is, so that
//! the format goes on where the controller is moved to. Commands of the namespace are refused until then.
//!
//! A reset ends a format half way, as it aborts each command.

use core::cmp::Ordering;

use device_model::saved_state::{
    StateReader,
    StateWriter, //
};
use device_model::Stores;

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
    NamespaceParameters,
    Parameters,
    CAPACITY_UNIT,
    LBA_FORMATS_MAX, //
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
    /// The command's namespace, or all of them with [`NSID_ALL`].
    pub(crate) nsid: u32,
    /// The LBA format to be.
    format: u8,
    /// The namespace that is formatted now; those before it are.
    current: u32,
    /// Bytes at its front that are zeros.
    done: u64,
}

impl Executor {
    /// Format NVM. Both secure erases that the controller has are those of any format: the content is zeros afterwards.
    pub(super) fn format(&mut self, command: &Command) -> Outcome {
        let first = match command.nsid {
            NSID_ALL => 1,
            nsid => nsid,
        };
        self.namespace(first).ok_or(Status::INVALID_NAMESPACE)?;
        let Format {
            lba_format,
            protection,
            erase,
        } = Format::decode(command.cdw10());
        let has_format = |namespace: NamespaceParameters| lba_format < namespace.lba_formats();
        let offered = match command.nsid {
            NSID_ALL => self.parameters.namespaces().all(has_format),
            nsid => self
                .namespace(nsid)
                .is_some_and(|it| has_format(it.parameters)),
        };
        if !offered || protection != 0 {
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
            current: first,
            done: 0,
        });
        Ok(None)
    }

    /// Does the next part of a format. Returns the outcome after the last part; the format is no longer under way then.
    pub(crate) fn format_part<M, S: Stores<M> + ?Sized>(
        &mut self,
        stores: &mut S,
    ) -> Option<Result<(), Status>> {
        let formatting = self.formatting?;
        let part = self.format_part_of(formatting, stores);
        self.formatting = part.unwrap_or(None);
        match part {
            Ok(Some(_)) => None,
            Ok(None) => Some(Ok(())),
            Err(status) => Some(Err(status)),
        }
    }

    /// Does a part, and returns what is left to do.
    fn format_part_of<M, S: Stores<M> + ?Sized>(
        &mut self,
        formatting: Formatting,
        stores: &mut S,
    ) -> Result<Option<Formatting>, Status> {
        let namespace = self.namespace(formatting.current).ok_or(Status::INTERNAL)?;
        let store = stores.store(namespace.index).ok_or(Status::INTERNAL)?;
        let capacity = namespace.parameters.capacity;
        let failed = |error| backend_failure(error, Status::WRITE_FAULT);

        // What is formatted is less than the capacity.
        let length = PART.min(capacity - formatting.done);
        store
            .write_zeroes(formatting.done, length, true)
            .map_err(failed)?;
        let done = formatting.done + length;
        if done < capacity {
            return Ok(Some(Formatting { done, ..formatting }));
        }

        // From here on the namespace is a new one.
        if namespace.state.marked {
            Marks::new(capacity, store).clear().map_err(failed)?;
        }
        flush(store)?;
        if let Some(state) = self.namespaces.get_mut(namespace.index) {
            *state = Namespace {
                format: formatting.format,
                ..Namespace::default()
            };
        }
        let next = formatting.current + 1;
        let has_next = formatting.nsid == NSID_ALL && self.namespace(next).is_some();
        Ok(has_next.then_some(Formatting {
            current: next,
            done: 0,
            ..formatting
        }))
    }
}

impl Formatting {
    /// Bytes of a saved format.
    pub(crate) const STATE_SIZE: usize = 24;

    /// Returns whether it is about namespace `nsid`, or about any one with [`NSID_ALL`].
    pub(crate) fn concerns(self, nsid: u32) -> bool {
        [self.nsid, nsid].contains(&NSID_ALL) || self.nsid == nsid
    }

    /// The part of namespace `nsid` that is left, in percent, rounded up.
    pub(crate) fn percent_left(self, nsid: u32, parameters: &NamespaceParameters) -> u8 {
        let left = match nsid.cmp(&self.current) {
            _ if !self.concerns(nsid) => 0,
            Ordering::Less => 0,
            Ordering::Equal => parameters.capacity.saturating_sub(self.done),
            Ordering::Greater => parameters.capacity,
        };
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
        state.u32(formatting.current);
        state.reserved::<4>();
    }

    /// Loads what [`Self::save`] saved, of a controller with `parameters`.
    pub(crate) fn load(
        parameters: &Parameters,
        state: &mut StateReader<'_>,
    ) -> Result<Option<Self>, LoadError> {
        let under_way = state.flag("format")?;
        let formatting = Self {
            format: state.at_most("LBA format to be", LBA_FORMATS_MAX - 1)?,
            cid: state.u16()?,
            nsid: state.u32()?,
            done: state.u64()?,
            current: state.u32()?,
        };
        state.reserved::<4>()?;
        if !under_way {
            return Ok(None);
        }
        let Formatting {
            nsid,
            current,
            done,
            ..
        } = formatting;
        let refused = LoadError::Format {
            nsid,
            current,
            done,
        };
        let namespace = (current as usize)
            .checked_sub(1)
            .and_then(|index| parameters.namespace(index))
            .ok_or(refused)?;
        // The last part of a namespace is completed at once.
        let fits = done < namespace.capacity && done % CAPACITY_UNIT == 0;
        let offered = formatting.format < namespace.lba_formats();
        if !fits || !offered || ![current, NSID_ALL].contains(&nsid) {
            return Err(refused);
        }
        Ok(Some(formatting))
    }
}
