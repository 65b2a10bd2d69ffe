// SPDX-License-Identifier: GPL-2.0

//! NVMe controllers: [`NvmeDriver`] as one of the [`Driver`](crate::Driver)s, and [`Controller`] for tests of
//! NVMe itself.

mod controller;
mod driver;
mod entry;
pub mod polling;
mod prp;
mod queue;
mod spec;

pub use controller::Controller;
pub use driver::content;
pub use driver::NvmeDriver;
pub use driver::MEMORY_SIZE;
pub use entry::Command;
pub use entry::Completion;
pub use prp::PAGE;
pub use queue::head_doorbell;
pub use queue::tail_doorbell;
pub use queue::Pair;
pub use queue::MAX_DEPTH;
pub use spec::admin;
pub use spec::feature;
pub use spec::nvm;
pub use spec::register;
pub use spec::Status;
pub use spec::CC_ENABLE;
pub use spec::CC_SHUTDOWN;
pub use spec::CC_SIZES;
pub use spec::CSTS_FATAL;
pub use spec::CSTS_READY;
pub use spec::CSTS_SHUTDOWN;
pub use spec::CSTS_SHUTDOWN_COMPLETE;
pub use spec::MSIX_ENABLE;
pub use spec::MSIX_MASKED;
