// SPDX-License-Identifier: GPL-2.0

//! The host VM: QEMU's command line, the VM's events and its end.
//!
//! The initramfs that the VM boots from is made by [`host_image`], which carries a guest made by
//! [`guest_image`].

mod accelerator;
mod contents;
mod guest_image;
mod host_image;
mod logs;
mod plan;

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use lab_host::device;
use lab_host::event;
use lab_host::event::Event;
use lab_host::event::Outcome;
use lab_host::event::What;
use lab_host::job;
use lab_host::monitor::Monitor;
use rustix::process::kill_process;
use rustix::process::Pid;
use rustix::process::Signal;
use tempfile::TempDir;

pub use self::accelerator::Accelerator;
use self::host_image::write_host;
use self::logs::Logs;
pub use self::plan::Plan;
use crate::components::kernel_image;
use crate::components::Components;
use crate::interrupt;

/// The serial number of the host VM's two disks, which have one backend: two hosts see a shared disk like this. The tests
/// find the disks by it.
const SHARED_DISK: &str = "ferry-shared";

/// Bytes of the shared disk. Its file is sparse.
const SHARED_DISK_SIZE: u64 = 256 << 20;

/// The host VM's memory in GiB.
pub const MEMORY_GIB: u64 = 4;

/// How much later than its limit a host VM is ended by `timeout`, in case that this process is gone.
const GRACE: Duration = Duration::from_secs(10);

/// The longest time until an interruption is noticed.
const PATIENCE: Duration = Duration::from_millis(500);

/// The socket of QEMU's monitor.
const MONITOR: &str = "monitor";

/// A host VM that runs. It ends when this is dropped.
pub struct Machine {
    child: Child,
    input: ChildStdin,
    events: Receiver<Result<Event>>,
    deadline: Instant,
    finished: bool,
    processors: u32,
    /// The state of the VM's processors when something in the VM got stuck.
    outside: String,
    logs: Logs,
    directory: TempDir,
}

/// `command`, which is ended after `limit`, and when this process ends.
fn limited(command: Command, limit: Duration) -> Command {
    let mut limited = Command::new("setpriv");
    limited
        .args(["--pdeathsig", "TERM", "timeout", "--kill-after=5"])
        .arg(limit.as_secs().to_string())
        .arg(command.get_program())
        .args(command.get_args());
    limited
}

fn temporary_directory() -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("ferry-")
        .tempdir()
        .context("making a temporary directory")
}

/// Words of a command line.
fn words<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.map(OsString::from).to_vec()
}

/// The board without any device that QEMU would add by itself.
fn board(plan: &Plan, accelerator: Accelerator, processors: u32) -> Vec<OsString> {
    // KVM remaps interrupts only where the I/O interrupt controller is QEMU's.
    let machine = match accelerator {
        Accelerator::Kvm if plan.functions => "q35,kernel-irqchip=split",
        _ => "q35",
    };
    let (memory, processors) = (format!("{MEMORY_GIB}G"), processors.to_string());
    words([
        "-machine",
        machine,
        "-m",
        &memory,
        "-smp",
        &processors,
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-bios",
        "qboot.rom",
    ])
}

/// The kernel, its initramfs and its command line. The serial port has the console's first words, until the virtio
/// console is there.
fn kernel(components: &Components, plan: &Plan, initrd: &Path) -> Result<Vec<OsString>> {
    // The kernel's check of its timer counts ticks in a time that an overloaded machine does not give it, and panics.
    const COMMAND_LINE: &str =
        "console=hvc0 earlycon=uart8250,io,0x3f8 panic=-1 mitigations=off no_timer_check";
    let iommu = if plan.functions {
        " intel_iommu=on"
    } else {
        ""
    };
    Ok(vec![
        "-kernel".into(),
        kernel_image(components.kernel(plan.debug)?)?.into(),
        "-initrd".into(),
        initrd.into(),
        "-append".into(),
        format!("{COMMAND_LINE}{iommu}").into(),
    ])
}

