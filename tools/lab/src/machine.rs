// SPDX-License-Identifier: GPL-2.0

//! The host VM: what goes into its initramfs, how it is run, and its events.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Command;
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
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
use lab_host::job::Job;
use lab_host::job::Stage;
use lab_host::monitor::Monitor;
use lab_host::vmm::Qemu;
use rustix::process::kill_process;
use rustix::process::Pid;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::components::kernel_image;
use crate::components::kernel_modules;
use crate::components::Components;
use crate::initramfs::Initramfs;
use crate::libraries;
use crate::modules::Module;
use crate::modules::Modules;

/// Modules of the kernel that a host needs, and whether it can be without: each maker's processors
/// have a KVM module of their own.
const HOST_MODULES: [(&str, bool); 5] = [
    ("kvm_amd", true),
    ("kvm_intel", true),
    ("vfio_iommu_type1", false),
    ("vfio", false),
    ("virtio_blk", false),
];

/// The host VM's two disks, which are the same one: as two hosts see a disk that they share. The
/// tests know them by this serial number.
const SHARED_DISK: &str = "ferry-shared";

/// Bytes of that disk. It takes no space before it is written.
const SHARED_DISK_SIZE: u64 = 256 << 20;

/// Ferry's driver modules; what they need comes with them.
const DRIVERS: [&str; 2] = [device::SERIAL_DRIVER, device::DISK_DRIVER];

/// The host VM's memory in GiB.
pub const MEMORY_GIB: u64 = 4;

/// The kernel's sample device, for the tests that run on it, too.
const SAMPLE: &str = "mtty";

/// The module with the in-kernel unit tests.
const KUNIT_TESTS: &str = "ferry_kunit";

/// Firmware and option ROMs that the nested QEMU may ask for.
const FIRMWARE: [(&str, &str); 4] = [
    ("usr/share/seabios", "bios-256k.bin"),
    ("usr/share/qemu", "qboot.rom"),
    ("usr/share/qemu", "kvmvapic.bin"),
    ("usr/share/qemu", "linuxboot_dma.bin"),
];

/// Programs of the guest, which put load on a disk and look after it.
const GUEST_PROGRAMS: [&str; 5] = [
    "usr/bin/fio",
    "usr/sbin/nvme",
    "usr/sbin/mke2fs",
    "usr/sbin/e2fsck",
    "usr/sbin/blkdiscard",
];

/// Modules of the stock kernel that a guest with disks needs, or with a balloon, with parameters. With queues of its
/// own for writes a guest with one processor has two pairs of them.
const GUEST_MODULES: [(&str, &str); 4] = [
    ("nvme", "write_queues=1"),
    ("virtio_blk", ""),
    ("ext4", ""),
    ("virtio_balloon", ""),
];

/// Where the guest's first process finds the order in which they are loaded.
const GUEST_MODULES_ORDER: &str = "/lib/modules/order";

/// How long a kernel may take to say its first word when KVM is probed.
const PROBE_LIMIT: Duration = Duration::from_secs(15);

/// What the host VM says when KVM works.
const PROBE_WORD: &str = "Linux version";

/// Whether somebody wants this to end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How much later than we a host VM ends itself, in case that we are gone.
const GRACE: Duration = Duration::from_secs(10);

/// How long it takes at most until an interruption is noticed.
const PATIENCE: Duration = Duration::from_millis(500);

/// Has SIGINT, SIGTERM and SIGHUP end a run in good order: VMs are ended and files removed.
pub fn catch_signals() -> Result<()> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed)).context("catching signals")
}

/// What a host VM is made of.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What it does.
    pub stages: Vec<Stage>,
    /// Run the debug kernel instead of the stock one.
    pub debug: bool,
    /// Load Ferry's modules.
    pub driver: bool,
    /// Begin with the in-kernel unit tests.
    pub kunit: bool,
    /// Parameters of the driver module.
    pub parameters: String,
    /// Carry a guest, and the QEMUs that the stages ask for.
    pub nested: bool,
    /// The mdev type of the scenarios.
    pub device: Option<String>,
    /// Static programs to carry besides `lab-host`.
    pub programs: Vec<String>,
    /// Other files to carry, into [`job::PROGRAMS`].
    pub files: Vec<PathBuf>,
    /// When the VM is ended, whatever it does.
    pub limit: Duration,
}

