//! The gallery in `reports/gallery/` is drawn by this code from the run files in `reports/` and from the device
//! profiles. `LLMROOF_WRITE_GALLERY=1 cargo test --test gallery` writes it again.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use llmroof::plot::{Figure, Level, Look, to_svg};
use llmroof::predict::predict;
use llmroof::profiles::Catalog;
use llmroof::request::Sweeps;
use llmroof::run::{Host, Origin, Run};
use llmroof::workload::Phase;

/// Devices that the gallery predicts.
const PREDICTED: [&str; 3] = ["a100-sxm4-80gb", "h100-sxm5", "h200-sxm"];

fn reports() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reports")
}

/// Every measured run in `reports/`, by the name of its folder.
fn measured() -> Vec<(String, Run)> {
    let mut files: Vec<PathBuf> = fs::read_dir(reports())
        .unwrap()
        .filter_map(|folder| fs::read_dir(folder.unwrap().path()).ok())
        .flatten()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    let folder = |path: &Path| path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_string();
    // The newest run of a folder stands for it.
    let runs: BTreeMap<String, Run> = files
        .iter()
        .filter_map(|path| Some((folder(path), Run::from_json(&fs::read_to_string(path).ok()?).ok()?)))
        .collect();
    runs.into_iter().collect()
}

/// llama-8b at batches that walk up to the ridge.
fn predicted(device: &str) -> Run {
    let profiles = Catalog::load(None).unwrap();
    let sweeps = Sweeps {
        phases: vec![Phase::Prefill, Phase::Decode],
        batches: (0..9).map(|power| 1 << power).collect(),
        prompts: vec![1000],
        contexts: Vec::new(),
        speculate: vec![],
        mix: Vec::new(),
        kv_pages: Vec::new(),
        generate: 100,
        precisions: vec![llmroof::model::Precision::BF16],
        ranks: vec![1],
    };
    let origin = Origin {
        argv: ["llmroof", "predict", "--batch", "1-256*2", "--device", device].map(String::from).to_vec(),
        created: "2026-11-25T00:00:00Z".into(),
        host: Host {
            os: "any".into(),
            arch: "any".into(),
            cpu: "any".into(),
            physical_cores: None,
            logical_cores: 1,
            memory_bytes: 0.0,
        },
    };
    predict(&profiles.model("llama-8b").unwrap(), profiles.device(device).unwrap(), &sweeps, origin).unwrap()
}

/// All files of the gallery with their contents.
fn gallery() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut page = String::from(
        "# Gallery\n\nWhat `llmroof plot` draws. Each picture follows the reader's light or dark setting, and has its \
         numbers in its description. Written by `LLMROOF_WRITE_GALLERY=1 cargo test --test gallery`.\n",
    );
    let mut add = |page: &mut String, name: &str, runs: &[Run], level| {
        for figure in Figure::ALL {
            let look = Look { level, ..Look::default() };
            let Ok(svg) = to_svg(runs, figure, look) else { continue };
            let file = format!("{name}-{}.svg", figure.name());
            *page += &format!("\n![{} of {name}]({file})\n", figure.name());
            files.insert(file, svg);
        }
    };
    page += "\n## Measured\n";
    let measured = measured();
    for (name, run) in &measured {
        page += &format!(
            "\n### {} on {}\n\nThe newest run in [{name}](../{name}/).\n",
            run.model.name, run.device.name
        );
        add(&mut page, name, std::slice::from_ref(run), Level::All);
    }
    page += "\nNo GPU is here yet: none was at hand.\n\n## Predicted\n\nFrom the datasheets alone, so every mark is hollow \
             and lies on its roof.\n";
    let predicted: Vec<Run> = PREDICTED.iter().map(|device| predicted(device)).collect();
    for (name, run) in PREDICTED.iter().zip(&predicted) {
        page += &format!("\n### {} on {}\n", run.model.name, run.device.name);
        add(&mut page, &format!("predicted-{name}"), std::slice::from_ref(run), Level::All);
    }
    page += "\n## Over each other\n";
    add(&mut page, "predicted-together", &predicted, Level::Phase);
    files.insert("README.md".into(), page);
    files
}

#[test]
fn the_gallery_is_what_the_program_draws() {
    let folder = reports().join("gallery");
    let files = gallery();
    if std::env::var_os("LLMROOF_WRITE_GALLERY").is_some() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
    }
    let again = "run `LLMROOF_WRITE_GALLERY=1 cargo test --test gallery`";
    for (name, text) in &files {
        let published = fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(published == *text, "reports/gallery/{name} is not what the program draws: {again}");
    }
    let there = fs::read_dir(&folder).unwrap().count();
    assert_eq!(there, files.len(), "reports/gallery/ holds files that nothing draws: {again}");
}
