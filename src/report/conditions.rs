//! What surrounded the measurement: run by run beside each other, so that what differs is seen.

use super::html::Html;
use super::names;
use crate::plot::caption;
use crate::roofline::CeilingSource;
use crate::run::{Gpu, Run, RunStatus};
use crate::units::{Bytes, Seconds, percent, si};

/// A condition and what it was in each run; `None` where a run does not say.
struct Row {
    name: &'static str,
    term: Option<&'static str>,
    values: Vec<Option<String>>,
}

fn rows(runs: &[Run]) -> Vec<Row> {
    let row = |name, of: &dyn Fn(&Run) -> Option<String>| Row {
        name,
        term: None,
        values: runs.iter().map(of).collect(),
    };
    let about = |name, term, of: &dyn Fn(&Run) -> Option<String>| Row { term: Some(term), ..row(name, of) };
    let mut all = vec![
        row("device", &|r| Some(format!("{} ({})", r.device.name, r.device.kind))),
        row("device id", &|r| r.device.id.clone()),
        row("device memory", &|r| Some(Bytes(r.device.memory_bytes).human())),
        row("last-level cache", &|r| r.device.cache_bytes.map(|b| Bytes(b).human())),
        row("datasheet profile", &|r| r.device.profile.clone()),
        row("host", &host),
        row("model", &|r| Some(format!("{}, {} layers ({})", r.model.name, r.model.layers, r.model.source))),
        about("layers measured", "scaled", &layers),
        row("instruction set", &|r| Some(r.conditions.as_ref()?.instruction_set.clone())),
        row("threads", &threads),
        row("weights in huge pages", &|r| r.conditions.as_ref()?.huge_page_share.map(percent)),
        row("load of other processes", &|r| {
            Some(format!("{:.2} cores", r.conditions.as_ref()?.foreign_load?))
        }),
        row("weights", &|r| r.conditions.as_ref().map(|c| format!("{}, seed {}", c.weights_from, c.seed))),
        about("energy from", "energy", &|r| r.conditions.as_ref()?.energy_source.clone()),
    ];
    let gpu = |name, of: &dyn Fn(&Gpu) -> Option<String>| {
        row(name, &|r: &Run| of(r.conditions.as_ref()?.gpu.as_ref()?))
    };
    let on_or_off = |on: bool| if on { "on" } else { "off" }.to_string();
    all.extend([
        gpu("driver", &|g| Some(format!("{}, CUDA {}", g.driver.as_deref().unwrap_or("unknown"), g.cuda))),
        gpu("compute capability", &|g| {
            Some(format!("{}, {} multiprocessors", g.capability, g.multiprocessors))
        }),
        gpu("clock limits", &clocks),
        gpu("ECC", &|g| g.ecc.map(on_or_off)),
        gpu("MIG", &|g| g.mig.map(on_or_off)),
        gpu("power limit", &power),
        gpu("idle power", &|g| g.idle_watts.map(|w| si(w, "W"))),
        gpu("other processes on the GPU", &|g| g.other_processes.map(|n| n.to_string())),
        gpu("throttled by", &throttling),
        gpu("not known", &unavailable),
    ]);
    all.extend([
        row("products of many rows", &|r| r.plan.as_ref()?.gemm.clone()),
        about("verification", "verification", &verification),
        row("plan", &plan),
        about("trials", "trial", &trials),
        row("time", &|r| {
            let c = r.conditions.as_ref()?;
            let (wall, budget) = (Seconds(c.wall_seconds).human(), Seconds(c.budget_seconds).human());
            Some(format!("{wall} of a budget of {budget}"))
        }),
        row("begun", &|r| Some(caption::date(&r.created))),
        row("written by", &|r| Some(format!("{} {}", r.tool.name, r.tool.version))),
        row("command line", &|r| (!r.argv.is_empty()).then(|| r.argv.join(" "))),
    ]);
    all.retain(|row| row.values.iter().any(Option::is_some));
    all
}

fn host(run: &Run) -> Option<String> {
    let host = &run.host;
    let physical = host.physical_cores.map_or(String::new(), |n| format!("{n} cores, "));
    Some(format!(
        "{}, {physical}{} hardware threads, {}; {} ({})",
        host.cpu,
        host.logical_cores,
        Bytes(host.memory_bytes).human(),
        host.os,
        host.arch
    ))
}

