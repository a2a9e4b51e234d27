//! Whole figures as snapshots, and what their bytes promise.

use llmroof::plot::theme::{self, Scheme, Theme};
use llmroof::plot::{Figure, Level, Look, to_svg};
use llmroof::roofline::CeilingSource;
use llmroof::run::RunStatus;

use crate::{roofline, runs};

#[test]
fn a_measured_processor() {
    insta::assert_snapshot!(roofline(&[runs::cpu()], Level::All).unwrap());
}

#[test]
fn a_prediction_from_the_datasheet() {
    insta::assert_snapshot!(roofline(&[runs::a100()], Level::All).unwrap());
}

#[test]
fn two_runs_over_each_other() {
    let other = runs::scaled_cpu("Intel Xeon Platinum 8481C", 23e9, 610e9);
    insta::assert_snapshot!(roofline(&[runs::cpu(), other], Level::All).unwrap());
}

#[test]
fn the_same_runs_give_the_same_bytes() {
    let draw = || roofline(&[runs::cpu(), runs::a100()], Level::All).unwrap();
    assert_eq!(draw(), draw());
}

#[test]
fn a_run_read_back_from_its_file_gives_the_same_bytes() {
    let run = runs::cpu();
    let back = llmroof::run::Run::from_json(&run.to_json().unwrap()).unwrap();
    assert_eq!(roofline(&[run], Level::All).unwrap(), roofline(&[back], Level::All).unwrap());
}

#[test]
fn hostile_names_stay_text() {
    let mut run = runs::cpu();
    let hostile = "</text><script>alert(1)</script>&\"'\u{0}\u{1b}[31m\u{7f}\u{202e}\u{fffe}\n";
    run.device.name = hostile.into();
    run.host.cpu = hostile.into();
    run.model.name = hostile.into();
    run.created = hostile.into();
    run.tool.version = hostile.into();
    run.ceilings[0].citation = hostile.into();
    run.ceilings[0].source = CeilingSource::Datasheet;
    run.status = RunStatus::Partial;
    run.points.iter_mut().for_each(|p| p.model = hostile.into());
    for runs in [vec![run.clone()], vec![run.clone(), run]] {
        let svg = roofline(&runs, Level::All).unwrap();
        assert!(!svg.contains("<script"));
        assert!(svg.chars().all(|c| c == '\n' || (c >= ' ' && !('\u{7f}'..='\u{9f}').contains(&c))));
        assert!(!svg.contains(['\u{202e}', '\u{fffe}']));
        // Every ampersand begins one of the references that are written.
        let references = ["amp;", "lt;", "gt;", "quot;", "#39;"];
        assert!(svg.split('&').skip(1).all(|rest| references.iter().any(|r| rest.starts_with(r))));
    }
}

#[test]
fn levels_show_steps_stages_or_both() {
    let marks = |level| roofline(&[runs::cpu()], level).unwrap().matches("<g class=\"point\" ").count();
    // 6 batches and a prefill; the stages of batch 1 and of the prefill, without embed, which has no operations.
    assert_eq!(marks(Level::Phase), 7);
    assert_eq!(marks(Level::Stage), 12);
    assert_eq!(marks(Level::All), 19);
}

#[test]
fn numbers_can_be_read_without_seeing_the_picture() {
    let svg = roofline(&[runs::cpu()], Level::All).unwrap();
    assert!(
        svg.contains("role=\"img\"")
            && svg.contains("<title id=\"llmroof-roofline-title\">Roofline of llama-8b")
    );
    for wanted in ["Roof memory_read, measured: 45.0 GB/s.", "Roof compute bf16, measured: 470 GFLOP/s."] {
        assert!(svg.contains(wanted), "{wanted}");
    }
    assert!(svg.contains("decode step, batch 1, context 1050: 1.0"));
}

#[test]
fn runs_without_ceilings_or_without_points_can_be_drawn() {
    let mut run = runs::cpu();
    run.ceilings.clear();
    assert!(roofline(&[run], Level::All).is_ok());
    let mut run = runs::cpu();
    run.points.clear();
    assert!(roofline(&[run.clone()], Level::All).is_ok());
    run.ceilings.truncate(1);
    assert!(roofline(&[run], Level::All).is_ok());
}

#[test]
fn nothing_to_draw_is_an_error() {
    let failure = roofline(&[runs::empty("nothing")], Level::All).unwrap_err();
    assert!(failure.to_string().contains("nothing to draw"), "{failure}");
    assert!(roofline(&[], Level::All).is_err());
}

#[test]
fn a_default_run_is_a_small_file() {
    for figure in Figure::ALL {
        if let Ok(svg) = to_svg(&[runs::cpu()], figure, Look::default()) {
            assert!(svg.len() < 60_000, "{figure:?}: {} bytes", svg.len());
        }
    }
}

#[test]
fn ten_thousand_points_are_thinned_and_the_picture_says_so() {
    let run = runs::many(10_000);
    assert!(run.points.len() >= 10_000);
    let svg = roofline(std::slice::from_ref(&run), Level::All).unwrap();
    assert!(svg.contains(" of 1256 points drawn; left out: 6 stages and "), "{}", note(&svg));
    assert!(svg.len() < 600_000, "{} bytes", svg.len());
    let stages = to_svg(std::slice::from_ref(&run), Figure::Stages, Look::default()).unwrap();
    let steps = run.points.iter().filter(|p| p.stage.is_none()).count();
    assert!(stages.contains(&format!("24 of {steps} steps drawn.")));
    let context = to_svg(std::slice::from_ref(&run), Figure::Context, Look::default()).unwrap();
    assert!(context.contains("24 of 251 series drawn."));
    assert!(to_svg(&[run], Figure::Batch, Look::default()).unwrap().contains("labels found no room"));
}

fn note(svg: &str) -> &str {
    svg.find("points drawn").map_or("no note", |at| &svg[at.saturating_sub(40)..at + 80])
}

#[test]
fn each_theme_writes_its_own_colours() {
    let draw = |theme| to_svg(&[runs::cpu()], Figure::Roofline, Look { theme, ..Look::default() }).unwrap();
    let auto = draw(Theme::Auto);
    assert!(auto.contains("@media (prefers-color-scheme:dark)") && auto.contains("@media print"));
    assert!(auto.contains("--ground:#14181f") && auto.contains("fill=\"#ffffff\" class=\"f-ground\""));
    for scheme in [Scheme::Light, Scheme::Dark, Scheme::Print] {
        let svg = draw(Theme::Fixed(scheme));
        let ground = theme::GROUND.of(scheme);
        assert!(svg.contains(&format!("fill=\"{ground}\"/>")) && !svg.contains("<style>"));
    }
    // A page brings its own style sheet and its own ground.
    let page = draw(Theme::Page);
    assert!(!page.contains("<style>") && page.contains("class=\"f-ink\""));
}

#[test]
fn marks_and_labels_name_their_points() {
    let svg = roofline(&[runs::cpu()], Level::All).unwrap();
    // The second point of the first run is its first stage, which has no operations; the third is qkv.
    for group in ["<g class=\"point\" data-points=\"0.0\">", "<g class=\"label\" data-points=\"0.0\">"] {
        assert!(svg.contains(group), "{group}");
    }
    assert!(!svg.contains("data-points=\"0.1\""));
}
