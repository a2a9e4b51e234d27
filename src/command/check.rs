//! `llmroof check`.
//!
//! Whoever waits for this command has little patience, and a broken GPU may answer to nothing. All that touches a device
//! therefore runs on threads of its own, one per device; this one waits for their news until the budget ends, and then
//! ends the process whatever they are doing.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::against::Against;
use super::device::{self, Chosen};
use super::findings::{Checked, listing};
use super::machine::Machine;
use super::output::{Destination, print, say};
use super::signals::Signals;
use super::{host, progress};
use crate::backend::DeviceInfo;
use crate::backend::weights::RandomWeights;
use crate::check::{Floors, Judgement, decode, judge, processes};
use crate::cli::{CheckArgs, DeviceArgs, Format, OutputArgs};
use crate::error::{Code, Failure, Result};
use crate::export;
use crate::measure::{self, Ended, GpuSensors, Instruments, Observer, Options, RealTime};
use crate::profiles::Catalog;
use crate::run::{Origin, Run, Status};
use crate::telemetry::{self, ForeignLoad};

/// Share of the budget that the measurement may plan with. It overshoots where a machine is slower than it seemed.
const PLANNED: f64 = 0.6;
/// Share after which what is not done is given up: printing takes a moment, and so does the end of a process.
const GIVEN_UP: f64 = 0.95;
/// Share that one piece of a GPU's work may take.
const ONE_PIECE: f64 = 0.25;
/// How often signals are looked for.
const LOOK: Duration = Duration::from_millis(100);
/// Of a thread that measures, as the main thread's.
const STACK: usize = 8 << 20;

/// Runs `llmroof check`.
///
/// # Errors
/// The worst of what was found, with its exit code: a missed floor is [`Code::CheckFailed`].
pub fn run(args: &CheckArgs, machine: &Arc<dyn Machine>) -> Result<()> {
    let began = Instant::now();
    let catalog = Catalog::load(args.profiles.as_deref())?;
    let against = Against::parse(args.against.as_deref(), args.tolerance, &catalog)?;
    let options = Options { budget: args.budget.mul_f64(PLANNED), ..against.options(&catalog)? };
    options.check()?;
    let output = args.output.unwrap_or(Format::Table);
    let destination = Destination::of(&OutputArgs { output, export: args.export.clone() })?;
    let signals = Signals::catch()?;
    let timeout = args.device.timeout.min(args.budget.mul_f64(ONE_PIECE));
    let device = against.device(DeviceArgs { timeout, ..args.device.clone() })?;
    let order = Arc::new(Order { catalog, against, options, device, began, machine: Arc::clone(machine) });

    let (news, heard) = mpsc::channel();
    spawn(move || order.carry_out(&news))?;
    let checked = match wait(&heard, began, args.budget, &signals) {
        Ok(checked) => checked,
        Err(failure) => {
            // The one line also where there is no device to name: what reads it may read nothing else.
            if failure.code == Code::Device {
                print(&format!("failed: {}\n", Failure { hint: None, ..failure.clone() }))?;
            }
            return Err(failure);
        }
    };

    let (refused, checked): (Vec<Checked>, Vec<Checked>) = checked.into_iter().partition(Checked::refused);
    if let Some(failure) = refused.first().and_then(Checked::failure) {
        return Err(failure);
    }
    let lines: String = checked.iter().map(|one| one.line() + "\n").collect();
    let list = listing(&checked);
    let render = |format| export::render_listing(&list, format);
    match args.output {
        None => destination.write_with(&lines, render)?,
        Some(_) => destination.write(render)?,
    }
    let mut failures: Vec<Failure> = checked.iter().filter_map(Checked::failure).collect();
    failures.sort_by_key(|failure| severity(failure.code));
    let worst = failures.pop();
    for failure in failures {
        say(failure);
    }
    worst.map_or(Ok(()), Err)
}

/// A device that fails is worse than one that cannot be judged.
fn severity(code: Code) -> u8 {
    match code {
        Code::Inconclusive => 0,
        other => other as u8,
    }
}

