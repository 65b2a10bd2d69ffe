// SPDX-License-Identifier: GPL-2.0

//! Speeds that are compared with each other, and what their ratios should be.

use lab_host::device;
use lab_host::event::Speed;
use lab_host::job::Stage;
use lab_host::job::DIRECTLY;
use lab_host::job::ONE_QUEUE;
use lab_host::job::TWO_QUEUES;

use super::figures::bytes;
use super::figures::distinct;
use super::figures::line;
use super::figures::ratios;
use super::figures::trim_lines;
use super::figures::Figures;

/// A workload with blocks of at least this many bytes is compared by its throughput, any other by its IOPS.
const LARGE_BLOCK: f64 = 65536.0;

/// Speeds that are compared.
#[derive(Debug, PartialEq)]
pub struct Comparison {
    /// The word for `--only`.
    pub name: &'static str,
    /// The name in JSON.
    pub key: &'static str,
    /// What the table is of.
    pub title: &'static str,
    /// What the others are compared with.
    ours: &'static str,
    /// What it should be at least, for each of the others.
    targets: &'static [(&'static str, f64)],
}

/// All comparisons.
pub const COMPARISONS: [Comparison; 5] = [
    Comparison {
        name: "speed",
        key: "speed",
        title: "Disks in memory, of one guest. QEMU's nvme has ioeventfd=on (it has no iothread), virtio-blk an iothread:",
        ours: device::DISK_DRIVER,
        targets: &[("nvme", 1.5), ("virtio-blk", 1.2)],
    },
    Comparison {
        name: "slow-disk",
        key: "speed_on_slow_disk",
        title: "On a disk of the host that takes 10 ms for each request, for many at a time:",
        ours: device::DISK_DRIVER,
        targets: &[],
    },
    Comparison {
        name: "slow-file",
        key: "slow_file",
        title: "Without a guest, on a disk of the host that takes 10 ms for each request, for many at a time:",
        ours: device::DISK_DRIVER,
        targets: &[(DIRECTLY, 0.9)],
    },
    Comparison {
        name: "queues",
        key: "queues",
        title: "Without a guest, a disk in memory whose clients poll, a client for each queue:",
        ours: TWO_QUEUES,
        targets: &[(ONE_QUEUE, 1.7)],
    },
    Comparison {
        name: "card-speed",
        key: "card_speed",
        title: "Datagrams per second, in both directions at once, between a guest and its host (as IOPS):",
        ours: device::CARD_DRIVER,
        targets: &[(device::PLAIN_DRIVER, 0.95)],
    },
];

impl Comparison {
    /// The comparison that a stage measures for.
    pub fn of(stage: &Stage) -> Option<&'static Self> {
        let name = match stage {
            Stage::Speed { .. } => "speed",
            Stage::SpeedOnSlowDisk { .. } => "slow-disk",
            Stage::SlowFile { .. } => "slow-file",
            Stage::Queues { .. } => "queues",
            Stage::CardSpeed { .. } => "card-speed",
            _ => return None,
        };
        COMPARISONS.iter().find(|it| it.name == name)
    }

    /// The speeds, a paragraph for each workload.
    pub fn table(&self, speeds: &[&Speed]) -> String {
        let mut text = format!(
            "{:30}{:>12}   {:28}{} to it, and spread",
            "", "median", "spread", self.ours
        );
        let mut disks = distinct(speeds.iter().map(|speed| &*speed.disk));
        disks.sort_by_key(|disk| *disk != self.ours);
        for workload in distinct(speeds.iter().map(|speed| &*speed.workload)) {
            text.push_str(&format!("\n{workload}"));
            for disk in &disks {
                let its = figures(speeds, disk, workload);
                text.push_str(&format!("\n{}", line(disk, &its)));
                if *disk != self.ours {
                    let (median, spread) = self.ratios(speeds, disk, workload).columns();
                    text.push_str(&format!("{median}   {spread}"));
                }
            }
        }
        trim_lines(&text)
    }

    fn ratios(&self, speeds: &[&Speed], disk: &str, workload: &str) -> Figures {
        ratios(
            &figures(speeds, self.ours, workload),
            &figures(speeds, disk, workload),
        )
    }

    /// Which rows have reached their targets, and what to do if some have not. Nothing if there are no targets.
    pub fn verdict(&self, speeds: &[&Speed]) -> String {
        let workloads = distinct(speeds.iter().map(|speed| &*speed.workload));
        let mut text = String::new();
        let mut missed_any = false;
        for (disk, target) in self.targets {
            let missed: Vec<_> = workloads
                .iter()
                .map(|workload| (workload, self.ratios(speeds, disk, workload).median()))
                // Nothing to compare with is a miss, too.
                .filter(|(_, ratio)| ratio.is_nan() || ratio < target)
                .collect();
            text.push_str(&format!(
                "Target: at least {target:.2} of {disk} in the median. "
            ));
            if missed.is_empty() {
                text.push_str(&format!("Reached in all {} rows.\n", workloads.len()));
                continue;
            }
            missed_any = true;
            text.push_str(&format!(
                "Missed in {} of {} rows:\n",
                missed.len(),
                workloads.len()
            ));
            for (workload, ratio) in missed {
                text.push_str(&format!("  {workload:28}{ratio:>12.2}\n"));
            }
        }
        if missed_any {
            text.push_str(&format!(
                "If the spread reaches the target, measure again on an idle machine: make bench ARGS='--only {} --rounds 9'\n",
                self.name
            ));
        }
        text
    }
}

