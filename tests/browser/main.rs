//! The HTML report in a real browser: Chromium, headless, driven over WebDriver. Without one the test says so and
//! passes, unless CI asks for it.
//!
//! `LLMROOF_SHOTS=DIR` leaves pictures of the page in that folder.

#![allow(clippy::unwrap_used)]

mod webdriver;

#[path = "../plot/runs.rs"]
#[allow(dead_code)]
mod runs;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use llmroof::run::Run;
use serde_json::json;
use webdriver::Browser;

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";
const RIGHT: &str = "\u{e014}";

/// The page as the program writes it.
fn report(folder: &Path, name: &str, runs: &[Run]) -> String {
    let files: Vec<PathBuf> = (0..runs.len()).map(|i| folder.join(format!("{name}-{i}.json"))).collect();
    for (file, run) in files.iter().zip(runs) {
        fs::write(file, run.to_json().unwrap()).unwrap();
    }
    let page = folder.join(format!("{name}.html"));
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_llmroof"));
    command.arg("plot").args(&files).arg("-o").arg(&page).assert().success();
    format!("file://{}", page.display())
}

fn real() -> Run {
    let path = "reports/amd-epyc-2-cores/20261123T151520Z-llama-8b-amd-epyc.json";
    Run::from_json(&fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()).unwrap()
}

/// Keeps a picture for people, where they want it.
fn keep(name: &str, data: &str) {
    if let Some(folder) = std::env::var_os("LLMROOF_SHOTS") {
        fs::create_dir_all(&folder).unwrap();
        fs::write(Path::new(&folder).join(name), STANDARD.decode(data).unwrap()).unwrap();
    }
}

fn quiet(browser: &Browser) {
    let log = browser.log();
    assert!(log.is_empty(), "{}", log.join("\n"));
}

#[test]
fn the_report_works_in_a_browser() {
    let chromium = webdriver::find(&["chromium", "chromium-browser", "google-chrome", "chrome"]);
    let chromedriver = webdriver::find(&["chromedriver"]);
    let (Some(chromium), Some(chromedriver)) = (chromium, chromedriver) else {
        let ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
        assert!(!ci, "no chromium and chromedriver on the path, and CI is set");
        // Past the harness, which keeps what passing tests print.
        let said = "NOT TESTED: the HTML report in a browser: no chromium and chromedriver on the path\n";
        let _ = std::io::stderr().write_all(said.as_bytes());
        return;
    };
    let browser = Browser::start(&chromium, &chromedriver);
    let folder = tempfile::tempdir().unwrap();
    let one = report(folder.path(), "one", &[real()]);
    browser.open(&one);
    quiet(&browser);
    assert!(browser.holds("document.documentElement.classList.contains('js')"));
    policy_is_in_force(&browser);
    browser.open(&one);

    keyboard(&browser);
    filters(&browser);
    pins(&browser);
    sorting(&browser);
    themes(&browser);
    download(&browser);
    paper(&browser, "paper.pdf");
    narrow(&browser);
    quiet(&browser);

    let base = real();
    let mut other = base.clone();
    other.device.name = "Another EPYC".into();
    for point in &mut other.points {
        let times = &mut point.seconds;
        [&mut times.median, &mut times.low, &mut times.high].into_iter().for_each(|t| *t *= 1.25);
        point.fraction_of_roof /= 1.25;
        point.flops_per_second /= 1.25;
        point.bytes_per_second /= 1.25;
        point.tokens_per_second = point.tokens_per_second.map(|rate| rate / 1.25);
    }
    browser.open(&report(folder.path(), "two", &[base, other]));
    overlay(&browser);
    quiet(&browser);

    many(&browser, folder.path());
    quiet(&browser);

    without_script(&browser, &one);
}

/// The policy does refuse what is not ours, and says so; then the log is not quiet for lack of a policy.
fn policy_is_in_force(browser: &Browser) {
    browser.run(
        "const s = document.createElementNS('http://www.w3.org/2000/svg', 'style'); s.append('p { color: red }');
         document.body.append(s); const p = document.querySelector('p'); p.setAttribute('style', 'color: red')",
    );
    assert_ne!(browser.text("getComputedStyle(document.querySelector('p')).color"), "rgb(255, 0, 0)");
    let parsed = browser.run("try { document.body.innerHTML = '<p>x'; return true } catch { return false }");
    assert_eq!(parsed, false, "markup was parsed");
    let log = browser.log().join("\n");
    assert!(log.contains("Content Security Policy"), "{log}");
}