/// What the threads tell.
enum News {
    /// What is checked.
    Devices(Vec<Waiting>),
    /// What one of them is doing now.
    Doing(usize, String),
    /// One has been checked.
    Checked(usize, Result<Judgement>),
    /// There will be no check.
    Refused(Failure),
}

/// A device that is being checked.
struct Waiting {
    device: String,
    is_gpu: bool,
    floors: Floors,
    doing: String,
    result: Option<Result<Judgement>>,
}

impl Waiting {
    /// As it is when the budget has ended: a GPU that has not answered is broken as far as anybody can tell; a CPU, which
    /// runs this program, is slow at most.
    fn given_up(self, budget: Duration) -> Checked {
        let late = || format!("not done within {} s, it was {}", budget.as_secs_f64(), self.doing);
        let result = match self.result {
            Some(result) => result,
            None if self.is_gpu => Err(late_device(late())),
            None => Ok(Judgement::none(&self.floors, late())),
        };
        Checked { device: self.device, is_gpu: self.is_gpu, result }
    }
}

fn late_device(what: String) -> Failure {
    Failure::device(what)
        .hint("look at nvidia-smi and dmesg whether it hangs; a longer --budget if it is only slow")
}

/// Hears the news until every device has been checked or the budget ends.
///
/// # Errors
/// What refused the check, a signal, or no devices within the budget.
fn wait(heard: &Receiver<News>, began: Instant, budget: Duration, signals: &Signals) -> Result<Vec<Checked>> {
    let bar = progress::bar(true);
    bar.set_length(budget.as_millis() as u64);
    let end = budget.mul_f64(GIVEN_UP);
    let mut all: Option<Vec<Waiting>> = None;
    while all.as_ref().is_none_or(|all| all.iter().any(|one| one.result.is_none())) {
        if let Some(code) = signals.caught() {
            return Err(Failure::new(code, "interrupted").hint("nothing was judged"));
        }
        let left = end.saturating_sub(began.elapsed());
        let one = |all: &mut Option<Vec<Waiting>>, at: usize, change: &dyn Fn(&mut Waiting)| {
            all.iter_mut().flatten().nth(at).into_iter().for_each(change);
        };
        match heard.recv_timeout(left.min(LOOK)) {
            Ok(News::Refused(failure)) => return Err(failure),
            Ok(News::Devices(waiting)) => all = Some(waiting),
            Ok(News::Doing(at, what)) => {
                bar.set_position(began.elapsed().as_millis() as u64);
                bar.set_message(what.clone());
                one(&mut all, at, &|waiting| waiting.doing.clone_from(&what));
            }
            Ok(News::Checked(at, result)) => {
                one(&mut all, at, &|waiting| waiting.result = Some(result.clone()))
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::invalid("the check broke off")
                    .hint("report it: this is a mistake in the program"));
            }
        }
        if left.is_zero() {
            break;
        }
    }
    bar.finish_and_clear();
    let late = || format!("not done within {} s, it was looking for devices", budget.as_secs_f64());
    let all = all.ok_or_else(|| late_device(late()))?;
    Ok(all.into_iter().map(|one| one.given_up(budget)).collect())
}

/// What is asked for, of whichever devices.
struct Order {
    catalog: Catalog,
    against: Against,
    options: Options,
    device: DeviceArgs,
    began: Instant,
    machine: Arc<dyn Machine>,
}

impl Order {
    /// Looks for the devices and starts checking all of them. They are checked at the same time: a node's power and
    /// cooling are those of all its GPUs at work.
    fn carry_out(self: Arc<Self>, news: &Sender<News>) {
        let devices = match self.devices() {
            Ok(devices) => devices,
            Err(failure) => return tell(news, News::Refused(failure)),
        };
        let waiting = devices.iter().map(|(chosen, floors)| Waiting {
            device: called(chosen.info()),
            is_gpu: chosen.info().gpu.is_some(),
            floors: floors.clone(),
            doing: "starting".into(),
            result: None,
        });
        tell(news, News::Devices(waiting.collect()));
        for (at, (chosen, floors)) in devices.into_iter().enumerate() {
            let (order, told) = (Arc::clone(&self), news.clone());
            let started = spawn(move || {
                let result = order.check(&chosen, &floors, &mut Watcher { at, news: &told });
                tell(&told, News::Checked(at, result));
            });
            if let Err(failure) = started {
                tell(news, News::Checked(at, Err(failure)));
            }
        }
    }

