#!/usr/bin/env python3
"""Everything that one GPU can show, in one go: fills reports/<device>/.

    cargo build --release
    python3 reports/collect.py [--device cuda:0] [--model llama-8b] [--out reports]

Runs, one after the other and each with its output kept in a file:
  devices   what the driver and NVML say of the card
  verify    the kernels against float64 and against transformers' logits
  measure   the suite, exported as table, CSV and picture; twice, to see how far two runs agree;
            the prefill of 2048 tokens by our kernels and by cuBLASLt
  peers     what PyTorch reaches beside it, between the two runs (where torch is installed)
  sanitizer compute-sanitizer's four tools over a verification (where it is installed)
  counters  ncu's DRAM bytes of single kernels against the ledger's (where it is installed and allowed)
and writes README.md: date, driver, conditions, figures against their targets. What could not run says why there.
The card's settings are left as they are. --quick leaves peers and the sanitizer out.
"""
import argparse
import csv
import datetime
import json
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The last token attends 1000 cached positions and its own.
CONTEXT = 1001
# Stage of the ledger -> kernels that run it for one token.
KERNELS = {
    "qkv": r"^gemv_qkv_1$",
    "attention": r"^attention_decode_",
    "out_proj": r"^gemv_residual_1$",
    "gate_up": r"^gemv_gate_up_1$",
    "down": r"^gemv_residual_1$",
    "lm_head": r"^gemv_lm_head_1$",
}


class Collector:
    """Runs commands, keeps what they say, and remembers how they ended."""

    def __init__(self, options, scratch):
        self.options = options
        # Run files also go where they are asked for by name.
        self.scratch = scratch
        self.folder = None
        self.steps = []

    def run(self, name, command, file=None, timeout=1200):
        """The command's standard output, or None if it failed; both streams go to `file`."""
        shown = " ".join(str(word) for word in command)
        print(f"== {name}: {shown}", flush=True)
        try:
            done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout, cwd=ROOT)
            code, out, err = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired as error:
            code, out, err = "timeout", str(error.stdout or ""), str(error.stderr or "")
        except OSError as error:
            code, out, err = "not started", "", str(error)
        if file and self.folder:
            (self.folder / file).write_text(f"$ {shown}\n{out}{err}exit: {code}\n")
        lines = [line for line in err.splitlines() if line.strip()]
        self.steps.append((name, code, lines[-1] if lines and code != 0 else ""))
        print(f"   exit {code}{': ' + lines[-1] if lines and code != 0 else ''}", flush=True)
        return out if code == 0 else None

    def skip(self, name, why):
        print(f"== {name}: left out, {why}", flush=True)
        self.steps.append((name, "left out", why))

    def llmroof(self, name, *words, file=None):
        return self.run(name, [self.options.llmroof, *words], file)

    def measure(self, name, *words):
        """A run as parsed JSON, its file, table and picture in the folder; None if it failed."""
        stem = self.folder / f"{self.stamp}-{name}"
        exports = [f"--export={stem}.json", f"--export={stem}.csv", f"--export={stem}.md"]
        self.llmroof(
            f"measure, {name}", "measure", "--device", self.options.device, "--model", self.options.model,
            "--reports", self.scratch, "--no-progress", *exports, *words, *self.options.measure, file=f"{stem.name}.txt",
        )
        if not stem.with_suffix(".json").exists():
            return None
        self.llmroof(f"plot, {name}", "plot", f"{stem}.json", "--output", f"{stem}.svg")
        return json.loads(stem.with_suffix(".json").read_text())


def points(run, phase, batch=1):
    """Stage (None: the step) -> point."""
    found = [p for p in (run or {}).get("points", []) if p["phase"] == phase and p["batch"] == batch]
    return {p["stage"]: p for p in found}


def ceiling(run, kind, dtype=None):
    for one in (run or {}).get("ceilings", []):
        if one["kind"] == kind and one["dtype"] == dtype and one["source"] == "measured":
            return one["rate"]
    return None


def median_seconds(run, phase, batch=1):
    step = points(run, phase, batch).get(None)
    return step["seconds"]["median"] if step else None


def ratio(a, b):
    return a / b if a and b else None


def peer_seconds(folder, **wanted):
    """The compiled peer's median seconds for this work."""
    file = folder / "peers.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    for row in rows:
        if "compiled" in row.get("peer", "") and all(row.get(key) == value for key, value in wanted.items()):
            return row["seconds"]
    return None


def best_product(run):
    """Highest rate of a linear stage of the prefill."""
    stages = points(run, "prefill")
    rates = [p["flops_per_second"] for s, p in stages.items() if s in ("qkv", "out_proj", "gate_up", "down")]
    return max(rates, default=None)


