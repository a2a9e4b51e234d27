//! Whole command lines, made of valid ones of every subcommand.

use std::cell::RefCell;
use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
use llmroof::cli::Cli;
use llmroof::command::usage;

use super::cases::{Verdict, answered, each};
use super::random::Random;
use super::text::{self, NASTY};

const VALID: [&str; 17] = [
    "measure --model llama-8b --phase decode --batch 1-256*2 --context 1024 --budget 60s --layers 4",
    "measure -m llama-1b --prompt 1000 --generate 100 --device cuda:all --gemm own --timeout 5m --soak 10s",
    "measure --checkpoint dir --threads 2 --isa avx2 --activations f32 --repeat 3 --seed 7 --no-progress",
    "measure --reports new --profiles more -o json --export a.csv --export - --layers all",
    "measure --append run.json --repeat 3 --budget 10s",
    "check --against run.json --tolerance 5% --budget 45s --device cpu -o json --export a.csv",
    "compare base new --threshold 3% --by roof --across device,driver --fail-on inconclusive -o junit",
    "compare --base a.json b.json --new c.json --price BASE=1.5/h,NEW=3/h --export verdict.xml -o markdown",
    "plot a.json b.json -o - --level stage",
    "plot --reports folder --output x.svg",
    "predict -m config.json -d a100-sxm4-80gb --explain --batch 1,8,32 --reports r --export a.md",
    "predict --model ./x/config.json --device l4 --phase prefill --prompt 4294967295 -o markdown",
    "verify --checkpoint dir --device cpu --activations bf16 --seed 18446744073709551615 -o csv",
    "claims a.json b.json --device h100-sxm5 --model llama-8b --profiles p -o json --export claims.md",
    "devices h100-sxm5 --profiles p -o table",
    "models llama-8b --export m.txt",
    "help measure",
];

/// The program's command line, built once: building it takes longer than reading a line.
pub fn built() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// Reads a command line as `main` does.
pub fn read(command: &mut clap::Command, arguments: &[OsString]) -> Verdict {
    let read = command
        .try_get_matches_from_mut(arguments)
        .and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    match read {
        Ok(cli) => {
            let _ = format!("{cli:?}");
            Ok(true)
        }
        Err(e) if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => Ok(true),
        Err(e) if e.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Ok(false),
        Err(e) => answered::<()>(Err(usage::wrong(&e))).map(|_| false),
    }
}

fn damaged(random: &mut Random) -> Vec<OsString> {
    let words =
        |random: &mut Random| -> Vec<String> { random.pick(&VALID).split(' ').map(str::to_owned).collect() };
    let mut line = words(random);
    for _ in 0..random.below(4) {
        let (at, to) = (random.below(line.len()), random.below(line.len()));
        match random.below(9) {
            _ if line.is_empty() => line = words(random),
            0 => drop(line.remove(at)),
            1 => line.insert(to, line[at].clone()),
            2 => line.swap(at, to),
            // A word of another subcommand.
            3 => {
                let others = words(random);
                line.insert(to, random.pick(&others).clone());
            }
            4 => line[at] = random.pick(&NASTY).to_string(),
            5 => line.insert(
                to,
                random.pick(&["--", "-", "", "-h", "-V", "--x=", "-o", "=", "--batch="]).to_string(),
            ),
            6 => line[at] = random.pick(&["a\nb", "é\u{202e}", "\u{1b}[31m", "'", "\\", "*"]).to_string(),
            7 if line[at].len() < 64 => line[at] = line[at].repeat(1 << random.below(12)),
            _ => {
                let bytes = text::damaged(line[at].as_bytes(), random);
                line[at] = String::from_utf8_lossy(&bytes).into_owned();
            }
        }
    }
    let mut line: Vec<OsString> = std::iter::once("llmroof".to_owned()).chain(line).map(Into::into).collect();
    #[cfg(unix)]
    if random.once_in(8) {
        use std::os::unix::ffi::OsStringExt;
        let at = random.below(line.len());
        line[at] = OsString::from_vec(vec![b'a', 0xff, 0xfe]);
    }
    line
}

/// A line and, for a failure's message, its bytes.
struct Line(Vec<OsString>, Vec<u8>);

impl AsRef<[u8]> for Line {
    fn as_ref(&self) -> &[u8] {
        &self.1
    }
}

#[test]
fn command_line() {
    let command = RefCell::new(built());
    each(
        "command line",
        |random| {
            let line = damaged(random);
            let bytes = line.join(&OsString::from(" ")).as_encoded_bytes().to_vec();
            Line(line, bytes)
        },
        |Line(line, _)| read(&mut command.borrow_mut(), line),
    );
}

/// The lines that are damaged are valid ones.
#[test]
fn valid_lines_are_read() {
    let mut command = built();
    for line in VALID {
        let arguments: Vec<OsString> =
            std::iter::once("llmroof").chain(line.split(' ')).map(Into::into).collect();
        assert_eq!(read(&mut command, &arguments), Ok(true), "{line}");
    }
}
