//! `llmroof plot -o report.html` as it is typed.

use std::fs;
use std::path::Path;

use assert_cmd::Command;

use crate::{page, parsed, real, select};

fn plot(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmroof"));
    command.current_dir(folder).env_remove("LLMROOF_REPORTS").arg("plot");
    command
}

#[test]
fn a_name_in_html_gets_the_page_and_its_data_are_a_run_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.json"), real().to_json().unwrap()).unwrap();
    plot(folder.path())
        .args(["a.json", "-o", "a.html"])
        .assert()
        .success()
        .stdout("")
        .stderr("wrote a.html\n");
    let text = fs::read_to_string(folder.path().join("a.html")).unwrap();
    assert_eq!(text, page(&[real()]));
    let page = parsed(&text);
    let json: String = page.select(&select("#run-0")).next().unwrap().text().collect();
    fs::write(folder.path().join("b.json"), json).unwrap();
    plot(folder.path()).args(["b.json", "-o", "b.HTM"]).assert().success();
    assert_eq!(fs::read_to_string(folder.path().join("b.HTM")).unwrap(), text);
}

#[test]
fn several_runs_share_a_page() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.json", "b.json"] {
        fs::write(folder.path().join(name), real().to_json().unwrap()).unwrap();
    }
    plot(folder.path()).args(["a.json", "b.json", "-o", "both.html"]).assert().success();
    let text = fs::read_to_string(folder.path().join("both.html")).unwrap();
    assert_eq!(parsed(&text).select(&select("script[type='application/json']")).count(), 2);
}
