// SPDX-License-Identifier: GPL-2.0

//! The scenarios of the network card alone: its filters, large frames, and what the guest's driver does with it.

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use lab_guest::datagram;
use lab_guest::network::GUEST;
use lab_guest::network::HOST;
use lab_guest::network::PREFIX;

use super::pings::Pings;
use super::running::Running;
use super::Bench;
use crate::network;
use crate::program;
use crate::report::doing;

/// Gives the guest a VLAN, and a second Ethernet address. The card's tables have both then.
fn set_up_filters() -> String {
    let (vlan, second) = (network::VLAN, network::SECOND);
    let (in_vlan, in_second) = (vlan.guest(), second.guest());
    format!(
        "set -e
         ip link add link eth0 name eth0.{id} type vlan id {id}
         ip addr add {in_vlan} dev eth0.{id}
         ip link set eth0.{id} up
         ip link add link eth0 name second type macvlan
         ip addr add {in_second} dev second
         ip link set second up
         # Answers pings to all hosts, which are multicasts.
         echo 0 > /proc/sys/net/ipv4/icmp_echo_ignore_broadcasts
         ip link set eth0 promisc on",
        id = network::VLAN_ID
    )
}

/// Pings the host from each of the guest's addresses.
fn ping_host() -> String {
    let hosts = [
        HOST.to_string(),
        network::VLAN.host_address(),
        network::SECOND.host_address(),
    ];
    format!(
        "for host in {}; do
             ping -c 3 -i 0.2 -W 10 $host > /tmp/ping 2>&1
             grep -q '3 packets transmitted, 3 packets received' /tmp/ping && continue
             echo \"pings to $host: expected 3 answers, saw:\"
             cat /tmp/ping
             exit 1
         done",
        hosts.join(" ")
    )
}

/// The packets that the card has received so far.
const RECEIVED: &str = "cat /sys/class/net/eth0/statistics/rx_packets";

/// Pings of an Ethernet address that nobody has.
const STRANGERS: u64 = 30;

/// Runs a script in the host.
fn in_host(script: &str) -> Result<String> {
    let mut output = String::new();
    let status = program::run_with(
        "/bin/sh",
        &["-c", &format!("exec 2>&1\n{script}")],
        |line| {
            output.push_str(&line);
            output.push('\n');
        },
    )?;
    ensure!(
        status == 0,
        "a script in the host: expected exit status 0, saw {status}: {output}"
    );
    Ok(output)
}

/// Checks that the guest gets the frames of its VLAN, its second address and its multicasts.
fn expect_filters(running: &Running, when: &str) -> Result<()> {
    doing(format!("checking the card's filters {when}"));
    running
        .script(&ping_host())
        .with_context(|| when.to_owned())?;
    let multicast = format!(
        "ping -c 3 -i 0.2 -W 10 -I {} 224.0.0.1 > /tmp/ping
         grep -q 'from {GUEST}: seq=2' /tmp/ping || {{ cat /tmp/ping; exit 1; }}",
        network::BRIDGE
    );
    in_host(&multicast).with_context(|| format!("multicasts {when}"))?;
    Ok(())
}

/// Sends frames that are for nobody, and returns the number of frames that the guest's card received meanwhile. No
/// other traffic may go on.
fn strangers(running: &Running) -> Result<u64> {
    let received = || -> Result<u64> {
        let text = running.script(RECEIVED)?;
        text.trim()
            .parse()
            .with_context(|| format!("no number: {text}"))
    };
    let before = received()?;
    let address = network::STRANGER;
    in_host(&format!(
        "arp -i {bridge} -s {address} 02:00:00:00:00:99
         ping -c {STRANGERS} -i 0.02 -W 1 {address} > /dev/null
         arp -i {bridge} -d {address}",
        bridge = network::BRIDGE
    ))?;
    Ok(received()?.saturating_sub(before))
}

/// Remembers the card's statistics.
const REMEMBER: &str =
    "ethtool -S eth0 | grep -E ' (rx|tx)_(packets|bytes|multicast|broadcast): ' > /tmp/statistics
    [ -s /tmp/statistics ]";