def figures(folder, runs):
    """(what, figure, target, goal) of each thing that has a target."""
    first, second = runs.get("first"), runs.get("second")
    own, library = runs.get("prefill-own"), runs.get("prefill-cublaslt")
    decode = points(first, "decode").get(None)
    rows = [
        ("decode batch 1, of the read ceiling", ratio(decode and decode["bytes_per_second"], ceiling(first, "memory_read")), "at least 0.88", "0.95"),
        ("decode batch 32 over batch 1, in time", ratio(median_seconds(first, "decode", 32), median_seconds(first, "decode")), "at most 1.3", ""),
        ("prefill of 2048, our kernels, of cuBLASLt's best stage", ratio((points(own, "prefill").get(None) or {}).get("flops_per_second"), best_product(library)), "at least 0.60 (mma.sync), 0.70 (wgmma)", "0.95"),
        ("decode batch 1, compiled PyTorch's time over ours", ratio(peer_seconds(folder, work="decode", batch=1, context=CONTEXT - 1), median_seconds(first, "decode")), "at least 1.0", "1.25"),
        ("prefill of 2048, compiled PyTorch's time over ours", ratio(peer_seconds(folder, work="prefill", prompt=2048), median_seconds(runs.get("prefill-auto"), "prefill")), "", ""),
        ("seconds that `measure` takes with its defaults", (first or {}).get("conditions", {}).get("wall_seconds"), "under 30", ""),
    ]
    for phase in ("prefill", "decode"):
        a, b = points(first, phase), points(second, phase)
        apart = [abs(b[s]["seconds"]["median"] / a[s]["seconds"]["median"] - 1) for s in a if s in b]
        rows.append((f"largest difference between two runs, {phase} batch 1 and its stages", max(apart, default=None), "at most 0.01", ""))
    return rows


def counters(collector, run):
    """ncu's DRAM bytes of single kernels beside the ledger's: rows for the README."""
    if not shutil.which("ncu"):
        collector.skip("counters", "ncu is not installed")
        return []
    out = collector.run("counters", [
        "ncu", "--clock-control", "none", "--graph-profiling", "node", "--csv", "--print-units", "base",
        "--metrics", "dram__bytes_read.sum,dram__bytes_write.sum", "--kernel-name", "regex:gemv_.*_1$|attention_decode",
        "--launch-count", "200", "--kill", "yes", collector.options.llmroof, "measure", "--device", collector.options.device,
        "--model", collector.options.model, "--layers", "2", "--phase", "decode", "--batch", "1", "--context", CONTEXT, "--budget", "10s",
        "--reports", collector.scratch, "--no-progress",
    ], file="ncu.csv")
    text = out if out is not None else (collector.folder / "ncu.csv").read_text()
    return against_ledger(text, run)


def against_ledger(text, run):
    """(stage, launches, median bytes read and written, the ledger's bytes of one layer)."""
    launches = {}
    lines = [line for line in text.splitlines() if line.startswith('"')]
    for row in csv.DictReader(lines):
        if row.get("Metric Name", "").startswith("dram__bytes"):
            launch = launches.setdefault(row["ID"], [row["Kernel Name"].split("(")[0], 0.0])
            launch[1] += float(row["Metric Value"].replace(",", ""))
    rows = []
    for stage, point in points(run, "decode").items():
        if stage not in KERNELS:
            continue
        ledger = point["bytes"] / (1 if stage == "lm_head" else point["layers_total"])
        # Kernels of the verification's small models have the same names; they move less than a tenth.
        seen = [moved for name, moved in launches.values() if re.search(KERNELS[stage], name) and 0.3 * ledger < moved < 2 * ledger]
        rows.append((stage, len(seen), statistics.median(seen) if seen else None, ledger))
    return rows


def shown(value):
    if value is None:
        return "not seen"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(shown(cell) for cell in row) + " |" for row in rows])


def readme(collector, runs, counted):
    run = runs.get("first") or {}
    device, conditions = run.get("device", {}), run.get("conditions") or {}
    gpu = conditions.get("gpu") or {}
    facts = [
        ("date", collector.stamp), ("device", device.get("name")), ("id", device.get("id")), ("profile", device.get("profile")),
        ("driver", gpu.get("driver")), ("CUDA of the driver", gpu.get("cuda")), ("power limit, W", gpu.get("power_limit_watts")),
        ("ECC", gpu.get("ecc")), ("MIG", gpu.get("mig")), ("idle, W", gpu.get("idle_watts")), ("other processes", gpu.get("other_processes")),
        ("host", (run.get("host") or {}).get("cpu")), ("llmroof", (run.get("tool") or {}).get("version")),
    ]
    ceilings = [(f"{c['kind']} {c['dtype'] or ''}", c["rate"], c["source"], c["citation"]) for c in run.get("ceilings", [])]
    text = [
        f"# {device.get('name', 'unknown device')}", "", "Made by `python3 reports/collect.py`.", "",
        table(("condition", ""), facts), "", "## Figures", "",
        table(("what", "seen", "target", "goal"), figures(collector.folder, runs)), "", "## Ceilings", "",
        table(("ceiling", "bytes/s or FLOP/s", "source", "how"), ceilings), "",
        "## DRAM bytes that the counters saw, one layer", "",
        table(("stage", "launches", "read and written", "ledger", "ratio"), [(*row, ratio(row[2], row[3])) for row in counted])
        if counted else "Not seen.", "", "## Steps", "", table(("step", "exit", "last line of a failure"), collector.steps), "",
    ]
    for note in run.get("notes", []):
        text.append(f"- {note}")
    (collector.folder / "README.md").write_text("\n".join(text) + "\n")