fn keyboard(browser: &Browser) {
    // One mark of each figure is in the order of Tab.
    assert_eq!(
        browser.number("document.querySelectorAll('.point[tabindex=\"0\"]').length"),
        browser.number("document.querySelectorAll('figure').length")
    );
    browser.run("document.querySelector('figure .scroll').focus()");
    browser.press(TAB);
    let focused = "document.activeElement.closest('.point').dataset.points";
    let first = browser.text(focused);
    assert_eq!(browser.text("document.activeElement.getAttribute('role')"), "button");
    assert!(browser.text("document.activeElement.getAttribute('aria-label')").contains("batch 1"));
    let mut visited = vec![first.clone()];
    browser.press(webdriver_home());
    for _ in 0..3 {
        browser.press(RIGHT);
        visited.push(browser.text(focused));
    }
    visited.dedup();
    assert!(visited.len() >= 3, "{visited:?}");
    // The panel tells of the mark that has the focus.
    let details = browser.text("document.getElementById('details').textContent");
    for word in ["intensity", "of roof", "interval, low end", "samples kept", "share of step", "bound by"] {
        assert!(details.contains(word), "{word} is not in {details}");
    }
    let last = visited.last().unwrap();
    assert!(browser.holds(&format!("document.querySelector('#points [data-points=\"{last}\"].is-hot')")));
    browser.press(ESCAPE);
    assert!(browser.holds("document.activeElement.matches('.scroll')"));
    assert!(browser.holds("document.getElementById('details').textContent.includes('Point at a mark')"));
}

fn webdriver_home() -> &'static str {
    "\u{e011}"
}

fn filters(browser: &Browser) {
    assert_eq!(browser.text("document.getElementById('count').textContent"), "56 of 56 points shown");
    browser.click("input[data-facet=phase][value=prefill]");
    assert_eq!(browser.text("document.getElementById('count').textContent"), "48 of 56 points shown");
    assert_eq!(browser.number("document.querySelectorAll('#points tbody tr:not([hidden])').length"), 48.0);
    let hidden =
        "[...document.querySelectorAll('.point')].filter((e) => getComputedStyle(e).display === 'none')";
    assert!(browser.holds(&format!("{hidden}.length > 5")));
    assert!(
        browser.holds(&format!("{hidden}.every((e) => e.getAttribute('aria-label').startsWith('prefill'))"))
    );
    browser.click("button[data-all=stage]");
    assert_eq!(browser.text("document.getElementById('count').textContent"), "0 of 56 points shown");
    browser.click("input[data-facet=stage][value=step]");
    assert_eq!(browser.text("document.getElementById('count').textContent"), "6 of 56 points shown");
    browser.click("input[data-facet=batch][value='32-32']");
    assert_eq!(browser.text("document.getElementById('count').textContent"), "5 of 56 points shown");
    browser.click("#show-all");
    assert_eq!(browser.text("document.getElementById('count').textContent"), "56 of 56 points shown");
    assert!(browser.holds("!document.querySelector('.is-out')"));
}

/// The mark of the point in the roofline.
fn mark(browser: &Browser, wanted: &str) -> String {
    let id = browser.text(&format!(
        "[...document.querySelectorAll('figure[data-figure=roofline] .point')]
            .find((e) => e.getAttribute('aria-label').startsWith({wanted:?})).dataset.points"
    ));
    format!("figure[data-figure=roofline] .point[data-points='{id}']")
}

fn pins(browser: &Browser) {
    let [first, second] = ["decode step, batch 8", "decode step, batch 32"].map(|name| mark(browser, name));
    browser.point_at(&first);
    assert!(
        browser.text("document.querySelector('#details h3').textContent").contains("decode step, batch 8")
    );
    browser.click(&first);
    assert!(
        browser.holds(&format!("document.querySelector({first:?}).getAttribute('aria-pressed') === 'true'"))
    );
    browser.run(&format!("document.querySelector({second:?}).focus()"));
    browser.press(ENTER);
    assert_eq!(browser.number("document.querySelectorAll('#pins thead th').length"), 5.0);
    let run = real();
    let time = |batch| {
        let step =
            run.points.iter().find(|p| p.phase.name() == "decode" && p.batch == batch && p.stage.is_none());
        step.unwrap().seconds.median
    };
    let ratio = llmroof::units::figures(time(32) / time(8));
    let row = browser.text("document.querySelector('#pins tbody tr').textContent");
    assert!(row.starts_with("time") && row.ends_with(&format!("{ratio}×")), "{row} has no {ratio}");
    let words = browser.text("document.querySelector('#pins .verdict').textContent");
    assert!(words.contains(&format!("takes {ratio} times as long")), "{words}");
    browser.point_at("#pins h3");
    keep("pins.png", &browser.picture(false));
    browser.click("#pins caption button");
    assert!(browser.holds("document.getElementById('pins').hidden"));
}