    /// The devices and the floors of each. One that has none is refused before any of them works.
    fn devices(&self) -> Result<Vec<(Chosen, Floors)>> {
        let with_floors = |chosen: Chosen| {
            let floors =
                self.against.floors(chosen.info(), &self.catalog).map_err(|failure| match chosen.note() {
                    Some(note) => failure.at(note),
                    None => failure,
                })?;
            Ok((chosen, floors))
        };
        device::choose(&self.device)?.into_iter().map(with_floors).collect()
    }

    /// Measures one device and judges it. One that others use is left alone.
    fn check(&self, chosen: &Chosen, floors: &Floors, watcher: &mut Watcher) -> Result<Judgement> {
        watcher.say("opening the device");
        let sensors = sensors(chosen.info());
        let others = others(&sensors);
        if others > 0 {
            let doubt = format!("{} on it: not measured, to disturb neither", processes(others));
            return Ok(Judgement::none(floors, doubt));
        }
        let mut session = chosen.open(self.machine.as_ref()).map_err(|failure| match self.against {
            Against::Run(..) if failure.code == Code::BadInput => failure.at("to run as --against did"),
            _ => failure,
        })?;
        let options = Options { spent: self.began.elapsed(), ..self.options.clone() };
        let weights = RandomWeights::new(options.seed, &options.model);
        let origin = Origin { argv: host::argv(), created: host::now(), host: host::describe() };
        let load = Box::new(ForeignLoad::start());
        let instruments = Instruments { time: &RealTime, sensors: sensors.clone(), load };
        let Ended { run, failure } =
            measure::measure(session.as_mut(), &weights, &options, instruments, origin, watcher)?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        if decode(&run).is_some_and(|point| point.status == Status::Invalid) {
            return Err(Failure::invalid("decode lies above its measured roof").hint(
                "the machine changed its speed during the check, or the ledger is wrong: check again",
            ));
        }
        Ok(judge(&run, floors, self::others(&sensors)))
    }
}

/// A GPU's sensors.
fn sensors(info: &DeviceInfo) -> GpuSensors {
    info.gpu.as_ref().map(|_| match &info.id {
        Some(uuid) => telemetry::gpu_sensors(uuid),
        None => Err("the driver gave no UUID to find them by".into()),
    })
}

/// Other processes that compute on the GPU, as far as that is known.
fn others(sensors: &GpuSensors) -> u32 {
    let sensors = sensors.as_ref().and_then(|sensors| sensors.as_ref().ok());
    sensors.and_then(|sensors| sensors.facts().other_processes).unwrap_or(0)
}

/// `NVIDIA H100 80GB HBM3 (GPU-1b2c...)`.
fn called(info: &DeviceInfo) -> String {
    info.id.as_ref().map_or_else(|| info.name.clone(), |id| format!("{} ({id})", info.name))
}

/// Tells what a measurement is doing. Signals end the whole process, which keeps nothing.
struct Watcher<'a> {
    at: usize,
    news: &'a Sender<News>,
}

impl Watcher<'_> {
    fn say(&self, what: &str) {
        tell(self.news, News::Doing(self.at, what.into()));
    }
}

impl Observer for Watcher<'_> {
    fn doing(&mut self, what: &str, _left: Duration) {
        self.say(what);
    }

    fn measured(&mut self, _run: &Run) -> Result<()> {
        Ok(())
    }

    fn interrupted(&self) -> Option<Code> {
        None
    }
}

/// Who does not listen any more has given up waiting.
fn tell(news: &Sender<News>, what: News) {
    let _ = news.send(what);
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = thread::Builder::new().stack_size(STACK).spawn(work);
    spawned.map(|_| ()).map_err(|e| Failure::device(format!("no thread can be started: {e}")))
}