fn layers(run: &Run) -> Option<String> {
    let point = run.points.first()?;
    Some(format!("{} of {}", point.layers_measured, point.layers_total))
}

fn threads(run: &Run) -> Option<String> {
    let conditions = run.conditions.as_ref()?;
    let threads = conditions.threads?;
    let cpus: Vec<String> = conditions.pinned_cpus.iter().map(u32::to_string).collect();
    Some(match cpus.is_empty() {
        true => format!("{threads}, not pinned"),
        false => format!("{threads}, pinned to {}", cpus.join(", ")),
    })
}

fn clocks(gpu: &Gpu) -> Option<String> {
    let named = [("multiprocessors", gpu.sm_clock_limit_hz), ("memory", gpu.memory_clock_hz)];
    let parts: Vec<String> =
        named.into_iter().filter_map(|(name, hz)| Some(format!("{name} {}", si(hz?, "Hz")))).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn power(gpu: &Gpu) -> Option<String> {
    let limit = si(gpu.power_limit_watts?, "W");
    Some(match gpu.power_limit_default_watts.filter(|w| Some(*w) != gpu.power_limit_watts) {
        Some(default) => format!("{limit}, {} by default", si(default, "W")),
        None => limit,
    })
}

fn throttling(gpu: &Gpu) -> Option<String> {
    let mut reasons: Vec<&str> = gpu
        .readings
        .iter()
        .filter_map(|r| r.throttle_reasons.as_ref())
        .flatten()
        .map(String::as_str)
        .collect();
    reasons.sort_unstable();
    reasons.dedup();
    (!reasons.is_empty()).then(|| reasons.join(", "))
}

fn unavailable(gpu: &Gpu) -> Option<String> {
    let all: Vec<String> = gpu.unavailable.iter().map(|(field, why)| format!("{field}: {why}")).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn verification(run: &Run) -> Option<String> {
    let v = run.verification.as_ref()?;
    let passed = if v.passed { "passed" } else { "FAILED" };
    Some(format!(
        "{passed}: largest error {:.1e} of {:.1e} allowed; {}",
        v.largest_error, v.bound, v.description
    ))
}

fn plan(run: &Run) -> Option<String> {
    let plan = run.plan.as_ref()?;
    let phases: Vec<&str> = plan.phases.iter().map(|phase| phase.name()).collect();
    let list = |name: &str, values: &[u32]| {
        let values: Vec<String> = values.iter().map(u32::to_string).collect();
        if values.is_empty() { String::new() } else { format!("; {name} {}", values.join(", ")) }
    };
    Some(format!(
        "{}{}{}{}; {} tokens generated",
        phases.join(" and "),
        list("prompt", &plan.prompts),
        list("batch", &plan.batches),
        list("context", &plan.contexts),
        plan.generate
    ))
}

fn trials(run: &Run) -> Option<String> {
    let asked = run.plan.as_ref().map(|plan| format!(" of {} asked for", plan.repeat)).unwrap_or_default();
    let processes = match run.processes.len() {
        0 | 1 => String::new(),
        n => format!(", in {n} processes"),
    };
    (!run.trials.is_empty()).then(|| format!("{}{asked}{processes}", run.trials.len()))
}

/// The section.
pub(super) fn write(html: &mut Html, runs: &[Run]) {
    html.element("section", &[("id", "conditions"), ("aria-labelledby", "conditions-title")], |html| {
        html.leaf("h2", &[("id", "conditions-title")], "Conditions");
        html.element("div", &[("class", "scroll")], |html| table(html, runs));
        html.line();
        ceilings(html, runs);
        notes(html, runs);
    });
}

fn run_headings(html: &mut Html, runs: &[Run]) {
    for (i, run) in runs.iter().enumerate() {
        html.element("th", &[("scope", "col")], |html| {
            if runs.len() > 1 {
                html.leaf("span", &[("class", &names::hue(i))], &names::letter(i));
            } else {
                html.text(if run.status == RunStatus::Predicted { "this prediction" } else { "this run" });
            }
        });
    }
}

fn table(html: &mut Html, runs: &[Run]) {
    html.element("table", &[("class", "facts"), ("id", "conditions-table")], |html| {
        let caption = match runs.len() {
            1 => "What surrounded the measurement",
            _ => "What surrounded the measurements; ≠ marks what differs",
        };
        html.leaf("caption", &[], caption);
        html.element("thead", &[], |html| {
            html.element("tr", &[], |html| {
                html.leaf("th", &[("scope", "col")], "condition");
                run_headings(html, runs);
            });
        });
        html.element("tbody", &[], |html| {
            for row in rows(runs) {
                let differs = row.values.iter().any(|value| *value != row.values[0]);
                let class = if differs { "differs" } else { "same" };
                html.element("tr", &[("class", class)], |html| {
                    html.element("th", &[("scope", "row")], |html| {
                        match row.term {
                            Some(term) => html.term(term, row.name),
                            None => html.text(row.name),
                        }
                        if differs {
                            html.text(" ≠");
                        }
                    });
                    for value in &row.values {
                        html.leaf("td", &[], value.as_deref().unwrap_or("not known"));
                    }
                });
                html.line();
            }
        });
    });
}

fn ceilings(html: &mut Html, runs: &[Run]) {
    if runs.iter().all(|run| run.ceilings.is_empty()) {
        return;
    }
    html.leaf("h3", &[], "Ceilings");
    html.element("div", &[("class", "scroll")], |html| {
        html.element("table", &[("class", "facts")], |html| {
            html.element("caption", &[], |html| {
                html.text("Rates that bound the work, measured by the run or from a datasheet: see ");
                html.term("roof", "roofs");
            });
            html.element("thead", &[], |html| {
                html.element("tr", &[], |html| {
                    if runs.len() > 1 {
                        html.leaf("th", &[("scope", "col")], "run");
                    }
                    for title in ["ceiling", "type", "source"] {
                        html.leaf("th", &[("scope", "col")], title);
                    }
                    for title in ["rate", "median", "lower quartile", "windows"] {
                        html.leaf("th", &[("scope", "col"), ("class", "n")], title);
                    }
                    html.leaf("th", &[("scope", "col")], "how");
                });
            });
            html.element("tbody", &[], |html| {
                for (r, run) in runs.iter().enumerate() {
                    for ceiling in &run.ceilings {
                        let unit = ceiling.kind.unit();
                        let rate = |rate: Option<f64>| rate.map_or(String::new(), |rate| si(rate, unit));
                        html.element("tr", &[], |html| {
                            if runs.len() > 1 {
                                html.element("td", &[], |html| {
                                    html.leaf("span", &[("class", &names::hue(r))], &names::letter(r));
                                });
                            }
                            html.leaf("th", &[("scope", "row")], &ceiling.kind.name().replace('_', " "));
                            html.leaf(
                                "td",
                                &[],
                                &ceiling.dtype.map_or(String::new(), |dtype| dtype.to_string()),
                            );
                            let source = match ceiling.source {
                                CeilingSource::Measured => "measured",
                                CeilingSource::Datasheet => "datasheet",
                            };
                            html.leaf("td", &[], source);
                            for value in [Some(ceiling.rate), ceiling.median, ceiling.low] {
                                html.leaf("td", &[("class", "n")], &rate(value));
                            }
                            let windows = match ceiling.samples.len() {
                                0 => String::new(),
                                n => n.to_string(),
                            };
                            html.leaf("td", &[("class", "n")], &windows);
                            html.leaf("td", &[], &ceiling.citation);
                        });
                        html.line();
                    }
                }
            });
        });
    });
}

fn notes(html: &mut Html, runs: &[Run]) {
    if runs.iter().all(|run| run.notes.is_empty()) {
        return;
    }
    html.leaf("h3", &[], "Notes");
    html.element("ul", &[("class", "notes")], |html| {
        for (r, run) in runs.iter().enumerate() {
            for note in &run.notes {
                let of = if runs.len() > 1 { format!("{}: ", names::letter(r)) } else { String::new() };
                html.leaf("li", &[], &format!("{of}{note}"));
            }
        }
    });
}
