// SPDX-License-Identifier: GPL-2.0

//! What a model or a backend says in the log of the host.

use core::fmt::Display;

use vfio_uapi::Errno;

/// Logs what was refused, why, and with which error.
pub type Log<'a> = &'a dyn Fn(&str, &dyn Display, Errno);