/// How the VM and this process hear of each other: logs, the monitor, the port of events on QEMU's standard input and
/// output, and the I/O port by which the VM ends.
fn channels(logs: &Logs, monitor: &Path) -> Vec<OsString> {
    let resets = logs.resets();
    let mut channels = words(["-d", "cpu_reset", "-D"]);
    channels.push(resets.into());
    channels.extend(words([
        "-serial",
        &format!("file:{}", logs.early().display()),
        "-qmp",
        &format!("unix:{},server=on,wait=off", monitor.display()),
        "-device",
        "virtio-serial-pci",
        "-chardev",
        &format!("file,id=console,path={}", logs.console().display()),
        "-device",
        "virtconsole,chardev=console",
        "-chardev",
        "stdio,id=report,signal=off",
        "-device",
        &format!("virtserialport,chardev=report,name={}", event::PORT),
        "-device",
        &format!("isa-debug-exit,iobase={:#x},iosize=1", job::EXIT_PORT),
    ]));
    channels
}

/// The disk that two devices of the VM share.
fn shared_disks(disk: &Path) -> Vec<OsString> {
    let backend = format!(
        "raw,node-name=shared,discard=unmap,file.driver=file,file.filename={}",
        disk.display()
    );
    let device = format!("virtio-blk-pci,drive=shared,serial={SHARED_DISK},share-rw=on");
    words([
        "-blockdev",
        &backend,
        "-device",
        &device,
        "-device",
        &device,
    ])
}

/// An IOMMU, and two equal 82574L, at 00:05.0 and 00:06.0, each in an IOMMU group of its own. QEMU's option ROM of the card is
/// not needed.
fn functions(plan: &Plan, directory: &Path) -> Vec<OsString> {
    if !plan.functions {
        return Vec::new();
    }
    let mut arguments = words(["-device", "intel-iommu,intremap=on"]);
    // A port of a hub, and a device or a network of QEMU there.
    let network = |hub: u8, id: &str, network: &str| {
        words([
            "-netdev",
            &format!("{network},id={id}"),
            "-netdev",
            &format!("hubport,hubid={hub},id=hub-{id},netdev={id}"),
        ])
    };
    let on_hub = |hub: u8, id: &str, device: &str| {
        words([
            "-netdev",
            &format!("hubport,hubid={hub},id={id}"),
            "-device",
            &format!("{device},netdev={id},bus=pcie.0,romfile="),
        ])
    };
    let (source, destination) = ("e1000e,addr=5", "e1000e,addr=6,mac=52:54:00:aa:bb:cc");
    if !plan.nested {
        // The cards talk to each other, and to a network that answers pings.
        arguments.extend(network(0, "peer", "user"));
        arguments.extend(on_hub(0, "source", source));
        arguments.extend(on_hub(0, "destination", destination));
        return arguments;
    }
    // Each card has a cable to a peer in the VM. A hub whose only other port is that of a stopped card takes no packet, and
    // the peer would wait for ever: so each hub also has a network without anybody, which takes all.
    let nobody = |id: &str| {
        let path = |name: &str| directory.join(name).display().to_string();
        format!(
            "dgram,local.type=unix,local.path={},remote.type=unix,remote.path={}",
            path(id),
            path("nobody")
        )
    };
    for (hub, side, card, peer) in [
        (0, "source", source, "virtio-net-pci,addr=7"),
        (1, "destination", destination, "virtio-net-pci,addr=8"),
    ] {
        let (name, network_name) = (format!("peer-{side}"), format!("nobody-{side}"));
        arguments.extend(network(hub, &network_name, &nobody(&network_name)));
        arguments.extend(on_hub(hub, &name, peer));
        arguments.extend(on_hub(hub, side, card));
    }
    // A card that is none of these, and without a cable.
    let other = format!(
        "e1000e,addr=9,subsys={:#x},romfile=",
        device::OTHER_SUBSYSTEM
    );
    arguments.extend(words(["-device", &other]));
    arguments
}

