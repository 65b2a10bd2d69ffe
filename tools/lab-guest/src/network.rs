// SPDX-License-Identifier: GPL-2.0

//! The network between a guest's card and the host VM.

use std::net::Ipv4Addr;

/// The addresses of the host VM and of the guest, and the length of the network's prefix.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 1);
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 2);
pub const PREFIX: u8 = 24;

/// The TCP port at which the host VM sends everything back.
pub const ECHO_PORT: u16 = 7;

/// The first UDP port of the flows. Each flow has a port of its own.
pub const FLOW_PORT: u16 = 7000;