/// A host VM that runs. It ends when this is dropped.
pub struct Machine {
    child: Child,
    input: ChildStdin,
    events: Receiver<Result<Event>>,
    deadline: Instant,
    finished: bool,
    processors: u32,
    /// What the VM looked like from outside when something in it got stuck.
    outside: String,
    directory: TempDir,
}

/// How the host VM's processors are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// By the machine's own, with room for a nested hypervisor.
    Kvm,
    /// By translation, which has AMD's virtualisation.
    Tcg,
}

impl Accelerator {
    fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // With five-level page tables a kernel with KASAN once gave a false report. With fast
            // string instructions kernels copy by them, which are emulated byte by byte.
            Self::Tcg => [
                "-accel",
                "tcg,thread=multi,tb-size=1024",
                "-cpu",
                "max,la57=off,erms=off,fsrm=off",
            ],
        }
    }

    /// How many processors a host VM has; `nested` is whether it runs guests.
    ///
    /// An emulated one that runs guests has one. QEMU up to 11.1 at least (`helper_vmrun()` in
    /// `svm_helper.c`) leaves the vector of an interrupt that it has injected into a guest in
    /// `exception_index`. When another thread then has the processor leave its loop, which is
    /// what processors do to each other before some atomic accesses, and the guest has not
    /// exited since, the guest gets the interrupt again, in the middle of a handler or with
    /// interrupts off. It then waits for ever for a lock that it holds, or its state is lost and
    /// KVM reports an internal error. A processor on its own is left alone, but for a main loop
    /// whose call to look at an interrupt comes when the interrupt has been taken already.
    pub fn processors(self, nested: bool) -> u32 {
        match self {
            Self::Tcg if nested => 1,
            _ => 2,
        }
    }

    /// For a person.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG, as KVM cannot be used here",
        }
    }

    /// What works on this machine. That `/dev/kvm` is there says little: something is run.
    pub fn probe(components: &Components, kernel: &Path) -> Result<Self> {
        let usable = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_ok();
        let nested = ["kvm_amd", "kvm_intel"].iter().any(|module| {
            fs::read_to_string(format!("/sys/module/{module}/parameters/nested"))
                .is_ok_and(|value| matches!(value.trim(), "1" | "Y"))
        });
        if !usable || !nested {
            return Ok(Self::Tcg);
        }
        let mut command = limited(components.host_qemu()?, PROBE_LIMIT);
        let output = command
            .args(Self::Kvm.arguments())
            .args([
                "-machine",
                "q35",
                "-m",
                "256M",
                "-nodefaults",
                "-display",
                "none",
            ])
            .args([
                "-no-reboot",
                "-serial",
                "stdio",
                "-append",
                "console=ttyS0 panic=-1",
            ])
            .arg("-kernel")
            .arg(kernel_image(kernel)?)
            .stdin(Stdio::null())
            .output()
            .context("probing KVM")?;
        let works = String::from_utf8_lossy(&output.stdout).contains(PROBE_WORD);
        Ok(if works { Self::Kvm } else { Self::Tcg })
    }
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

/// Writes the guest's initramfs: its first process, programs for its disks, and the modules that
/// disks need.
fn write_guest(components: &Components, path: &Path) -> Result<()> {
    let mut archive = Initramfs::create(path)?;
    archive.file("/init", &components.program("lab-guest")?, true)?;
    add_busybox(components, &mut archive)?;
    let root = components.guest_tools()?;
    for program in GUEST_PROGRAMS {
        add_program(root, program, "", &mut archive)?;
    }
    let kernel = kernel_modules(components.kernel(false)?)?;
    let available = Modules::find(&[], &kernel)?;
    let mut modules = Vec::new();
    for (name, parameters) in GUEST_MODULES {
        let closure = available
            .closure(name)
            .context("collecting the guest's modules")?;
        let added = add_modules(&mut archive, closure, &modules)?;
        modules.extend(added.into_iter().map(|module| job::Module {
            parameters: if module.name == name {
                parameters.to_owned()
            } else {
                String::new()
            },
            ..module
        }));
    }
    let order: String = modules
        .iter()
        .map(|module| format!("{} {}\n", module.path, module.parameters))
        .collect();
    archive.data(GUEST_MODULES_ORDER, order.as_bytes(), false)?;
    archive.finish()
}

