// SPDX-License-Identifier: GPL-2.0

//! A nested QEMU.

use std::fs;
use std::fs::File;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use lab_guest::report::PORT;
use lab_host::event::What;
use lab_host::job::GUEST_INITRD;
use lab_host::job::GUEST_KERNEL;
use lab_host::vmm::Qemu;
use rustix::event::poll;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::process::kill_process;
use rustix::process::Pid;
use rustix::process::Signal;
use serde_json::json;

use crate::assigned::Assigned;
use crate::guest::Guest;
use crate::guest::Link;
use crate::qmp::Qmp;
use crate::report;
use crate::vm_directory::DIAGNOSIS;
use crate::vm_directory::DIRECTORY;
use crate::vm_directory::PROCESS;

/// The guest's kernel command line. The card's ports come after the four that a PC has. [`crate::endless_wait`] needs
/// `nokaslr`. With `iomem=relaxed` a script reads the registers of a device that has a driver.
const COMMAND_LINE: &str =
    "console=hvc0 quiet panic=-1 mitigations=off nokaslr iomem=relaxed 8250.nr_uarts=12";

/// The memory that a guest boots with, usually.
pub const MEMORY: &str = "256M";

/// How long QEMU may take to open its sockets.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How often the start checks that QEMU still runs.
const START_SLICE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// The hardware that differs between VMs.
#[derive(Default)]
pub struct Hardware {
    /// The QEMU.
    pub qemu: Qemu,
    /// The QEMU whose machine type both sides of a migration use.
    pub machine: Qemu,
    /// Devices that QEMU holds open.
    pub devices: Vec<Assigned>,
    /// Open the devices through their character devices, with iommufd. QEMU then migrates only devices with a dirty log of
    /// their own.
    pub iommufd: bool,
    /// The guest's memory, if not [`MEMORY`].
    pub memory_mib: Option<u64>,
    /// Parameters of the guest's kernel besides [`COMMAND_LINE`].
    pub kernel_options: &'static str,
    /// Further properties of the machine, of its memory and of each device that it holds open, each with the
    /// comma before it.
    pub machine_options: &'static str,
    pub memory_options: &'static str,
    pub device_options: &'static str,
    /// Further arguments of QEMU. They stand before the devices, which an IOMMU requires.
    pub arguments: Vec<String>,
}

impl Hardware {
    /// Whether a device is a network card.
    pub fn has_card(&self) -> bool {
        let mut devices = self.devices.iter();
        devices.any(|device| matches!(device, Assigned::Function(_)))
    }
}

/// A QEMU. It ends when this is dropped.
pub struct Vm {
    /// Its name, such as `A`.
    pub name: String,
    /// Its monitor.
    pub qmp: Qmp,
    /// The connection to the guest.
    pub link: Link,
    qemu: Qemu,
    child: Child,
    directory: PathBuf,
}

/// A command that runs this QEMU with its own libraries.
fn command(qemu: Qemu) -> Command {
    let root = qemu.root();
    let mut command = Command::new(format!("{root}/lib64/ld-linux-x86-64.so.2"));
    command
        .arg("--library-path")
        .arg(format!("{root}/usr/lib/x86_64-linux-gnu"))
        .arg(format!("{root}/usr/bin/qemu-system-x86_64"))
        .arg("-L")
        .arg(format!("{root}/usr/share/qemu"));
    command
}