def sanitizer(collector):
    if not shutil.which("compute-sanitizer"):
        collector.skip("sanitizer", "compute-sanitizer is not installed")
        return
    for tool in ("memcheck", "racecheck", "initcheck", "synccheck"):
        collector.run(f"sanitizer {tool}", [
            "compute-sanitizer", "--tool", tool, "--error-exitcode", "9", collector.options.llmroof, "verify",
            "--device", collector.options.device, "--checkpoint", "tests/golden/tiny-gqa-hd128",
        ], file=f"sanitizer-{tool}.txt")
    # Graphs, probes and replays are in a measurement alone.
    collector.run("sanitizer memcheck, measure", [
        "compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "9", collector.options.llmroof, "measure", "--device", collector.options.device,
        "--model", "llama-1b", "--layers", "2", "--batch", "1,32", "--budget", "10s", "--no-progress", "--reports", collector.scratch,
    ], file="sanitizer-measure.txt")


def peers(collector):
    probe = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 'torch sees no GPU')"
    if collector.run("is torch there", [sys.executable, "-c", probe]) is None:
        collector.skip("peers", "torch is not installed or sees no GPU")
        return
    output = collector.folder / "peers.jsonl"
    output.unlink(missing_ok=True)
    for work in ("decode", "prefill", "bw", "gemm"):
        collector.run(f"peers {work}", [sys.executable, "reports/peers.py", work, "--model", collector.options.model, "--out", output], file=f"peers-{work}.txt")


def slug(name):
    return re.sub(r"[^a-z0-9]+", "-", name.lower().removeprefix("nvidia ")).strip("-")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llmroof", default=str(ROOT / "target/release/llmroof"), help="the binary")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--model", default="llama-8b")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "reports")
    parser.add_argument("--quick", action="store_true", help="no peers, no sanitizer")
    parser.add_argument("--measure", action="append", default=[], metavar="OPTION", help="one more option for every `measure`: --measure=--budget=60s")
    with tempfile.TemporaryDirectory() as scratch:
        collect(Collector(parser.parse_args(), pathlib.Path(scratch)))


def collect(collector):
    options = collector.options
    collector.stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    options.out = options.out.resolve()
    if not pathlib.Path(options.llmroof).exists():
        sys.exit(f"error: {options.llmroof} is not there. hint: cargo build --release, or --llmroof PATH")

    # The folder is named after the device that the verification ran on.
    checked = collector.llmroof("verify", "verify", "--device", options.device, "-o", "json")
    if checked is None:
        sys.exit(f"error: {options.device} does not pass its verification: nothing is measured")
    collector.folder = options.out / slug(json.loads(checked)["device"])
    collector.folder.mkdir(parents=True, exist_ok=True)
    (collector.folder / "verify.json").write_text(checked)
    collector.llmroof("devices", "devices", "-o", "json", file="devices.txt")
    for checkpoint in sorted(path.parent for path in (ROOT / "tests/golden").glob("*/config.json")):
        collector.llmroof(f"verify {checkpoint.name}", "verify", "--device", options.device, "--checkpoint", checkpoint, file=f"verify-{checkpoint.name}.txt")

    runs = {}
    defaults = ["--context", str(CONTEXT)]
    runs["first"] = collector.measure("first", *defaults)
    # Between the two runs: the same card, as warm, within minutes.
    if options.quick:
        collector.skip("peers", "--quick")
    else:
        peers(collector)
    runs["second"] = collector.measure("second", *defaults)
    prefill = ["--phase", "prefill", "--prompt", "2048"]
    for gemm in ("own", "cublaslt", "auto"):
        runs[f"prefill-{gemm}"] = collector.measure(f"prefill-{gemm}", *prefill, "--gemm", gemm)
    runs["soaked"] = collector.measure("soaked", *prefill, "--soak", "10s")
    if options.quick:
        collector.skip("sanitizer", "--quick")
    else:
        sanitizer(collector)
    counted = counters(collector, runs["first"])
    readme(collector, runs, counted)
    print(f"all of it is in {collector.folder}; read {collector.folder / 'README.md'}")


if __name__ == "__main__":
    main()
