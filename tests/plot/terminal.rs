//! The roofline in a console.

use llmroof::plot::terminal::Screen;
use llmroof::plot::to_terminal;
use llmroof::run::Run;
use ratatui_core::text::Span;

use crate::runs;

const PLAIN: Screen = Screen { width: 80, height: 24, unicode: true, colour: false };

fn other() -> Run {
    runs::scaled_cpu("Intel Xeon Platinum 8481C", 230e9, 2.9e12)
}

#[test]
fn a_measured_processor() {
    insta::assert_snapshot!(to_terminal(&[runs::cpu()], PLAIN).unwrap());
}

#[test]
fn a_measured_processor_in_ascii() {
    let text = to_terminal(&[runs::cpu()], Screen { unicode: false, ..PLAIN }).unwrap();
    assert!(text.is_ascii());
    insta::assert_snapshot!(text);
}

#[test]
fn a_prediction_from_the_datasheet() {
    insta::assert_snapshot!(to_terminal(&[runs::a100()], PLAIN).unwrap());
}

#[test]
fn two_runs_over_each_other() {
    insta::assert_snapshot!(to_terminal(&[runs::cpu(), other()], PLAIN).unwrap());
}

#[test]
fn colours_change_nothing_but_the_colour() {
    for runs in [vec![runs::cpu()], vec![runs::a100(), other()]] {
        let coloured = to_terminal(&runs, Screen { colour: true, ..PLAIN }).unwrap();
        assert!(coloured.contains("\u{1b}[0;1;36m"));
        let plain: String = coloured
            .split('\u{1b}')
            .enumerate()
            .map(|(i, part)| if i == 0 { part } else { part.split_once('m').unwrap().1 })
            .collect();
        assert_eq!(plain, to_terminal(&runs, PLAIN).unwrap());
        let ends = |line: &str| line.rsplit_once('\u{1b}').is_none_or(|(_, last)| last.starts_with("[0m"));
        assert!(coloured.lines().all(ends), "a colour runs into the next line");
    }
}

#[test]
fn no_line_is_wider_than_the_terminal_and_the_prompt_has_one_left() {
    let mut strange = runs::cpu();
    strange.device.name = "東京都千代田区霞が関の計算機センター\u{1b}[31m\u{202e}\n".repeat(4);
    strange.model.name = "e\u{301}🚀\u{200d}".repeat(40);
    let many: Vec<Run> = (1..=30).map(|i| runs::scaled_cpu("CPU", 20e9 * f64::from(i), 9e11)).collect();
    let mut bare = runs::cpu();
    bare.points.clear();
    let all = [
        vec![runs::cpu()],
        vec![runs::a100()],
        vec![strange.clone()],
        vec![strange, other()],
        many,
        vec![bare],
    ];
    for runs in all {
        for (width, height) in [(24, 12), (40, 15), (80, 24), (132, 43), (211, 60), (300, 100)] {
            for unicode in [true, false] {
                let screen = Screen { width, height, unicode, colour: false };
                let text = to_terminal(&runs, screen).unwrap();
                for line in text.lines() {
                    assert!(Span::raw(line).width() <= usize::from(width), "{width}: {line}");
                    assert!(!line.contains('\u{1b}') && !line.contains('\u{202e}'));
                }
                let lines = text.lines().count();
                assert!(runs.len() > 2 || height < 24 || lines < usize::from(height), "{lines} of {height}");
            }
        }
    }
}

#[test]
fn every_share_of_the_roof_is_said() {
    let run = runs::cpu();
    let text = to_terminal(std::slice::from_ref(&run), PLAIN).unwrap();
    let last: Vec<&str> = text.lines().rev().take(3).collect();
    for point in run.points.iter().filter(|p| p.stage.is_none()) {
        let share = format!("{:.0}%", point.fraction_of_roof * 100.0);
        assert!(last.iter().any(|line| line.contains(&share)), "{share} in {text}");
    }
}
