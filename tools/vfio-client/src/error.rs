// SPDX-License-Identifier: GPL-2.0

//! Errors: the operation that failed, and why.

use rustix::io::Errno;

/// The result of an operation.
pub type Result<T> = core::result::Result<T, Error>;

/// An error of an operation.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error("{what}: {errno} ({})", .errno.raw_os_error())]
    Kernel {
        /// The operation and its object.
        what: String,
        /// What the kernel answered.
        errno: Errno,
    },
    /// The kernel moved fewer bytes than asked for and called it a success.
    #[error("{what}: only {done} of {wanted} bytes were moved")]
    Short {
        /// The operation and its object.
        what: String,
        /// Bytes moved.
        done: usize,
        /// Bytes asked for.
        wanted: usize,
    },
    /// The kernel's answer contradicts its interface.
    #[error("{what}: {why}")]
    Malformed {
        /// The operation and its object.
        what: String,
        /// What is wrong with the answer.
        why: String,
    },
    /// The machine lacks what was asked for, and the user can mend that.
    #[error("{what}: {why}; {mend}")]
    Missing {
        /// What was asked for.
        what: String,
        /// What is missing.
        why: String,
        /// What the user can do.
        mend: &'static str,
    },
}

impl Error {
    /// Returns the errno of a refusal, `None` for the other errors.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Kernel { errno, .. } => Some(*errno),
            Error::Short { .. } | Error::Malformed { .. } | Error::Missing { .. } => None,
        }
    }

    /// Makes the error of an answer that contradicts the interface.
    pub fn malformed(what: impl Into<String>, why: impl Into<String>) -> Self {
        Error::Malformed {
            what: what.into(),
            why: why.into(),
        }
    }

    /// Makes the error of a machine that lacks something.
    pub fn missing(what: impl Into<String>, why: impl Into<String>, mend: &'static str) -> Self {
        Error::Missing {
            what: what.into(),
            why: why.into(),
            mend,
        }
    }
}

/// Adds the operation to a bare errno.
pub trait Context<T> {
    /// Turns the errno into an [`Error`] that names the operation.
    fn what(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for core::result::Result<T, Errno> {
    fn what(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::Kernel {
            what: what(),
            errno,
        })
    }
}