/// Writes busybox and its commands into `archive`.
fn add_busybox(components: &Components, archive: &mut Initramfs) -> Result<()> {
    archive.file("/bin/busybox", &components.busybox()?, true)?;
    for applet in BUSYBOX_APPLETS {
        archive.symlink(&format!("/bin/{applet}"), "busybox")?;
    }
    Ok(())
}

/// Writes a program of `root` into `archive`, with the libraries that it needs, all below `place`.
fn add_program(root: &Path, program: &str, place: &str, archive: &mut Initramfs) -> Result<()> {
    let file = root.join(program);
    archive.file(&format!("{place}/{program}"), &file, true)?;
    for (name, path) in libraries::needed(root, &file)? {
        let directory = if name.starts_with("ld-linux") {
            "lib64"
        } else {
            "usr/lib/x86_64-linux-gnu"
        };
        archive.file(&format!("{place}/{directory}/{name}"), &path, true)?;
    }
    Ok(())
}

/// Writes a QEMU into `archive`.
fn add_qemu(components: &Components, qemu: Qemu, archive: &mut Initramfs) -> Result<()> {
    let (root, place) = (components.guest_qemu(qemu)?, qemu.root());
    add_program(root, "usr/bin/qemu-system-x86_64", place, archive)?;
    for (directory, name) in FIRMWARE {
        archive.file(
            &format!("{place}/usr/share/qemu/{name}"),
            &root.join(directory).join(name),
            false,
        )?;
    }
    Ok(())
}

/// Writes modules into `archive`, except for those that are `known` to be there.
fn add_modules(
    archive: &mut Initramfs,
    modules: Vec<Module>,
    known: &[job::Module],
) -> Result<Vec<job::Module>> {
    let mut added = Vec::new();
    for module in modules {
        if known.iter().any(|known| known.name == module.name) {
            continue;
        }
        let path = format!("/lib/modules/{}.ko", module.name);
        archive.data(&path, &module.content, false)?;
        added.push(job::Module {
            name: module.name,
            path,
            parameters: String::new(),
            optional: false,
        });
    }
    Ok(added)
}

/// Writes the host VM's initramfs.
fn write_host(components: &Components, plan: &Plan, directory: &Path) -> Result<PathBuf> {
    let path = directory.join("host.cpio");
    let mut archive = Initramfs::create(&path)?;
    archive.file("/init", &components.program("lab-host")?, true)?;
    add_busybox(components, &mut archive)?;
    for program in &plan.programs {
        let from = components.program(program)?;
        archive.file(&format!("{}/{program}", job::PROGRAMS), &from, true)?;
    }
    for file in &plan.files {
        let name = file.file_name().and_then(|name| name.to_str());
        let name = name.with_context(|| format!("{} has no name", file.display()))?;
        archive.file(&format!("{}/{name}", job::PROGRAMS), file, true)?;
    }

    let mut own = Vec::new();
    if plan.driver {
        own.push(components.modules()?);
        own.extend(components.samples());
    }
    let kernel = kernel_modules(components.kernel(plan.debug)?)?;
    let available = Modules::find(&own, &kernel)?;
    let mut wanted = HOST_MODULES
        .map(|(name, optional)| (name, "", optional))
        .to_vec();
    if plan.driver {
        wanted.extend(DRIVERS.map(|driver| (driver, &*plan.parameters, false)));
        wanted.push((SAMPLE, "", true));
    }
    let on_slow_disk = |stage: &Stage| matches!(stage, Stage::SpeedOnSlowDisk { .. });
    if plan.stages.iter().any(on_slow_disk) {
        wanted.push((job::SLOW_DISK, job::SLOW_DISK_PARAMETERS, false));
    } else if plan.driver {
        // Tests make disks of their own.
        wanted.push((job::SLOW_DISK, "nr_devices=0", true));
    }
    let mut modules: Vec<job::Module> = Vec::new();
    for (name, parameters, optional) in wanted {
        let closure = match available.closure(name) {
            Ok(closure) => closure,
            Err(_) if optional => continue,
            Err(error) => return Err(error).context("collecting the host's modules"),
        };
        // What an optional module needs loads on any processor.
        let added = add_modules(&mut archive, closure, &modules)?
            .into_iter()
            .map(|module| job::Module {
                optional: optional && module.name == name,
                parameters: if module.name == name {
                    parameters.to_owned()
                } else {
                    String::new()
                },
                ..module
            });
        modules.extend(added);
    }
    let mut stages = plan.stages.clone();
    if plan.kunit {
        let closure = available
            .closure(KUNIT_TESTS)
            .context("collecting the unit tests")?;
        let tests = add_modules(&mut archive, closure, &modules)?;
        stages.insert(0, Stage::Kunit { modules: tests });
    }

    if plan.nested {
        let qemus: BTreeSet<_> = plan.stages.iter().flat_map(Stage::qemus).collect();
        for qemu in qemus {
            add_qemu(components, qemu, &mut archive)?;
        }
        let guest = directory.join("guest.cpio");
        write_guest(components, &guest)?;
        archive.file(job::GUEST_INITRD, &guest, false)?;
        archive.file(
            job::GUEST_KERNEL,
            &kernel_image(components.kernel(false)?)?,
            false,
        )?;
    }
    let job = Job {
        modules,
        stages,
        device: plan.device.clone(),
    };
    archive.data(
        job::PATH,
        &serde_json::to_vec(&job).context("writing the job")?,
        false,
    )?;
    archive.finish()?;
    Ok(path)
}