/// The throughput or the IOPS of a disk with one workload, in round order.
fn figures(speeds: &[&Speed], disk: &str, workload: &str) -> Figures {
    let mut its: Vec<_> = speeds
        .iter()
        .filter(|speed| speed.disk == disk && speed.workload == workload)
        .collect();
    its.sort_by_key(|speed| speed.round);
    if its
        .iter()
        .any(|speed| speed.bytes_per_second >= speed.per_second * LARGE_BLOCK)
    {
        Figures {
            values: its.iter().map(|speed| speed.bytes_per_second).collect(),
            write: |value| format!("{}/s", bytes(value)),
        }
    } else {
        Figures {
            values: its.iter().map(|speed| speed.per_second).collect(),
            write: |value| format!("{value:.0} IOPS"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN_GUEST: &Comparison = &COMPARISONS[0];

    fn speed(disk: &str, workload: &str, round: usize, per_second: f64, block: f64) -> Speed {
        Speed {
            disk: disk.to_owned(),
            workload: workload.to_owned(),
            round,
            per_second,
            bytes_per_second: per_second * block,
            latency_us: 0.0,
        }
    }

    fn words(speeds: &[Speed]) -> Vec<String> {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let table = IN_GUEST.table(&speeds.iter().collect::<Vec<_>>());
        table.lines().skip(1).map(words).collect()
    }

    #[test]
    fn ratios_are_those_of_operations_or_of_bytes() {
        let speeds = [
            speed("ferry_nvme", "small", 0, 300.0, 4096.0),
            speed("nvme", "small", 0, 200.0, 4096.0),
            speed("ferry_nvme", "large", 0, 80.0, 131072.0),
            speed("nvme", "large", 0, 40.0, 131072.0),
        ];
        let expected = [
            "small",
            "ferry_nvme 300 IOPS",
            "nvme 200 IOPS 1.50",
            "large",
            "ferry_nvme 10.0 MiB/s",
            "nvme 5.0 MiB/s 2.00",
        ];
        assert_eq!(words(&speeds), expected);
    }

    #[test]
    fn one_lucky_round_moves_the_spread_and_not_the_median() {
        let rounds = [100.0, 900.0, 110.0];
        let mut speeds = Vec::new();
        for (round, value) in rounds.into_iter().enumerate() {
            speeds.push(speed("nvme", "small", round, 100.0, 4096.0));
            speeds.push(speed("ferry_nvme", "small", round, value, 4096.0));
        }
        let expected = [
            "small",
            "ferry_nvme 110 IOPS 100 IOPS to 900 IOPS",
            "nvme 100 IOPS 100 IOPS to 100 IOPS 1.10 1.00 to 9.00",
        ];
        assert_eq!(words(&speeds), expected);
    }

    #[test]
    fn rows_that_miss_a_target_are_named_with_their_ratio() {
        let mut speeds = Vec::new();
        for (round, slow) in [100.0, 130.0, 900.0].into_iter().enumerate() {
            for (workload, ours) in [("fast", 200.0), ("slow", slow)] {
                speeds.push(speed("ferry_nvme", workload, round, ours, 4096.0));
                speeds.push(speed("nvme", workload, round, 100.0, 4096.0));
                speeds.push(speed("virtio-blk", workload, round, 100.0, 4096.0));
            }
        }
        let text = IN_GUEST.verdict(&speeds.iter().collect::<Vec<_>>());
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<_> = text.lines().map(words).collect();
        assert_eq!(
            lines[..3],
            [
                "Target: at least 1.50 of nvme in the median. Missed in 1 of 2 rows:",
                "slow 1.30",
                "Target: at least 1.20 of virtio-blk in the median. Reached in all 2 rows.",
            ]
        );
        assert!(lines[3].contains("--only speed"), "{text}");
    }

    #[test]
    fn without_its_other_a_row_has_missed() {
        let text = IN_GUEST.verdict(&[&speed("ferry_nvme", "alone", 0, 1.0, 4096.0)]);
        assert_eq!(text.matches("Missed in 1 of 1").count(), 2, "{text}");
        assert_eq!(COMPARISONS[1].verdict(&[]), "");
    }
}