impl Vm {
    /// Starts a QEMU with `hardware`, either to boot `guest`, or to receive it when it is `incoming`.
    pub fn start(name: &str, guest: &Guest, hardware: &Hardware, incoming: bool) -> Result<Self> {
        let directory = Path::new(DIRECTORY).join(name);
        if directory.exists() {
            fs::remove_dir_all(&directory).context("removing an old VM's files")?;
        }
        fs::create_dir_all(&directory).context("making a VM's directory")?;
        // QEMU connects to these sockets, so that nothing waits until QEMU listens.
        let listen = |socket: &str| {
            let path = directory.join(socket);
            UnixListener::bind(&path).with_context(|| format!("binding {}", path.display()))
        };
        let (monitor, port) = (listen("qmp")?, listen("guest")?);
        let file = |name: &str| directory.join(name).display().to_string();
        let memory = hardware.memory_mib.map(|size| format!("{size}M"));
        let memory = memory.unwrap_or_else(|| MEMORY.to_owned());
        let mut command = command(hardware.qemu);
        command
            // Without this the process would have the name of the dynamic loader.
            .args(["-name", &format!("{name},process={PROCESS}")])
            .args([
                "-machine",
                &format!("{}{}", hardware.machine.machine(), hardware.machine_options),
            ])
            .args(["-accel", "kvm", "-cpu", "host", "-smp", "1"])
            .args(["-m", &format!("{memory}{}", hardware.memory_options)])
            .args(["-nodefaults", "-no-user-config"])
            .args(["-display", "none", "-no-reboot", "-bios", "qboot.rom"])
            .args([
                "-kernel",
                GUEST_KERNEL,
                "-initrd",
                GUEST_INITRD,
                "-append",
                &format!("{COMMAND_LINE} {}", hardware.kernel_options),
            ])
            .args(["-chardev", &format!("socket,id=qmp,path={}", file("qmp"))])
            .args(["-mon", "chardev=qmp,mode=control"])
            .args([
                "-qmp",
                &format!("unix:{},server=on,wait=off", file(DIAGNOSIS)),
            ])
            // A legacy device's notifications are port accesses. A write to memory makes KVM emulate, which
            // KVM 7.3 refuses after any exception of the guest where TCG emulates the host: QEMU
            // leaves the exception's type in EXITINTINFO, and KVM looks at that alone.
            .args([
                "-device",
                "virtio-serial-pci,disable-modern=on,disable-legacy=off",
            ])
            .args([
                "-chardev",
                &format!("file,id=console,path={}", file("console.log")),
            ])
            .args(["-device", "virtconsole,chardev=console"])
            .args([
                "-chardev",
                &format!("socket,id=guest,path={}", file("guest")),
            ])
            .args([
                "-device",
                &format!("virtserialport,chardev=guest,name={PORT}"),
            ]);
        command.args(&hardware.arguments);
        if hardware.iommufd {
            command.args(["-object", "iommufd,id=iommufd"]);
        }
        for (index, device) in hardware.devices.iter().enumerate() {
            // One port for each device, as hot-plugging has it.
            let port = format!(
                "pcie-root-port,id=port{index},chassis={0},slot={0}",
                index + 1
            );
            let option = format!(
                "vfio-pci,id=device{index},bus=port{index},sysfsdev={},{}{}",
                device.path().display(),
                match (hardware.iommufd, device.migrates()) {
                    (true, _) => "iommufd=iommufd",
                    (false, true) => hardware.qemu.migration_option(),
                    (false, false) => "enable-migration=off",
                },
                hardware.device_options
            );
            command.args(["-device", &port, "-device", &option]);
            report::say(What::Opened {
                vm: name.to_owned(),
                device: device.name().to_owned(),
            });
        }
        if incoming {
            command.args(["-incoming", "defer"]);
        }
        let log = File::create(directory.join("qemu.log")).context("creating QEMU's log")?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("QEMU's log")?)
            .stderr(log);
        let child = command.spawn().context("starting QEMU")?;

