//! What the page lets a browser do.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use scraper::Html;
use sha2::{Digest, Sha256};

use crate::{count, full, page, parsed, real, select};

fn content(page: &Html, selector: &str) -> String {
    page.select(&select(selector)).next().unwrap().text().collect()
}

#[test]
fn the_policy_has_the_hashes_of_the_style_and_the_script_and_nothing_else() {
    for run in [real(), full()] {
        let page = parsed(&page(&[run]));
        let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
        assert_eq!(count(&page, "style"), 1);
        assert_eq!(count(&page, "script:not([type])"), 1);
        let meta = page.select(&select("meta[http-equiv=Content-Security-Policy]")).next().unwrap();
        assert_eq!(
            meta.attr("content").unwrap(),
            format!(
                "default-src 'none'; script-src {}; style-src {}; base-uri 'none'; form-action 'none'; \
                 require-trusted-types-for 'script'",
                hash(&content(&page, "script:not([type])")),
                hash(&content(&page, "style"))
            )
        );
    }
}

#[test]
fn the_policy_stands_before_all_that_it_judges() {
    let text = page(&[real()]);
    let policy = text.find("Content-Security-Policy").unwrap();
    assert!(text.find("<style").unwrap() > policy && text.find("<script").unwrap() > policy);
    // Browsers look for the encoding in the first 1024 bytes.
    assert!(text.find("charset=\"utf-8\"").unwrap() < 1024);
}

#[test]
fn nothing_is_fetched_and_nothing_runs_from_attributes() {
    let page = parsed(&page(&[real(), full()]));
    let fetching = "[src], [srcset], [style], [action], [formaction], link, iframe, object, embed, base, img, image, use, \
                    animate, set, foreignObject, a:not([href^='#'])";
    assert_eq!(count(&page, fetching), 0);
    let sheet = content(&page, "style");
    assert!(!sheet.contains("url(") && !sheet.contains("@import"));
}

#[test]
fn the_script_never_parses_markup_and_never_fetches() {
    let script = content(&parsed(&page(&[real()])), "script:not([type])");
    for word in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "fetch(",
        "XMLHttp",
    ] {
        assert!(!script.contains(word), "{word}");
    }
}