fn sorting(browser: &Browser) {
    let shares = "[...document.querySelectorAll('#points tbody tr')].map((row) => row.dataset.points)";
    let measured = browser.run(&format!("return {shares}"));
    let run = real();
    let sorted = |browser: &Browser| -> Vec<f64> {
        let order = browser.run(&format!("return {shares}"));
        let at = |id: &str| id.split('.').nth(1).unwrap().parse::<usize>().unwrap();
        order
            .as_array()
            .unwrap()
            .iter()
            .map(|id| run.points[at(id.as_str().unwrap())].fraction_of_roof)
            .collect()
    };
    browser.click("button[data-sort=roof]");
    assert!(browser.holds("document.querySelector('th[aria-sort=descending] [data-sort=roof]')"));
    assert!(sorted(browser).is_sorted_by(|a, b| a >= b));
    browser.click("button[data-sort=roof]");
    assert!(browser.holds("document.querySelector('th[aria-sort=ascending] [data-sort=roof]')"));
    assert!(sorted(browser).is_sorted());
    browser.click("button[data-sort=roof]");
    assert!(browser.holds("!document.querySelector('[aria-sort]')"));
    assert_eq!(browser.run(&format!("return {shares}")), measured);
}

const GROUND: &str = "getComputedStyle(document.body).backgroundColor";
const INK: &str = "getComputedStyle(document.querySelector('svg .f-ink')).fill";

fn themes(browser: &Browser) {
    let prefer = |scheme: &str| {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        browser.protocol("Emulation.setEmulatedMedia", json!({ "features": features }));
    };
    prefer("light");
    browser.run("scrollTo({top: 0, behavior: 'instant'})");
    let light = (browser.text(GROUND), browser.text(INK));
    assert_eq!(light.0, "rgb(255, 255, 255)");
    keep("light.png", &browser.picture(true));
    prefer("dark");
    let dark = (browser.text(GROUND), browser.text(INK));
    assert!(dark.0 != light.0 && dark.1 != light.1, "{dark:?}");
    keep("dark.png", &browser.picture(true));
    browser.point_at("figure[data-figure=roofline]");
    keep("dark-roofline.png", &browser.picture(false));
    browser.point_at("#points tbody tr:nth-child(12)");
    keep("dark-table.png", &browser.picture(false));
    browser.click("input[name=theme][value=light]");
    assert_eq!((browser.text(GROUND), browser.text(INK)), light);
    prefer("light");
    browser.click("input[name=theme][value=dark]");
    assert_eq!((browser.text(GROUND), browser.text(INK)), dark);
}

fn download(browser: &Browser) {
    let folder = browser.folder.path().join("downloads");
    fs::create_dir(&folder).unwrap();
    let behaviour = json!({ "behavior": "allow", "downloadPath": folder });
    browser.protocol("Browser.setDownloadBehavior", behaviour);
    browser.click("[data-download='run-0']");
    let file = browser.wait("the download", || {
        let entries = fs::read_dir(&folder).ok()?.flatten();
        entries.map(|e| e.path()).find(|p| p.extension().is_some_and(|ending| ending == "json"))
    });
    let name = file.file_name().unwrap().to_str().unwrap().to_string();
    assert_eq!(name, llmroof::export::file::run_file_name(&real()));
    assert_eq!(Run::from_json(&fs::read_to_string(file).unwrap()).unwrap(), real());
}

/// The dark theme is on, and paper is light all the same.
fn paper(browser: &Browser, name: &str) {
    let pdf = browser.paper();
    let bytes = STANDARD.decode(&pdf).unwrap();
    assert!(bytes.starts_with(b"%PDF-") && bytes.len() > 20_000);
    keep(name, &pdf);
    browser.protocol("Emulation.setEmulatedMedia", json!({ "media": "print" }));
    assert_eq!(browser.text(GROUND), "rgb(255, 255, 255)");
    assert!(browser.holds("!document.querySelector('.filters').checkVisibility()"));
    browser.protocol("Emulation.setEmulatedMedia", json!({ "media": "", "features": [] }));
    browser.click("input[name=theme][value=auto]");
}