        let mut starting = Starting {
            child: Some(child),
            directory: directory.clone(),
        };
        let qmp = Qmp::new(name, starting.accept(&monitor)?)?;
        let port = starting.accept(&port)?;
        guest.listen(
            name,
            port.try_clone().context("duplicating the guest's port")?,
        );
        let child = starting.child.take().context("QEMU was lost")?;
        let (name, link) = (name.to_owned(), Link::new(port));
        let mut vm = Self {
            name,
            qmp,
            link,
            qemu: hardware.qemu,
            child,
            directory,
        };
        vm.set_capabilities()?;
        Ok(vm)
    }

    /// Capabilities as libvirt sets them: events, and a return path, by which the source hears whether the destination
    /// could load everything.
    fn set_capabilities(&mut self) -> Result<()> {
        self.set_capability("events", true)?;
        self.set_return_path(true)
    }

    /// Enables or disables the return path.
    pub fn set_return_path(&mut self, on: bool) -> Result<()> {
        self.set_capability("return-path", on)
    }

    /// Sets a migration capability of QEMU.
    pub fn set_capability(&mut self, capability: &str, on: bool) -> Result<()> {
        let capabilities = json!([{ "capability": capability, "state": on }]);
        let arguments = json!({ "capabilities": capabilities });
        self.qmp.execute("migrate-set-capabilities", arguments)?;
        Ok(())
    }

    /// The URI of a socket to which a guest may be migrated.
    pub fn migration_socket(&self) -> String {
        format!("unix:{}", self.directory.join("migration").display())
    }

    /// Has this QEMU, which was started with `-incoming defer`, listen at `uri`.
    pub fn receive(&mut self, uri: &str) -> Result<()> {
        if !self.qemu.routes_incoming_intx() {
            self.reset()?;
        }
        self.qmp
            .execute("migrate-incoming", json!({ "uri": uri }))?;
        Ok(())
    }

    /// Resets the machine.
    fn reset(&mut self) -> Result<()> {
        // With `-no-reboot` a reset would end QEMU.
        self.qmp
            .execute("set-action", json!({ "reboot": "reset" }))?;
        self.qmp.execute("system_reset", json!({}))?;
        self.qmp.wait_name("RESET", START_LIMIT)?;
        self.qmp
            .execute("set-action", json!({ "reboot": "shutdown" }))?;
        Ok(())
    }

    /// QEMU's own messages so far.
    pub fn log(&self) -> String {
        read_log(&self.directory)
    }

    /// Stops or continues QEMU's process. A QEMU that sends data to a stopped one has to wait.
    pub fn freeze(&mut self, frozen: bool) -> Result<()> {
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_child(&self.child), signal).context("stopping QEMU's process")
    }

    /// Kills QEMU outright and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until QEMU ends by itself.
    pub fn wait_end(&mut self, limit: Duration) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
            .context("pidfd_open")?;
        let timeout = Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: 0,
        };
        let ended = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&timeout))
            .context("waiting for QEMU's end")?;
        if ended == 0 {
            bail!("{}: QEMU did not end within {limit:?}", self.name);
        }
        self.child.wait().context("waiting for QEMU's end")?;
        Ok(())
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read_log(directory: &Path) -> String {
    let log = fs::read(directory.join("qemu.log")).unwrap_or_default();
    String::from_utf8_lossy(&log).trim_end().to_owned()
}

/// A QEMU that has not connected to its sockets yet.
struct Starting {
    child: Option<Child>,
    directory: PathBuf,
}

impl Starting {
    fn accept(&mut self, listener: &UnixListener) -> Result<UnixStream> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let mut listening = [PollFd::new(listener, PollFlags::IN)];
            if poll(&mut listening, Some(&START_SLICE)).context("poll")? > 0 {
                return Ok(listener.accept().context("accepting QEMU's connection")?.0);
            }
            let ended = self.child.as_mut().map(Child::try_wait).transpose();
            if let Some(status) = ended.context("waiting for QEMU")?.flatten() {
                bail!(
                    "QEMU ended at once ({status}): {}",
                    read_log(&self.directory)
                );
            }
            if Instant::now() >= deadline {
                bail!(
                    "QEMU did not come within {START_LIMIT:?}: {}",
                    read_log(&self.directory)
                );
            }
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
