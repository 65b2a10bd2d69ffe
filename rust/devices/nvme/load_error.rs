// SPDX-License-Identifier: GPL-2.0

//! Why a saved state is refused.

use core::fmt;

use device_model::saved_state::StateError;
use pci_config::ImageError;

use crate::parameters::ParameterError;

/// A state that no controller of the configuration can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The state, or a field of it by itself, has a form that no controller writes.
    State(StateError),
    /// The configuration space is not one of the controller.
    Config(ImageError),
    /// The serial number is not one that a controller can have.
    Parameters(ParameterError),
    /// A text has a byte that is not printable ASCII.
    Text {
        /// Name of the field.
        field: &'static str,
        /// Value of the byte.
        found: u8,
    },
    /// An address is not at the beginning of a page.
    Alignment {
        /// Name of the field.
        field: &'static str,
        /// The address.
        found: u64,
    },
    /// The controller is ready, but is not enabled or cannot be.
    Ready {
        /// Value of CC.
        cc: u32,
    },
    /// Something exists that only a ready controller has, or the admin queue of a ready controller does
    /// not fit to its registers.
    NotReady {
        /// Name of the field.
        field: &'static str,
    },
    /// Blocks are marked in a namespace whose store keeps no marks.
    Marks,
    /// A format cannot be under way like this.
    Format {
        /// The command's namespace.
        nsid: u32,
        /// The namespace that is formatted.
        current: u32,
        /// Bytes of it that were formatted.
        done: u64,
    },
    /// A submission queue cannot exist, or not like this.
    SubmissionQueue {
        /// Number of the queue.
        index: usize,
    },
    /// A completion queue cannot exist, or not like this.
    CompletionQueue {
        /// Number of the queue.
        index: usize,
    },
}

impl From<StateError> for LoadError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(error) => error.fmt(f),
            Self::Config(error) => error.fmt(f),
            Self::Parameters(error) => error.fmt(f),
            Self::Text { field, found } => write!(
                f,
                "{field} has a byte {found:#04x}, which is not printable ASCII"
            ),
            Self::Alignment { field, found } => {
                write!(f, "{field} is at {found:#x}, where no page begins")
            }
            Self::Ready { cc } => {
                write!(f, "controller is ready, but cannot be with CC {cc:#010x}")
            }
            Self::NotReady { field } => {
                write!(
                    f,
                    "{field} does not fit to what CSTS and the admin queue registers say"
                )
            }
            Self::Marks => f.write_str("blocks are marked, but the store keeps no marks"),
            Self::Format {
                nsid,
                current,
                done,
            } => write!(
                f,
                "a format of namespace {nsid:#x} cannot be at byte {done:#x} of namespace {current:#x}"
            ),
            Self::SubmissionQueue { index } => {
                write!(f, "submission queue {index} is impossible")
            }
            Self::CompletionQueue { index } => {
                write!(f, "completion queue {index} is impossible")
            }
        }
    }
}
