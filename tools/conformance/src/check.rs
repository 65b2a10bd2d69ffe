// SPDX-License-Identifier: GPL-2.0

//! The result of a test and of its steps: what was expected, what was seen, and where.

use core::fmt::Debug;
use core::fmt::Display;
use core::panic::Location;

use vfio_client::Errno;
use vfio_client::Error;
use vfio_drivers::compare::difference;

/// Why a test ends early.
#[derive(Debug)]
pub enum Stop {
    /// The driver did not do what was expected.
    Failed(String),
    /// The machine lacks what the test needs.
    Skipped(String),
}

/// The result of a test and of each of its steps.
pub type Outcome<T = ()> = Result<T, Stop>;

impl Stop {
    /// Makes a failure at the caller's line.
    #[track_caller]
    pub fn failed(message: impl Display) -> Self {
        let caller = Location::caller();
        let file = caller.file().rsplit('/').next().unwrap_or("");
        Stop::Failed(format!("{file}:{}: {message}", caller.line()))
    }
}

impl From<Error> for Stop {
    #[track_caller]
    fn from(error: Error) -> Self {
        Stop::failed(format_args!("expected success, seen {error}"))
    }
}

impl From<vfio_drivers::Error> for Stop {
    #[track_caller]
    fn from(error: vfio_drivers::Error) -> Self {
        match error {
            vfio_drivers::Error::Client(error) => error.into(),
            vfio_drivers::Error::Differs(why) => Stop::failed(why),
        }
    }
}

/// Fails unless `seen` is what was expected.
#[track_caller]
pub fn same<T: Debug + PartialEq>(what: impl Display, seen: T, expected: T) -> Outcome {
    if seen == expected {
        return Ok(());
    }
    Err(Stop::failed(format_args!(
        "{what}: expected {expected:?}, seen {seen:?}"
    )))
}

/// Fails unless `seen` differs from `other`.
#[track_caller]
pub fn differs<T: Debug + PartialEq>(what: impl Display, seen: T, other: T) -> Outcome {
    if seen != other {
        return Ok(());
    }
    Err(Stop::failed(format_args!(
        "{what}: expected anything but {other:?}, seen just that"
    )))
}

/// Fails unless two runs of bytes are equal, and then shows where they first differ.
#[track_caller]
pub fn same_bytes(what: impl Display, seen: &[u8], expected: &[u8]) -> Outcome {
    match difference(seen, expected) {
        None => Ok(()),
        Some(difference) => Err(Stop::failed(format_args!("{what}: {difference}"))),
    }
}

/// Fails unless `truth` holds; `message` says what was expected and seen.
#[track_caller]
pub fn holds(truth: bool, message: impl Display) -> Outcome {
    if truth {
        return Ok(());
    }
    Err(Stop::failed(message))
}

/// Fails unless the kernel refused, with this errno.
#[track_caller]
pub fn refused<T: Debug>(what: impl Display, result: Result<T, Error>, expected: Errno) -> Outcome {
    one_of(what, result, &[expected])
}

/// Fails unless the kernel refused, with one of these errnos.
#[track_caller]
pub fn one_of<T: Debug>(
    what: impl Display,
    result: Result<T, Error>,
    expected: &[Errno],
) -> Outcome {
    let seen = match result {
        Err(error) if error.errno().is_some_and(|errno| expected.contains(&errno)) => return Ok(()),
        Err(error) => error.to_string(),
        Ok(value) => format!("success with {value:?}"),
    };
    let expected: Vec<String> = expected.iter().map(|errno| name(*errno)).collect();
    Err(Stop::failed(format_args!(
        "{what}: expected {}, seen {seen}",
        expected.join(" or ")
    )))
}

/// Fails unless the kernel refused, with any errno.
#[track_caller]
pub fn denied<T: Debug>(what: impl Display, result: Result<T, Error>) -> Outcome {
    match result {
        Err(error) if error.errno().is_some() => Ok(()),
        Err(error) => Err(Stop::failed(format_args!(
            "{what}: expected a refusal, seen {error}"
        ))),
        Ok(value) => Err(Stop::failed(format_args!(
            "{what}: expected a refusal, seen success with {value:?}"
        ))),
    }
}

/// As [`refused`], for an ioctl, whose error is the bare errno.
#[track_caller]
pub fn bare<T: Debug>(what: impl Display, result: Result<T, Errno>, expected: Errno) -> Outcome {
    match result {
        Err(errno) if errno == expected => Ok(()),
        Err(errno) => Err(Stop::failed(format_args!(
            "{what}: expected {}, seen {}",
            name(expected),
            name(errno)
        ))),
        Ok(value) => Err(Stop::failed(format_args!(
            "{what}: expected {}, seen success with {value:?}",
            name(expected)
        ))),
    }
}

/// Returns the name of an errno.
pub fn name(errno: Errno) -> String {
    let known = match errno {
        Errno::PERM => "EPERM",
        Errno::NOENT => "ENOENT",
        Errno::IO => "EIO",
        Errno::BADF => "EBADF",
        Errno::ACCESS => "EACCES",
        Errno::TOOBIG => "E2BIG",
        Errno::FAULT => "EFAULT",
        Errno::BUSY => "EBUSY",
        Errno::EXIST => "EEXIST",
        Errno::XDEV => "EXDEV",
        Errno::NODEV => "ENODEV",
        Errno::INVAL => "EINVAL",
        Errno::NOTTY => "ENOTTY",
        Errno::BADFD => "EBADFD",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::NODATA => "ENODATA",
        Errno::BADMSG => "EBADMSG",
        Errno::MSGSIZE => "EMSGSIZE",
        Errno::PROTONOSUPPORT => "EPROTONOSUPPORT",
        _ => return format!("errno {}", errno.raw_os_error()),
    };
    known.to_string()
}
