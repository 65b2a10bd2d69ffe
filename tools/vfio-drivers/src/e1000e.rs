// SPDX-License-Identifier: GPL-2.0

//! The Intel 82574L Gigabit Ethernet controller, Linux's `e1000e`: a driver that sends and receives frames by
//! polling, and the work that a card is given.
//!
//! Written from the Intel 82574 GbE Controller Family Datasheet (317694, revision 3.4).

mod card;
mod driver;
mod frame;
mod ring;
mod spec;

pub use card::Card;
pub use card::Plug;
pub use card::MEMORY_SIZE;
pub use driver::NetworkDriver;
pub use frame::Frame;
pub use frame::Mac;
pub use ring::BUFFER;
pub use spec::cause;
pub use spec::register;
pub use spec::Word;
pub use spec::CTRL_MASTER_DISABLE;
pub use spec::IVAR_RECEIVE_0;
pub use spec::RCTL_ENABLE;
pub use spec::STATUS_LINK_UP;
pub use spec::TCTL_ENABLE;
