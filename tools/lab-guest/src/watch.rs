// SPDX-License-Identifier: GPL-2.0

//! Watches the guest's kernel log. The driver recovers a disk that has lost an interrupt or a command, and a network card
//! that has lost a descriptor, so only the log shows the loss.

use std::fs::File;
use std::io::ErrorKind;
use std::io::Read;
use std::sync::Arc;
use std::thread;

use anyhow::Context;
use anyhow::Result;
use lab_guest::report::Report;

use crate::host::Host;

/// Parts of lines that a sound device never causes.
const TROUBLE: [&str; 17] = [
    // The NVMe driver: a command has timed out.
    " timeout, ",
    "controller is down",
    "Device not ready",
    "Removing after probe failure",
    "Disabling device after reset failure",
    "invalid id ",
    "I/O error",
    "critical ",
    "EXT4-fs error",
    "BUG: ",
    "WARNING: ",
    "Oops",
    "hung_task",
    // An interrupt was raised again and again without a cause.
    "nobody cared",
    // The network card's driver: a packet was not sent.
    "NETDEV WATCHDOG",
    "Detected Hardware Unit Hang",
    "Reset adapter unexpectedly",
];

fn is_trouble(line: &str) -> bool {
    TROUBLE.iter().any(|part| line.contains(part))
}

/// Reports every such line as a problem from now on.
pub fn begin(host: &Arc<Host>) -> Result<()> {
    let mut log = File::open("/dev/kmsg").context("opening /dev/kmsg")?;
    let host = host.clone();
    thread::spawn(move || {
        let mut record = [0u8; 8192];
        loop {
            match log.read(&mut record) {
                Ok(length) => {
                    let record = String::from_utf8_lossy(&record[..length]);
                    // "prefix;text\n KEY=value..."
                    let text = record.split_once(';').map_or(&*record, |(_, text)| text);
                    let line = text.lines().next().unwrap_or_default();
                    if is_trouble(line) {
                        let text = format!("the guest's kernel: {line}");
                        host.say(&Report::Problem { text });
                    }
                }
                // Records that were overwritten before they could be read.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(_) => return,
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sound_device_does_not_cause_is_told_from_the_rest() {
        for bad in [
            "nvme nvme0: I/O tag 128 (3080) opcode 0x2 (I/O Cmd) QID 1 timeout, completion polled",
            "nvme nvme0: I/O tag 0 (1000) QID 0 timeout, disable controller",
            "nvme nvme0: controller is down; will reset: CSTS=0xffffffff, PCI_STATUS=0xffff",
            "I/O error, dev nvme0n1, sector 8 op 0x1:(WRITE) flags 0x8800 phys_seg 1 prio class 2",
            "EXT4-fs error (device nvme0n1): ext4_lookup:1787: inode #2: comm sh: bad block",
            "NETDEV WATCHDOG: CPU: 0: transmit queue 0 timed out 5120 ms",
            "e1000e 0000:01:00.0 eth0: Detected Hardware Unit Hang:",
            "irq 22: nobody cared (try booting with the \"irqpoll\" option)",
        ] {
            assert!(is_trouble(bad), "expected trouble: {bad}");
        }
        for good in [
            "nvme nvme0: Shutdown timeout set to 10 seconds",
            "nvme nvme0: 1/0/0 default/read/poll queues",
            "nvme nvme0: resetting controller",
            "e1000e 0000:01:00.0 eth0: NIC Link is Up 1000 Mbps Full Duplex, Flow Control: None",
            "EXT4-fs (nvme0n1): mounted filesystem r/w with ordered data mode. Quota mode: none.",
        ] {
            assert!(!is_trouble(good), "expected no trouble: {good}");
        }
    }
}