/// Commands of busybox that are of use in a VM.
const BUSYBOX_APPLETS: [&str; 48] = [
    "sh",
    "cat",
    "ls",
    "echo",
    "dmesg",
    "grep",
    "sed",
    "awk",
    "head",
    "tail",
    "sort",
    "wc",
    "od",
    "hexdump",
    "dd",
    "mkdir",
    "rm",
    "rmdir",
    "cp",
    "mv",
    "ln",
    "find",
    "ps",
    "kill",
    "sleep",
    "env",
    "insmod",
    "rmmod",
    "lsmod",
    "mount",
    "umount",
    "test",
    "tr",
    "cut",
    "timeout",
    "readlink",
    "seq",
    "true",
    "cmp",
    "sha256sum",
    "sync",
    "stat",
    "basename",
    "touch",
    "truncate",
    "printf",
    "false",
    "uniq",
];

impl Machine {
    /// Starts the host VM of `plan`.
    pub fn start(components: &Components, plan: &Plan, accelerator: Accelerator) -> Result<Self> {
        let directory = temporary_directory()?;
        let initrd = write_host(components, plan, directory.path())?;
        let file = |name: &str| directory.path().join(name).display().to_string();
        let shared = file(SHARED_DISK);
        File::create(&shared)
            .and_then(|file| file.set_len(SHARED_DISK_SIZE))
            .context("making a disk")?;
        let shared_disk = format!("virtio-blk-pci,drive=shared,serial={SHARED_DISK},share-rw=on");
        let processors = accelerator.processors(plan.nested);
        let mut command = limited(components.host_qemu()?, plan.limit + GRACE);
        command
            .args(accelerator.arguments())
            .args(["-machine", "q35", "-m", &format!("{MEMORY_GIB}G")])
            .args(["-smp", &processors.to_string()])
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
            ])
            .args(["-d", "cpu_reset", "-D"])
            .arg(file(RESETS_LOG))
            .args(["-bios", "qboot.rom"])
            .arg("-kernel")
            .arg(kernel_image(components.kernel(plan.debug)?)?)
            .arg("-initrd")
            .arg(&initrd)
            // The serial port has the console's first words, until the virtio console is there.
            .args([
                "-append",
                "console=hvc0 earlycon=uart8250,io,0x3f8 panic=-1 mitigations=off",
            ])
            .args(["-serial", &format!("file:{}", file(EARLY_LOG))])
            .args([
                "-qmp",
                &format!("unix:{},server=on,wait=off", file(MONITOR)),
            ])
            .args(["-device", "virtio-serial-pci"])
            .args([
                "-chardev",
                &format!("file,id=console,path={}", file(CONSOLE_LOG)),
            ])
            .args(["-device", "virtconsole,chardev=console"])
            .args(["-chardev", "stdio,id=report,signal=off"])
            .args([
                "-device",
                &format!("virtserialport,chardev=report,name={}", event::PORT),
            ])
            .args([
                "-device",
                &format!("isa-debug-exit,iobase={:#x},iosize=1", job::EXIT_PORT),
            ])
            .args([
                "-blockdev",
                &format!(
                    "raw,node-name=shared,discard=unmap,file.driver=file,file.filename={shared}"
                ),
            ])
            .args(["-device", &shared_disk, "-device", &shared_disk])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(directory.path().join(VMM_LOG)).context("creating a log")?);
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
            directory,
        })
    }

    /// Waits for the next event.
    ///
    /// An error when the VM ended without having finished its job, with what its logs say.
    fn next_event(&mut self) -> Result<Event> {
        loop {
            if INTERRUPTED.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            match self.events.recv_timeout(PATIENCE) {
                Ok(event) => return event,
                Err(RecvTimeoutError::Timeout) if Instant::now() < self.deadline => {}
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "the host VM did not end in time{}\n{}",
                        self.look(),
                        self.log_tails()
                    )
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().context("waiting for the host VM")?;
                    if self.took_triple_fault() {
                        return Err(TripleFault(self.log_tails()).into());
                    }
                    bail!(
                        "the host VM ended too early ({status})\n{}",
                        self.log_tails()
                    )
                }
            }
        }
    }

    /// Reads events until the job is done, and gives each to `each`.
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
                // The VM ends as soon as it reads this; it may be gone before the write is.
                let _ = writeln!(self.input, "{}", event::HEARD);
                return match error {
                    Some(error) => {
                        bail!(
                            "the host VM could not do its job: {error}\n{}",
                            self.log_tails()
                        )
                    }
                    None => Ok(()),
                };
            }
        }
    }

    /// What the VM's processors and their interrupts look like, which its own kernel may not know:
    /// a processor that sleeps while an interrupt is requested has lost it.
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
        // Where it is, and whether it halts.
        for line in monitor.human("info registers -a").lines() {
            if line.starts_with("CPU#") || line.starts_with("RIP=") {
                text.push_str(&format!("\n{line}"));
            }
        }
        text
    }

    /// Everything that the console said.
    pub fn console(&self) -> String {
        let log = |name| fs::read(self.directory.path().join(name)).unwrap_or_default();
        let (early, console) = (log(EARLY_LOG), log(CONSOLE_LOG));
        format!(
            "{}{}",
            String::from_utf8_lossy(&early),
            String::from_utf8_lossy(&console)
        )
    }

    /// Copies the logs to `directory`, each with `prefix`.
    pub fn keep_logs(&self, directory: &Path, prefix: &str) -> Result<()> {
        fs::create_dir_all(directory)
            .with_context(|| format!("creating {}", directory.display()))?;
        for name in LOGS {
            let from = self.directory.path().join(name);
            if from.exists() {
                let to = directory.join(format!("{prefix}-{name}"));
                fs::copy(&from, &to).with_context(|| format!("writing {}", to.display()))?;
            }
        }
        Ok(())
    }

    /// Whether an emulated processor gave up.
    fn took_triple_fault(&self) -> bool {
        let log = fs::read(self.directory.path().join(RESETS_LOG)).unwrap_or_default();

        String::from_utf8_lossy(&log).contains("Triple fault")
    }

    fn log_tails(&self) -> String {
        let mut tails = String::new();
        for name in LOGS {
            let log = fs::read(self.directory.path().join(name)).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<_> = log.lines().collect();
            if !lines.is_empty() {
                tails.push_str(&format!("--- the end of {name}:\n"));
                for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
                    tails.push_str(line.trim_end());
                    tails.push('\n');
                }
            }
        }
        tails
    }
}

/// The socket of QEMU's monitor.
const MONITOR: &str = "monitor";

const EARLY_LOG: &str = "early.log";
const CONSOLE_LOG: &str = "console.log";
const VMM_LOG: &str = "qemu.log";
const LOGS: [&str; 4] = [EARLY_LOG, CONSOLE_LOG, VMM_LOG, RESETS_LOG];

/// Where QEMU says why it reset a processor that it emulates.
const RESETS_LOG: &str = "resets.log";

/// A processor of the host VM took a triple fault and its kernel had no chance to say a word.
///
/// QEMU's emulation of nested virtualisation comes to this once in a while. A kernel that crashes by
/// itself says so first.
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

/// Lines of each log that an error shows.
const TAIL_LINES: usize = 25;

impl Drop for Machine {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            if !self.finished {
                if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
                    // "timeout" hands the signal on, and kills what does not heed it.
                    let _ = kill_process(pid, Signal::TERM);
                }
            }
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulated_host_of_guests_has_one_processor() {
        assert_eq!(Accelerator::Tcg.processors(true), 1);
        assert_eq!(Accelerator::Tcg.processors(false), 2);
        assert_eq!(Accelerator::Kvm.processors(true), 2);
    }
}
