//! `llmroof plot` as it is typed.

use std::fs;
use std::path::Path;

use assert_cmd::Command;

use crate::runs;

fn plot(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmroof"));
    command.current_dir(folder).env_remove("LLMROOF_REPORTS").arg("plot");
    command
}

fn stderr(command: &mut Command) -> String {
    String::from_utf8(command.output().unwrap().stderr).unwrap()
}

#[test]
fn without_a_name_the_newest_run_is_drawn_beside_its_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("reports/cpu")).unwrap();
    for (name, created) in
        [("reports/cpu/b.json", "2026-11-23T10:00:00Z"), ("reports/a.json", "2026-11-22T10:00:00Z")]
    {
        let mut run = runs::cpu();
        run.created = created.into();
        fs::write(folder.path().join(name), run.to_json().unwrap()).unwrap();
    }
    fs::write(folder.path().join("reports/cpu/other.json"), "{}").unwrap();
    plot(folder.path()).assert().success().stdout("").stderr("wrote reports/cpu/b.svg\n");
    let svg = fs::read_to_string(folder.path().join("reports/cpu/b.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    let out = plot(folder.path()).args(["-o", "-"]).output().unwrap();
    assert!(out.stderr.is_empty() && out.stdout == svg.as_bytes());
}

#[test]
fn several_runs_go_into_one_picture() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.json"), runs::cpu().to_json().unwrap()).unwrap();
    fs::write(folder.path().join("b.json"), runs::a100().to_json().unwrap()).unwrap();
    let mut both = plot(folder.path());
    both.args(["a.json", "b.json", "-o", "both.svg", "--level", "phase"]);
    both.assert().success().stderr("wrote both.svg\n");
    let svg = fs::read_to_string(folder.path().join("both.svg")).unwrap();
    assert!(svg.contains("Rooflines of llama-8b, 2 runs"));
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(here.join("no.json"), "{\"a\": 1}").unwrap();
    fs::write(here.join("a.json"), runs::cpu().to_json().unwrap()).unwrap();
    let cases: [(&[&str], &str); 7] = [
        (&[], "error: no run file in reports. hint: `llmroof measure` writes one"),
        (&["missing.json"], "error: missing.json: "),
        (&["no.json"], "error: no.json: not a run file"),
        (&["a.json", "-o", "a.jpg"], "error: a.jpg: no kind of picture has this ending. hint: "),
        (&["a.json", "--size", "99"], "error: "),
        (&["a.json", "--size", "800x99999"], "error: "),
        (&["a.json", "-o", "nowhere/a.svg"], "error: nowhere/a.svg: there is no folder nowhere. hint: "),
    ];
    for (arguments, wanted) in cases {
        let mut command = plot(here);
        command.args(arguments).assert().code(2);
        let said = stderr(&mut command);
        assert!(said.starts_with(wanted) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn a_size_is_that_of_the_picture_not_of_its_coordinates() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.json"), runs::cpu().to_json().unwrap()).unwrap();
    plot(folder.path()).args(["a.json", "-o", "a.svg", "--size", "1200x300"]).assert().success();
    let svg = fs::read_to_string(folder.path().join("a.svg")).unwrap();
    let root = svg.lines().next().unwrap();
    assert!(root.contains(" width=\"1200\" height=\"300\" viewBox=\"0 0 900 "), "{root}");
}

#[test]
fn a_theme_is_the_readers_unless_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.json"), runs::cpu().to_json().unwrap()).unwrap();
    let draw = |arguments: &[&str]| {
        let out = plot(folder.path()).args(["a.json", "-o", "-"]).args(arguments).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    let auto = draw(&[]);
    assert!(auto.contains("prefers-color-scheme") && auto == draw(&["--theme", "auto"]));
    for (name, ground) in [("light", "#ffffff"), ("dark", "#14181f"), ("print", "#ffffff")] {
        let svg = draw(&["--theme", name]);
        assert!(svg.contains(&format!("fill=\"{ground}\"/>")) && !svg.contains("<style"), "{name}");
    }
}

#[test]
fn in_the_terminal_it_is_text() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.json"), runs::cpu().to_json().unwrap()).unwrap();
    let draw = |locale: &str, columns: &str| {
        let mut command = plot(folder.path());
        command.env_remove("LC_CTYPE").env("LC_ALL", locale).env("COLUMNS", columns);
        let out = command.args(["a.json", "--term"]).output().unwrap();
        assert!(out.status.success() && out.stderr.is_empty());
        String::from_utf8(out.stdout).unwrap()
    };
    let text = draw("C.UTF-8", "");
    let longest = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(text.starts_with("Roofline of llama-8b on AMD EPYC 9B14\n") && !text.contains('\u{1b}'));
    assert!(longest(&text) <= 80 && text.lines().count() == 23 && !text.is_ascii());
    assert!((100..=132).contains(&longest(&draw("C.UTF-8", "132"))));
    assert!(draw("C", "").is_ascii());
    assert!(!folder.path().join("a.svg").exists());
}