impl Machine {
    /// Starts the host VM of `plan`.
    pub fn start(components: &Components, plan: &Plan, accelerator: Accelerator) -> Result<Self> {
        let directory = temporary_directory()?;
        let initrd = write_host(components, plan, directory.path())?;
        let logs = Logs::new(directory.path());
        let disk = directory.path().join(SHARED_DISK);
        File::create(&disk)
            .and_then(|file| file.set_len(SHARED_DISK_SIZE))
            .context("making a disk")?;
        let processors = accelerator.processors(plan.nested);
        let mut command = limited(components.host_qemu()?, plan.limit + GRACE);
        command
            .args(accelerator.arguments())
            .args(board(plan, accelerator, processors))
            .args(kernel(components, plan, &initrd)?)
            .args(channels(&logs, &directory.path().join(MONITOR)))
            .args(shared_disks(&disk))
            .args(functions(plan, directory.path()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(logs.vmm()).context("creating a log")?);
        let mut child = command.spawn().context("starting the host VM's QEMU")?;
        let input = child.stdin.take().context("the host VM has no input")?;
        let output = child.stdout.take().context("the host VM has no output")?;
        let (sender, events) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n') {
                let event = line
                    .context("reading the host VM's events")
                    .and_then(|line| {
                        serde_json::from_slice(&line).with_context(|| {
                            format!("not an event: {}", String::from_utf8_lossy(&line))
                        })
                    });
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        let deadline = Instant::now() + plan.limit;
        Ok(Self {
            child,
            input,
            events,
            deadline,
            finished: false,
            processors,
            outside: String::new(),
            logs,
            directory,
        })
    }

    /// Waits for the next event.
    ///
    /// Fails with the end of the logs if the VM ends before its job is finished.
    fn next_event(&mut self) -> Result<Event> {
        loop {
            interrupt::check()?;
            match self.events.recv_timeout(PATIENCE) {
                Ok(event) => return event,
                Err(RecvTimeoutError::Timeout) if Instant::now() < self.deadline => {}
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "the host VM did not end in time{}\n{}",
                        self.look(),
                        self.logs.tails()
                    )
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().context("waiting for the host VM")?;
                    if self.logs.show_triple_fault() {
                        return Err(TripleFault(self.logs.tails()).into());
                    }
                    bail!(
                        "the host VM ended too early ({status})\n{}",
                        self.logs.tails()
                    )
                }
            }
        }
    }

    /// Calls `each` with every event until the job is finished.
    pub fn run(&mut self, mut each: impl FnMut(&Event) -> Result<()>) -> Result<()> {
        loop {
            let mut event = self.next_event()?;
            match &mut event.what {
                What::Stuck { .. } => self.outside = self.look(),
                What::Ended {
                    outcome: Outcome::Failed(why),
                    ..
                } => why.push_str(&std::mem::take(&mut self.outside)),
                _ => {}
            }
            each(&event)?;
            if let What::Finished { error } = event.what {
                self.finished = true;
                // The VM ends as soon as it reads the line, and may have ended before the write returns.
                let _ = writeln!(self.input, "{}", event::HEARD);
                return match error {
                    Some(error) => {
                        bail!(
                            "the host VM could not do its job: {error}\n{}",
                            self.logs.tails()
                        )
                    }
                    None => Ok(()),
                };
            }
        }
    }

    /// The state of the VM's processors and local interrupt controllers, which the VM's own kernel may not know: a
    /// processor that sleeps while an interrupt is requested has lost that interrupt.
    fn look(&self) -> String {
        let mut monitor = match Monitor::connect(&self.directory.path().join(MONITOR)) {
            Ok(monitor) => monitor,
            Err(error) => return format!("\nThe host VM's monitor: {error:#}"),
        };
        let mut text = String::new();
        for number in 0..self.processors {
            let state = monitor.human(&format!("info lapic {number}"));
            text.push_str(&format!("\n--- The host VM's processor {number}:\n{state}"));
        }
        // The instruction pointer, and whether the processor halts.
        for line in monitor.human("info registers -a").lines() {
            if line.starts_with("CPU#") || line.starts_with("RIP=") {
                text.push_str(&format!("\n{line}"));
            }
        }
        text
    }

    /// Everything that the console said.
    pub fn console(&self) -> String {
        self.logs.console_text()
    }

    /// Copies the logs to `directory`, each with `prefix`.
    pub fn keep_logs(&self, directory: &Path, prefix: &str) -> Result<()> {
        self.logs.keep(directory, prefix)
    }
}

/// A processor of the host VM took a triple fault, and the VM's kernel had no chance to log anything.
///
/// QEMU's emulation of nested virtualisation causes this once in a while. A kernel that crashes by itself logs that
/// first.
#[derive(Debug)]
pub struct TripleFault(String);

impl fmt::Display for TripleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a processor of the host VM took a triple fault\n{}",
            self.0
        )
    }
}

impl std::error::Error for TripleFault {}

impl Drop for Machine {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            if !self.finished
                && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
            {
                // "timeout" passes the signal on to QEMU, and kills QEMU if that does not suffice.
                let _ = kill_process(pid, Signal::TERM);
            }
            let _ = self.child.wait();
        }
    }
}
