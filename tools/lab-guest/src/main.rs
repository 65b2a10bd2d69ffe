// SPDX-License-Identifier: GPL-2.0

//! The first process of the guest that is migrated.
//!
//! It keeps the guest's devices busy: it streams numbered lines through every port of the serial
//! card and through its network card ([`stream`], [`lab_guest::flow`]), and runs the loads that the host asks for on its
//! disks ([`load`]). It runs the
//! scripts that the host sends ([`shell`]), suspends its devices ([`suspend`]), watches its kernel's log ([`watch`]), and reports over a
//! virtio-serial port. Scripts run the same program for what the guest's tools cannot do ([`atomic`]). It knows nothing of migration: its data has to stay whole in any case.
//!
//! Locks: each stream and each load has its own, and the report port has one, which is taken last
//! and alone.

#![forbid(unsafe_code)]

mod atomic;
mod card;
mod disk;
mod host;
mod load;
mod modules;
mod pci;
mod serial;
mod shell;
mod stream;
mod suspend;
mod watch;

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use host::Host;
use lab_guest::datagram::Side;
use lab_guest::flow::Flow;
use lab_guest::init;
use lab_guest::report::Report;
use lab_guest::report::Request;
use load::Running;
use stream::Stream;

/// How often progress is reported.
const BEAT: Duration = Duration::from_millis(250);

/// The flow of datagrams, if one was begun.
type CurrentFlow = Arc<Mutex<Option<Flow>>>;

fn report_progress(streams: &[Arc<Stream>], disks: &[String], flow: &CurrentFlow, host: &Host) {
    for beat in 0.. {
        let totals = stream::totals(streams);
        let datagrams = {
            let flow = flow.lock().unwrap_or_else(PoisonError::into_inner);
            flow.as_ref().map_or(0, |flow| flow.so_far().received)
        };
        host.say(&Report::Progress {
            beat,
            sent: totals.sent,
            received: totals.received,
            faults: totals.faults,
            disks: disk::counters(disks),
            datagrams,
            packets: card::packets(),
        });
        thread::sleep(BEAT);
    }
}

/// The guest's work.
struct Guest {
    host: Arc<Host>,
    streams: Vec<Arc<Stream>>,
    loads: Vec<Arc<Running>>,
    flow: CurrentFlow,
}

impl Guest {
    fn flow(&self) -> MutexGuard<'_, Option<Flow>> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Start => stream::set_running(&self.streams, true),
            Request::Stop => {
                stream::set_running(&self.streams, false);
                for load in &self.loads {
                    load.end();
                }
                stream::flush(&self.streams);
                let loads = self.loads.drain(..).map(|load| load.wait()).collect();
                let ports = self.streams.iter().map(|stream| stream.verdict()).collect();
                self.host.say(&Report::Verdict {
                    last: true,
                    ports,
                    loads,
                });
            }
            Request::Verdict => {
                let ports = self.streams.iter().map(|stream| stream.verdict()).collect();
                let loads = self.loads.iter().map(|load| load.so_far()).collect();
                self.host.say(&Report::Verdict {
                    last: false,
                    ports,
                    loads,
                });
            }
            Request::Load(order) => {
                let repeated = order.repeat;
                let load = Running::begin(order, &self.host);
                // A load that is not repeated is answered when it ends.
                if repeated {
                    self.loads.push(load);
                }
            }
            Request::BeginFlow(settings) => match Flow::open(Side::Guest, settings) {
                Ok(flow) => {
                    flow.start();
                    *self.flow() = Some(flow);
                }
                Err(error) => self.host.complain(&error),
            },
            Request::StopFlow => {
                let sent = self.flow().as_ref().map_or(0, Flow::stop);
                self.host.say(&Report::FlowStopped { sent });
            }
            Request::EndFlow { sent } => {
                let flow = self.flow().take();
                let tally = flow.map(|flow| flow.end(sent)).unwrap_or_default();
                self.host.say(&Report::FlowEnded { tally });
            }
            Request::Run { id, script } => shell::begin(id, script, &self.host),
            // The reader of requests does this itself.
            Request::Suspend { .. } => {}
        }
    }
}

fn run() -> Result<()> {
    init::mount_all()?;
    init::mount_at("tmpfs", "/tmp")?;
    let (host, requests) = Host::open()?;
    let host = Arc::new(host);
    let mut requests = BufReader::new(requests).lines();
    watch::begin(&host)?;

    let mut ports = serial::find_ports()?;
    let mut streams = ports
        .iter()
        .map(|name| Stream::open(name, &host))
        .collect::<Result<Vec<_>>>()?;
    if card::set_up().inspect_err(|error| host.complain(error))? {
        streams.push(Stream::connect(&host).inspect_err(|error| host.complain(error))?);
        ports.push(stream::TCP.to_owned());
    }
    let disks = disk::find_all().inspect_err(|error| host.complain(error))?;
    let names: Vec<_> = disks.iter().map(|disk| disk.name.clone()).collect();

    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    host.say(&Report::Ready {
        ports,
        disks,
        kernel: kernel.trim_end().to_owned(),
    });
    let flow = CurrentFlow::default();
    let (its_streams, its_flow, its_host) = (streams.clone(), flow.clone(), host.clone());
    thread::spawn(move || report_progress(&its_streams, &names, &its_flow, &its_host));

    let mut guest = Guest {
        host: host.clone(),
        streams,
        loads: Vec::new(),
        flow,
    };
    while let Some(request) = requests.next() {
        let request = request.context("reading requests")?;
        if request.is_empty() {
            continue;
        }
        match serde_json::from_str(&request) {
            Ok(Request::Suspend { id }) => {
                let (suspended, port) = host.reopen_after(suspend::run)?;
                requests = BufReader::new(port).lines();
                let (status, output) = match suspended {
                    Ok(()) => (0, String::new()),
                    Err(error) => (1, format!("{error:#}")),
                };
                host.say(&Report::Ran { id, status, output });
            }
            Ok(request) => guest.answer(request),
            Err(error) => host.say(&Report::Problem {
                text: format!(
                    "a request that is none: \"{}\": {error}",
                    request.escape_default()
                ),
            }),
        }
    }
    anyhow::bail!("the report port was closed")
}

/// Does for a script what `arguments` say.
fn serve_script(arguments: &[String]) -> Result<()> {
    match arguments {
        [command, disk, place] if command == "atomic-write" => {
            let place = place.parse().context("the place of an atomic write")?;
            let (least, most) = atomic::check(disk, place)?;
            println!("{disk}: wrote {most} and {least} bytes atomically");
            Ok(())
        }
        _ => anyhow::bail!("no such command: {arguments:?}"),
    }
}

fn main() -> ExitCode {
    // The kernel may pass the first process options that are not its own.
    if std::process::id() != 1 {
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        return match serve_script(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("lab-guest: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    // A first process that returns makes the kernel panic, which ends the VM, as it should.
    if let Err(error) = run() {
        eprintln!("lab-guest: {error:#}");
    }
    ExitCode::FAILURE
}