/// Checks that no statistic has gone back.
const EXPECT_NO_LESS: &str = "
    ethtool -S eth0 > /tmp/now
    while read -r name value; do
        now=$(awk -v name=$name '$1 == name { print $2 }' /tmp/now)
        [ \"$now\" -ge \"$value\" ] && continue
        echo \"$name expected $value at least, saw $now\"
        exit 1
    done < /tmp/statistics";

/// Reads the registers of RSS into a file: MRQC, RETA and RSSRK.
fn read_rss(file: &str) -> String {
    format!(
        "base=$(head -n 1 /sys/class/net/eth0/device/resource | cut -d ' ' -f 1)
         for register in $((0x5818)) $(seq $((0x5c00)) 4 $((0x5ca4))); do
             busybox devmem $((base + register)) 32
         done > {file}"
    )
}

/// Writes to entries of RETA and remembers the registers of RSS. The driver has a random key in RSSRK, sends all to queue 0, and
/// has the card hash without sending to queues by the hash, so RETA may have any value.
fn remember_rss() -> String {
    format!(
        "base=$(head -n 1 /sys/class/net/eth0/device/resource | cut -d ' ' -f 1)
         busybox devmem $((base + 0x5c00)) 32 0x83828180
         busybox devmem $((base + 0x5c7c)) 32 0x07060504
         {}
         [ $(wc -l < /tmp/rss) = 43 ] && grep -q 83828180 /tmp/rss && grep -q 07060504 /tmp/rss && exit 0
         echo 'RSS: expected the written entries of RETA, saw:'
         cat /tmp/rss
         exit 1",
        read_rss("/tmp/rss")
    )
}

/// Checks that the registers of RSS are as before.
fn expect_rss() -> String {
    format!(
        "{}
         cmp /tmp/rss /tmp/rss-now && exit 0
         echo 'RSS: expected MRQC, RETA and RSSRK, and saw:'
         cat /tmp/rss
         echo and
         cat /tmp/rss-now
         exit 1",
        read_rss("/tmp/rss-now")
    )
}

/// Has the driver test the card, and the card negotiate its link anew.
const TEST: &str = "
    ethtool -t eth0 online > /tmp/tested || { cat /tmp/tested; exit 1; }
    ethtool -r eth0 || exit 1";

/// Has the guest suspend its devices and resume them.
fn suspend(running: &Running) -> Result<()> {
    doing("suspending the guest's devices");
    let before = running.link_changes()?;
    running.guest.suspend(&running.vm.link)?;
    running.script(WAIT_LINK)?;
    // A suspended card has no link.
    let after = running.link_changes()?;
    ensure!(
        after != before,
        "expected other than {before} changes of the link of a card that was suspended, saw {after}"
    );
    Ok(())
}

/// Moves a guest to another card.
fn move_on(mut from: Running) -> Result<Running> {
    let (mut to, uri) = from.destination(from.twins()?)?;
    from.migrate(&mut to, &uri)?;
    Ok(to)
}

pub fn features(bench: &mut Bench<'_>) -> Result<Running> {
    let running = bench.guest()?;
    running.script(&set_up_filters())?;
    running.script(REMEMBER)?;
    running.script(&remember_rss())?;
    expect_filters(&running, "before a migration")?;
    let pings = Pings::begin()?;
    let running = move_on(running)?;
    pings.end(1)?;
    running.script(EXPECT_NO_LESS)?;
    running.script(&expect_rss())?;
    expect_filters(&running, "after a migration")?;

    doing("checking that the card still receives all frames");
    running.verdict()?;
    let seen = strangers(&running)?;
    ensure!(
        seen >= STRANGERS,
        "a promiscuous card: expected {STRANGERS} frames for nobody, saw {seen}"
    );
    doing("testing the card");
    running.script(&format!("{TEST}\n{WAIT_LINK}"))?;
    running.script("ip link set eth0 promisc off")?;
    let seen = strangers(&running)?;
    ensure!(
        seen < STRANGERS,
        "a card that is not promiscuous: expected fewer than {STRANGERS} frames, saw {seen}"
    );

    suspend(&running)?;
    doing("moving a guest that uses jumbo frames");
    running.script(&format!(
        "ip link set second down && ip link set eth0 mtu 9000 || exit 1\n{WAIT_LINK}"
    ))?;
    running.traffic.set_longest(datagram::JUMBO);
    running.start_load()?;
    let running = move_on(running)?;
    running.verdict()?;
    running.script(&format!(
        "ip link set eth0 mtu 1500 && ip link del second && ip link del eth0.{} || exit 1\n{WAIT_LINK}",
        network::VLAN_ID
    ))?;
    running.traffic.set_longest(datagram::ORDINARY);
    running.start_load()?;
    Ok(running)
}

/// Waits for a link.
const WAIT_LINK: &str = "
    for i in $(seq 300); do
        [ \"$(cat /sys/class/net/eth0/carrier 2>/dev/null)\" != 1 ] || exit 0
        sleep 0.1
    done
    echo 'no link'
    exit 1";

/// Gives the interface of a driver that was just bound its address.
fn set_up() -> String {
    format!(
        "for i in $(seq 300); do [ ! -e /sys/class/net/eth0 ] || break; sleep 0.1; done
         ip addr add {GUEST}/{PREFIX} dev eth0 || exit 1
         ip link set eth0 up || exit 1
         {WAIT_LINK}"
    )
}

/// Unbinds the driver.
const UNBIND: &str = "
    address=$(basename $(readlink -f /sys/class/net/eth0/device))
    echo $address > /tmp/address
    echo $address > /sys/bus/pci/drivers/e1000e/unbind || exit 1
    [ ! -e /sys/class/net/eth0 ]";

/// Binds the driver.
const BIND: &str = "cat /tmp/address > /sys/bus/pci/drivers/e1000e/bind || exit 1";

/// The driver's parameter for INTx, and the name of such interrupts in `/proc/interrupts`.
const INTX: (&str, &str) = ("IntMode=0", "IO-APIC");

pub fn driver(bench: &mut Bench<'_>) -> Result<Running> {
    let mut running = bench.guest()?;
    let bind = format!("{BIND}\n{}", set_up());
    let up = format!("ip link set eth0 up || exit 1\n{WAIT_LINK}");
    for (what, before, after) in [
        ("whose interface is down", "ip link set eth0 down", &up),
        ("whose driver is unbound", UNBIND, &bind),
    ] {
        running.verdict()?;
        doing(format!("moving a guest {what}"));
        running.script(before)?;
        running = move_on(running)?;
        running.script(after)?;
        running.start_load()?;
    }
    running.verdict()?;
    let (parameter, kind) = INTX;
    doing(format!("moving a guest whose driver has {parameter}"));
    running.script(&format!(
        "rmmod e1000e && insmod /lib/modules/e1000e.ko {parameter} || exit 1\n{}",
        set_up()
    ))?;
    running.script(&format!(
        "grep eth0 /proc/interrupts | grep -q {kind} && exit 0
         echo 'expected interrupts of the kind {kind}, saw:'
         grep eth0 /proc/interrupts
         dmesg | grep e1000e | tail -n 12
         exit 1"
    ))?;
    running.start_load()?;
    move_on(running)
}
