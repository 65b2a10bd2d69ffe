// SPDX-License-Identifier: GPL-2.0

//! Lines of models and backends in the log of the host.

use core::fmt::Display;

use vfio_uapi::Errno;

/// Logs a refusal: the operation, the reason, and the error.
pub type Log<'a> = &'a dyn Fn(&str, &dyn Display, Errno);
