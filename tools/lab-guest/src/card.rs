// SPDX-License-Identifier: GPL-2.0

//! The guest's network card, as its stock driver offers it.

use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use lab_guest::network;
use lab_guest::report::Driver;

use crate::modules;
use crate::pci;
use crate::shell;

/// PCI class of an Ethernet controller.
const ETHERNET: u32 = 0x0200;

/// The name of the card's interface.
pub const INTERFACE: &str = "eth0";

/// How long the interface may take to appear, and to have a link.
const LINK_LIMIT: Duration = Duration::from_secs(60);

/// How often the interface is looked at.
const SLICE: Duration = Duration::from_millis(20);

/// A file of the interface in sysfs.
fn attribute(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/sys/class/net/{INTERFACE}/{name}")).ok()?;
    Some(text.trim_end().to_owned())
}

fn wait(what: &str, done: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + LINK_LIMIT;
    while !done() {
        if Instant::now() >= deadline {
            bail!("{INTERFACE}: {what}: not within {LINK_LIMIT:?}");
        }
        thread::sleep(SLICE);
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<()> {
    let ran = Command::new("ip")
        .args(arguments)
        .env("PATH", shell::SEARCH_PATH)
        .output()
        .context("starting ip")?;
    ensure!(
        ran.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&ran.stderr).trim_end()
    );
    Ok(())
}

/// Loads the driver and gives the interface its address, if there is a card. Returns when the link is up.
pub fn set_up() -> Result<bool> {
    if pci::count(&[ETHERNET])? == 0 {
        return Ok(false);
    }
    modules::load()?;
    wait("an interface", || attribute("address").is_some())?;
    let address = format!("{}/{}", network::GUEST, network::PREFIX);
    ip(&["addr", "add", &address, "dev", INTERFACE])?;
    ip(&["link", "set", INTERFACE, "up"])?;
    wait("a link", || attribute("carrier").as_deref() == Some("1"))?;
    Ok(true)
}

/// Connects to the host's port that sends everything back.
pub fn connect() -> Result<TcpStream> {
    let host = (network::HOST, network::ECHO_PORT);
    let stream = TcpStream::connect(host).context("connecting to the host")?;
    // Lines are to go out one by one.
    stream.set_nodelay(true).context("TCP_NODELAY")?;
    Ok(stream)
}

/// A statistic of the interface, if there is an interface.
fn statistic(name: &str) -> Option<u64> {
    attribute(&format!("statistics/{name}"))?.parse().ok()
}

/// Packets that the card has sent and received, if there is a card.
pub fn packets() -> Option<u64> {
    Some(statistic("tx_packets")? + statistic("rx_packets")?)
}

/// The driver's counters of the card.
pub fn counters() -> Driver {
    let count = |name: &str| statistic(name).unwrap_or(0);
    let table = fs::read_to_string("/proc/interrupts").unwrap_or_default();
    Driver {
        tx: count("tx_bytes"),
        rx: count("rx_bytes"),
        overruns: count("rx_over_errors"),
        interrupts: interrupts(&table),
        ..Driver::default()
    }
}

/// The interrupts of the card in `/proc/interrupts`, all vectors.
fn interrupts(table: &str) -> u64 {
    let of_card = |line: &&str| {
        let name = line.split_whitespace().last().unwrap_or_default();
        name.starts_with(INTERFACE)
    };
    let lines = table.lines().filter(of_card);
    lines
        // One column per CPU, then names.
        .flat_map(|line| {
            let numbers = line.split_whitespace().skip(1);
            numbers.map_while(|word| word.parse::<u64>().ok())
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interrupts_of_all_vectors_are_added() {
        let table = "            CPU0       CPU1\n\
                      24:         10          5  PCI-MSIX-0000:01:00.0   0-edge      eth0-rx-0\n\
                      25:          7          0  PCI-MSIX-0000:01:00.0   1-edge      eth0-tx-0\n\
                      26:        100          0  PCI-MSIX-0000:00:01.0   0-edge      virtio0-config\n\
                      27:          1          0  PCI-MSI-0000:01:00.0    0-edge      eth0\n";
        assert_eq!(interrupts(table), 23);
    }
}
