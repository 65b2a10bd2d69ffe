// SPDX-License-Identifier: GPL-2.0

//! The host's end of the network of guests with a network card.
//!
//! Each card has a peer in the host, as if its cable led there. A bridge of the peers is the switch: it learns at which card
//! a guest is from the packets that the guest sends.

use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use lab_guest::network::ECHO_PORT;
use lab_guest::network::GUEST;
use lab_guest::network::HOST;
use lab_guest::network::PREFIX;

use crate::program;

/// Whether the network is set up.
static READY: Mutex<bool> = Mutex::new(false);

/// The bridge's interface.
pub const BRIDGE: &str = "bridge";

/// Another network over the same cables.
pub struct Other {
    /// The first three bytes of its addresses.
    prefix: &'static str,
}

impl Other {
    /// The host's address.
    pub fn host_address(&self) -> String {
        format!("{}.{}", self.prefix, HOST.octets()[3])
    }

    /// The guest's address with the length of the prefix.
    pub fn guest(&self) -> String {
        format!("{}.{}/{PREFIX}", self.prefix, GUEST.octets()[3])
    }
}

/// The VLAN, and its number.
pub const VLAN: Other = Other { prefix: "10.42.5" };
pub const VLAN_ID: u16 = 5;

/// The network of the guest's second Ethernet address.
pub const SECOND: Other = Other { prefix: "10.42.6" };

/// An address that nobody has.
pub const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 99);

/// Makes a bridge of the peers, which are the host's only virtio interfaces, and gives it its addresses.
fn script() -> String {
    format!(
        "set -e
         brctl addbr {BRIDGE}
         echo 0 > /sys/class/net/{BRIDGE}/bridge/multicast_snooping
         for path in /sys/bus/virtio/drivers/virtio_net/virtio*/net/*; do
             interface=${{path##*/}}
             ip link set $interface mtu 9000 up
             brctl addif {BRIDGE} $interface
         done
         ip link set {BRIDGE} mtu 9000 up
         ip addr add {HOST}/{PREFIX} dev {BRIDGE}
         ip addr add {second}/{PREFIX} dev {BRIDGE}
         ip link add link {BRIDGE} name {BRIDGE}.{VLAN_ID} type vlan id {VLAN_ID}
         ip addr add {vlan}/{PREFIX} dev {BRIDGE}.{VLAN_ID}
         ip link set {BRIDGE}.{VLAN_ID} up",
        second = SECOND.host_address(),
        vlan = VLAN.host_address()
    )
}

/// Sets the network up, if it is not.
pub fn set_up() -> Result<()> {
    let mut ready = READY.lock().unwrap_or_else(PoisonError::into_inner);
    if *ready {
        return Ok(());
    }
    let status = program::run("/bin/sh", &["-c", &script()])?;
    ensure!(
        status == 0,
        "making the bridge: expected exit status 0, saw {status}"
    );
    let listener = TcpListener::bind((HOST, ECHO_PORT)).context("listening for guests")?;
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || echo(connection));
        }
    });
    *ready = true;
    Ok(())
}

/// Sends everything back until the guest closes the connection.
fn echo(mut connection: TcpStream) {
    let mut bytes = [0; 65536];
    while let Ok(length @ 1..) = connection.read(&mut bytes) {
        if connection.write_all(&bytes[..length]).is_err() {
            return;
        }
    }
}
