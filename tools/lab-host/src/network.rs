// SPDX-License-Identifier: GPL-2.0

//! The host's end of the network of guests with a network card.
//!
//! Each card has a peer in the host, as if its cable led there. A bridge of the peers is the switch: it learns at which card
//! a guest is from the packets that the guest sends.

use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use lab_guest::network::ECHO_PORT;
use lab_guest::network::HOST;
use lab_guest::network::PREFIX;

use crate::program;

/// Whether the network is set up.
static READY: Mutex<bool> = Mutex::new(false);

/// Makes a bridge of the peers, which are the host's only virtio interfaces. Frames of no known address are flooded, so
/// the bridge has to forward them to no card that nobody uses: QEMU's model of the card would keep them for its next user.
const BRIDGE: &str = "
    set -e
    brctl addbr bridge
    echo 0 > /sys/class/net/bridge/bridge/multicast_snooping
    for path in /sys/bus/virtio/drivers/virtio_net/virtio*/net/*; do
        interface=${path##*/}
        ip link set $interface mtu 9000 up
        brctl addif bridge $interface
    done
    ip link set bridge mtu 9000 up";

/// Sets the network up, if it is not.
pub fn set_up() -> Result<()> {
    let mut ready = READY.lock().unwrap_or_else(PoisonError::into_inner);
    if *ready {
        return Ok(());
    }
    let script = format!("{BRIDGE}\nip addr add {HOST}/{PREFIX} dev bridge");
    let status = program::run("/bin/sh", &["-c", &script])?;
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
