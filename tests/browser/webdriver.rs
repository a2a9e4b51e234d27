//! A browser to test with: chromedriver, one session, and the few commands that these tests need.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Flags without which Chromium neither starts as root nor keeps quiet on the network.
const FLAGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // A page that is still scrolling is not where it was when a place in it was asked for.
    "--force-prefers-reduced-motion",
    "--window-size=1400,1000",
];

/// A running browser; it ends with this.
pub struct Browser {
    driver: Child,
    agent: ureq::Agent,
    session: String,
    /// Profile and downloads.
    pub folder: TempDir,
}

/// Where a program is, if it is anywhere on the path.
pub fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let in_any = |name: &&str| folders.iter().map(|f| f.join(name)).find(|p| p.is_file());
    names.iter().find_map(in_any)
}

impl Browser {
    /// Starts both programs.
    pub fn start(chromium: &PathBuf, chromedriver: &PathBuf) -> Browser {
        let folder = tempfile::tempdir().unwrap();
        let mut driver = Command::new(chromedriver)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port: u16 = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                line.split("started successfully on port ").nth(1)?.trim_end_matches('.').parse().ok()
            })
            .expect("chromedriver says its port");
        // Whoever stops reading stops the driver.
        std::thread::spawn(move || lines.for_each(drop));
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .proxy(None);
        let agent = config.build().new_agent();
        let mut args: Vec<String> = FLAGS.map(String::from).into();
        args.push(format!("--user-data-dir={}", folder.path().join("profile").display()));
        let mut browser =
            Browser { driver, agent, session: format!("http://127.0.0.1:{port}/session"), folder };
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "binary": chromium, "args": args },
        }}});
        let begun = browser.send("", wanted);
        browser.session += &format!("/{}", begun["sessionId"].as_str().expect("a session"));
        browser
    }

    fn send(&self, command: &str, body: Value) -> Value {
        let mut answer = self
            .agent
            .post(format!("{}{command}", self.session))
            .content_type("application/json")
            .send(body.to_string())
            .unwrap_or_else(|e| panic!("{command}: {e}"));
        let text = answer.body_mut().with_config().limit(256 << 20).read_to_string().unwrap();
        let mut value: Value = serde_json::from_str(&text).unwrap();
        let value = value["value"].take();
        assert!(answer.status().is_success(), "{command}: {value}");
        value
    }

    /// Opens a page.
    pub fn open(&self, address: &str) {
        self.send("/url", json!({ "url": address }));
    }

    /// What a function body returns in the page.
    pub fn run(&self, script: &str) -> Value {
        self.send("/execute/sync", json!({ "script": script, "args": [] }))
    }

    /// A string that an expression gives.
    pub fn text(&self, expression: &str) -> String {
        let value = self.run(&format!("return {expression}"));
        value.as_str().unwrap_or_else(|| panic!("{expression} is {value}, no string")).to_string()
    }

    /// A number that an expression gives.
    pub fn number(&self, expression: &str) -> f64 {
        let value = self.run(&format!("return {expression}"));
        value.as_f64().unwrap_or_else(|| panic!("{expression} is {value}, no number"))
    }

    /// Whether an expression holds.
    pub fn holds(&self, expression: &str) -> bool {
        self.run(&format!("return Boolean({expression})")).as_bool().unwrap()
    }

    /// A command of the browser's own protocol.
    pub fn protocol(&self, command: &str, parameters: Value) -> Value {
        self.send("/goog/cdp/execute", json!({ "cmd": command, "params": parameters }))
    }

    /// Where the centre of an element is in the window.
    pub fn centre(&self, selector: &str) -> (i64, i64) {
        let place = self.run(&format!(
            "const e = document.querySelector({selector:?}); e.scrollIntoView({{block: 'center', behavior: 'instant'}});
             const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]"
        ));
        let at = |i: usize| place[i].as_f64().unwrap().round() as i64;
        (at(0), at(1))
    }

    /// Moves the pointer to an element, as a person would.
    pub fn point_at(&self, selector: &str) {
        let (x, y) = self.centre(selector);
        self.actions(json!([{ "type": "pointerMove", "duration": 0, "x": x, "y": y }]));
    }

    /// Clicks on an element.
    pub fn click(&self, selector: &str) {
        let (x, y) = self.centre(selector);
        self.actions(json!([
            { "type": "pointerMove", "duration": 0, "x": x, "y": y },
            { "type": "pointerDown", "button": 0 },
            { "type": "pointerUp", "button": 0 },
        ]));
    }

    fn actions(&self, actions: Value) {
        let pointer = json!([{ "type": "pointer", "id": "mouse", "actions": actions }]);
        self.send("/actions", json!({ "actions": pointer }));
    }

    /// Presses a key: a letter, or WebDriver's code of one.
    pub fn press(&self, key: &str) {
        let actions = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        self.send("/actions", json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] }));
    }

    /// What the browser had to say since the last time: errors of scripts, and what the policy refused.
    pub fn log(&self) -> Vec<String> {
        let entries = self.send("/se/log", json!({ "type": "browser" }));
        entries.as_array().unwrap().iter().map(|e| e["message"].as_str().unwrap().to_string()).collect()
    }

    /// A picture of the window, or of the whole page, as base64.
    pub fn picture(&self, whole: bool) -> String {
        let parameters = json!({ "format": "png", "captureBeyondViewport": whole });
        self.protocol("Page.captureScreenshot", parameters)["data"].as_str().unwrap().to_string()
    }

    /// The page on paper, as base64.
    pub fn paper(&self) -> String {
        let pdf =
            self.protocol("Page.printToPDF", json!({ "printBackground": true, "preferCSSPageSize": true }));
        pdf["data"].as_str().unwrap().to_string()
    }

    /// Waits until something is there.
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "waited for {what}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver takes its browser along, where it is asked.
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