/// A phone: nothing but the scrolling boxes is wider than the window.
fn narrow(browser: &Browser) {
    let phone = json!({ "width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": true });
    browser.protocol("Emulation.setDeviceMetricsOverride", phone);
    assert_eq!(browser.number("innerWidth"), 390.0);
    assert!(browser.number("document.documentElement.scrollWidth") <= 390.0);
    browser.run("scrollTo({top: 0, behavior: 'instant'})");
    keep("phone.png", &browser.picture(false));
    browser.point_at("#points tbody tr:nth-child(3) th");
    keep("phone-table.png", &browser.picture(false));
    let decode = mark(browser, "decode step, batch 8");
    browser.click(&decode);
    assert!(
        browser.holds("document.getElementById('panel').getBoundingClientRect().bottom <= innerHeight + 1")
    );
    keep("phone-details.png", &browser.picture(false));
    browser.click("#panel .close");
    browser.protocol("Emulation.clearDeviceMetricsOverride", json!({}));
}

fn overlay(browser: &Browser) {
    assert_eq!(browser.text("document.getElementById('count').textContent"), "112 of 112 points shown");
    let roofs = "getComputedStyle(document.querySelector('figure [data-run=\"1\"]')).display";
    assert_ne!(browser.text(roofs), "none");
    browser.click("input[data-facet=run][value='1']");
    assert_eq!(browser.text("document.getElementById('count').textContent"), "56 of 112 points shown");
    assert_eq!(browser.text(roofs), "none");
    browser.click("#show-all");
    browser.click(&mark(browser, "A: decode step, batch 8"));
    browser.click(&mark(browser, "B: decode step, batch 8"));
    let words = browser.text("document.querySelector('#pins .verdict').textContent");
    assert!(
        words.starts_with("B: decode step, batch 8 takes 1.25 times as long as A: decode step"),
        "{words}"
    );
    assert!(words.contains("llmroof compare"), "{words}");
    browser.run("scrollTo({top: 0, behavior: 'instant'})");
    keep("two.png", &browser.picture(false));
    browser.point_at("figure[data-figure=roofline]");
    keep("two-roofline.png", &browser.picture(false));
    browser.point_at("#conditions h2");
    keep("two-conditions.png", &browser.picture(false));
    paper(browser, "two.pdf");
    // The same work of all runs at once.
    browser.click("#pins caption button");
    browser.point_at("#points tbody tr[data-points='0.8']");
    browser.run("[...document.querySelectorAll('#panel button')].find((b) => b.textContent === 'Pin in every run').click()");
    assert_eq!(browser.number("document.querySelectorAll('#points .is-pinned').length"), 2.0);
}

/// Ten thousand points.
fn many(browser: &Browser, folder: &Path) {
    let mut run = real();
    let step = run.points.iter().find(|p| p.phase.name() == "decode" && p.stage.is_none()).unwrap().clone();
    run.points = (1..=10_000)
        .map(|batch| {
            let mut point = step.clone();
            (point.batch, point.seconds.samples, point.seconds.trials) = (batch, Vec::new(), Vec::new());
            (point.trials, point.tokens_per_second) = (Vec::new(), Some(f64::from(batch)));
            point
        })
        .collect();
    browser.open(&report(folder, "many", &[run]));
    assert_eq!(browser.text("document.getElementById('count').textContent"), "10000 of 10000 points shown");
    browser.click("button[data-all=batch]");
    browser.click("input[data-facet=batch]");
    assert_eq!(browser.text("document.getElementById('count').textContent"), "1 of 10000 points shown");
    browser.click("#show-all");
    browser.click("button[data-sort=rate]");
    assert_eq!(browser.text("document.querySelector('#points tbody tr').dataset.points"), "0.1999");
}

fn without_script(browser: &Browser, address: &str) {
    browser.protocol("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
    browser.open(address);
    // The page's own script did not run, ours is allowed.
    assert!(browser.holds("!document.documentElement.classList.contains('js')"));
    assert!(browser.holds("document.querySelector('noscript p').checkVisibility()"));
    assert_eq!(browser.number("document.querySelectorAll('#points tbody tr').length"), 56.0);
    assert!(browser.holds("document.querySelector('#points tbody tr').checkVisibility()"));
    assert!(browser.holds("document.querySelector('figure svg').getBoundingClientRect().width > 500"));
    assert!(browser.holds("document.querySelector('#method dd').checkVisibility()"));
    assert!(browser.holds("!document.querySelector('.filters').checkVisibility()"));
    keep("without-script.png", &browser.picture(true));
}
