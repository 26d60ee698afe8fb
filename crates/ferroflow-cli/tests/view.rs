//! The pages that the program serves and writes, as a browser gets them.

mod common;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Stdio},
};

use common::{Run, cli};
use ferroflow::core::{FlowField, Size, io};
use serde_json::Value;

/// `ferroflow view` while it runs.
struct Serving {
    child: Child,
    url: String,
}

impl Serving {
    fn new(run: &Run, args: &[&str]) -> Self {
        let mut command = run.command(&[&["view", "--json"], args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        Self { child, url: told["url"].as_str().unwrap().to_string() }
    }

    fn host(&self) -> &str {
        self.url.trim_start_matches("http://").trim_end_matches('/')
    }

    /// Status and body of an answer.
    fn get(&self, path: &str) -> (u16, Vec<u8>) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host()))
    }

    fn ask(&self, request: &str) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.host()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let status = str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
        (status, answer[head + 4..].to_vec())
    }

    fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A flow of (3, -1), a truth of (2, -1), and their frames.
fn pair(run: &Run) {
    run.write_frame("a.png", 96, 64, 0);
    run.write_frame("b.png", 96, 64, 3);
    for (name, u) in [("flow.flo", 3.0), ("truth.flo", 2.0)] {
        io::write_flow(run.path(name), &FlowField::from_fn(Size::new(64, 96), |_, _| (u, -1.0))).unwrap();
    }
}

const PAIR: [&str; 5] = ["flow.flo", "a.png", "b.png", "--truth", "truth.flo"];

cli!(a_pair_is_served_to_this_machine_alone, |run| {
    pair(&run);
    let serving = Serving::new(&run, &PAIR);
    assert!(serving.url.starts_with("http://127.0.0.1:"), "{}", serving.url);
    assert!(String::from_utf8(serving.get("/").1).unwrap().contains("<!doctype html>"));
    let scene = serving.json("/pair/0/scene");
    assert_eq!((scene["width"].as_u64(), scene["metrics"]["epe"].as_f64()), (Some(96), Some(1.0)));
    let ids: Vec<&str> = scene["layers"].as_array().unwrap().iter().map(|l| l["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["frame1", "frame2", "warped", "flow", "truth", "error"]);
    for id in ids.iter().chain(&["wheel", "errors"]) {
        assert!(serving.get(&format!("/pair/0/{id}.png")).1.starts_with(b"\x89PNG"), "{id}");
    }
    let numbers = serving.get("/pair/0/flow.f32").1;
    assert_eq!(numbers.len(), 4 * 2 * 64 * 96);
    assert_eq!(numbers[..4], 3f32.to_le_bytes());
    for path in
        ["/../../etc/passwd", "/pair/0/../../a.png", "/pair/0/a.png", "/pair/0/flow.flo", "/%2e%2e/a.png", "/flow.flo"]
    {
        assert_eq!(serving.get(path).0, 404, "{path}");
    }
    assert_eq!(serving.get("/pair/7/scene").0, 500);
    let ask = |first: &str, more: &str| serving.ask(&format!("{first} HTTP/1.1\r\n{more}\r\n\r\n")).0;
    assert_eq!(ask("GET /", "Host: evil.example"), 403);
    assert_eq!(ask("GET /", &format!("Host: {}\r\nSec-Fetch-Site: cross-site", serving.host())), 403);
    assert_eq!(ask("DELETE /", &format!("Host: {}", serving.host())), 405);
    // Whoever connects and says nothing keeps nobody waiting.
    let _silent = TcpStream::connect(serving.host()).unwrap();
    assert_eq!(serving.get("/").0, 200);
});

cli!(whatever_is_given_is_looked_at, |run| {
    pair(&run);
    let layers = |args: &[&str]| {
        let serving = Serving::new(&run, args);
        let scene = serving.json("/pair/0/scene");
        let ids = scene["layers"].as_array().unwrap().iter().map(|l| l["id"].as_str().unwrap().to_string());
        (serving.json("/pairs")["names"].as_array().unwrap().len(), ids.collect::<Vec<_>>())
    };
    let estimated = ["frame1", "frame2", "warped", "flow", "occlusion", "confidence"].map(String::from).to_vec();
    assert_eq!(layers(&["a.png", "b.png", "-m", "dis"]), (1, estimated.clone()));
    std::fs::create_dir(run.path("frames")).unwrap();
    for index in 0..3 {
        run.write_frame(&format!("frames/{index}.png"), 96, 64, 2 * index);
    }
    assert_eq!(layers(&["frames", "-m", "dis"]), (2, estimated.clone()));
    run.ok(&["estimate", "frames", "-m", "dis", "-o", "flows", "--bidirectional"]);
    assert_eq!(layers(&["flows", "--frames", "frames"]), (2, estimated));
    let data = layers(&["synth:chairs@size=64x96,count=3", "-m", "dis"]);
    let expected = ["frame1", "frame2", "warped", "flow", "truth", "error", "occlusion", "confidence"];
    assert_eq!(data, (3, expected.map(String::from).to_vec()));
    assert_eq!(layers(&["flow.flo"]), (1, vec!["flow".into()]));
    assert!(run.fails(2, &["view", "a.png"]).contains("second"));
    assert!(run.fails(2, &["view", "flow.flo", "--truth", "nowhere.flo"]).contains("nowhere.flo"));
    std::fs::create_dir(run.path("empty")).unwrap();
    assert!(run.fails(2, &["view", "empty"]).contains("neither"));
    let busy = Serving::new(&run, &["flow.flo"]);
    let port = busy.host().rsplit(':').next().unwrap();
    assert!(run.fails(2, &["view", "flow.flo", "--port", port, "--no-open"]).contains("--port"));
});

#[cfg(unix)]
#[test]
fn a_signal_ends_it() {
    use std::os::unix::process::ExitStatusExt;
    let run = Run::new();
    pair(&run);
    let mut serving = Serving::new(&run, &PAIR);
    let kill = std::process::Command::new("kill").args(["-TERM", &serving.child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    // The system's own way, as for Ctrl-C, which whoever runs tests in the background may have turned off.
    assert_eq!(serving.child.wait().unwrap().signal(), Some(15));
}

/// A browser, where there is one, led through its pipe: no port, no library.
#[cfg(unix)]
mod browser {
    use std::{
        fs::File,
        path::PathBuf,
        process::Command,
        time::{Duration, Instant},
    };

    use super::*;

    struct Browser {
        child: Child,
        to: File,
        from: BufReader<File>,
        session: String,
        next: u64,
        /// What was loaded.
        requests: Vec<String>,
        _dir: tempfile::TempDir,
    }

    impl Browser {
        /// Says so and gives `None` where there is no Chromium.
        fn start() -> Option<Self> {
            let names = ["chromium", "google-chrome", "chromium-browser"];
            let there =
                |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|said| said.status.success());
            let Some(name) = names.iter().find(|name| there(name)) else {
                eprintln!("skipped: there is no Chromium here");
                return None;
            };
            let dir = tempfile::tempdir().unwrap();
            let [to, from] = ["to", "from"].map(|name| dir.path().join(name));
            assert!(Command::new("mkfifo").args([&to, &from]).status().unwrap().success());
            // It reads from descriptor 3 and writes to 4.
            let script = "exec \"$1\" --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
                          --disable-component-update --disable-sync --remote-debugging-pipe --window-size=1280,900 \
                          --user-data-dir=\"$2\" 3<\"$3\" 4>\"$4\"";
            let child = Command::new("sh")
                .args(["-c", script, "sh", name])
                .arg(dir.path().join("profile"))
                .args([&to, &from])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let to = File::options().write(true).open(&to).unwrap();
            let from = BufReader::new(File::open(&from).unwrap());
            let mut browser =
                Self { child, to, from, session: String::new(), next: 0, requests: Vec::new(), _dir: dir };
            let target = browser.call("Target.createTarget", serde_json::json!({ "url": "about:blank" }));
            let attach = serde_json::json!({ "targetId": target["targetId"], "flatten": true });
            browser.session = browser.call("Target.attachToTarget", attach)["sessionId"].as_str().unwrap().into();
            for domain in ["Page", "Network", "Runtime"] {
                browser.call(&format!("{domain}.enable"), Value::Null);
            }
            Some(browser)
        }

        fn call(&mut self, method: &str, params: Value) -> Value {
            self.next += 1;
            let mut message = serde_json::json!({ "id": self.next, "method": method });
            if !params.is_null() {
                message["params"] = params;
            }
            if !self.session.is_empty() {
                message["sessionId"] = self.session.clone().into();
            }
            self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
            loop {
                let mut answer = Vec::new();
                self.from.read_until(0, &mut answer).unwrap();
                answer.pop();
                let answer: Value = serde_json::from_slice(&answer).unwrap();
                if answer["method"] == "Network.requestWillBeSent" {
                    self.requests.push(answer["params"]["request"]["url"].as_str().unwrap().into());
                }
                if answer["id"] == self.next {
                    assert!(answer.get("error").is_none(), "{method}: {answer}");
                    return answer["result"].clone();
                }
            }
        }

        fn open(&mut self, url: &str) {
            self.call("Page.navigate", serde_json::json!({ "url": url }));
        }

        /// What a script gives, as text.
        fn told(&mut self, script: &str) -> String {
            let params = serde_json::json!({ "expression": format!("String({script})"), "returnByValue": true });
            self.call("Runtime.evaluate", params)["result"]["value"].as_str().unwrap_or_default().into()
        }

        fn wait(&mut self, script: &str) {
            let begun = Instant::now();
            while self.told(script) != "true" {
                assert!(begun.elapsed() < Duration::from_secs(30), "{script}");
                std::thread::sleep(Duration::from_millis(50));
            }
        }

        fn mouse(&mut self, kind: &str, x: f64, y: f64, pressed: bool) {
            let button = if pressed { "left" } else { "none" };
            let params = serde_json::json!({ "type": kind, "x": x, "y": y, "button": button, "buttons": u8::from(pressed), "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", params);
        }

        fn click(&mut self, selector: &str) {
            let at =
                |side: &str| format!("(b => b.{side})(document.querySelector({selector:?}).getBoundingClientRect())");
            self.told(&format!("document.querySelector({selector:?}).scrollIntoView()"));
            let [x, y, w, h] =
                ["left", "top", "width", "height"].map(|side| self.told(&at(side)).parse::<f64>().unwrap());
            for (kind, pressed) in [("mousePressed", true), ("mouseReleased", true)] {
                self.mouse(kind, x + w / 2.0, y + h / 2.0, pressed);
            }
        }

        /// Kept where somebody wants to look at it.
        fn screenshot(&mut self, name: &str) {
            let Some(folder) = std::env::var_os("FERROFLOW_SCREENSHOTS") else { return };
            let data = self.call("Page.captureScreenshot", serde_json::json!({ "format": "png" }));
            let data = data["data"].as_str().unwrap();
            std::fs::write(PathBuf::from(folder).join(format!("{name}.png.base64")), data).unwrap();
        }
    }

    impl Drop for Browser {
        fn drop(&mut self) {
            let _ = self.to.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
            std::thread::sleep(Duration::from_millis(300));
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    #[test]
    fn the_page_wipes_and_reads_values() {
        let Some(mut browser) = Browser::start() else { return };
        let run = Run::new();
        pair(&run);
        let serving = Serving::new(&run, &PAIR);
        browser.open(&serving.url);
        browser.wait("typeof state !== 'undefined' && !!state.numbers.flow && !!state.numbers.truth && over.complete && over.naturalWidth > 0");
        assert_eq!(browser.told("document.title"), "flow.flo");
        assert_eq!(browser.told("left.value + ' ' + right.value"), "frame1 flow");
        let [left, top, width, height] = ["left", "top", "width", "height"]
            .map(|side| browser.told(&format!("under.getBoundingClientRect().{side}")).parse::<f64>().unwrap());
        // The pointer in the middle of pixel (24, 16) of 96x64.
        let (x, y) = (left + width * 24.5 / 96.0, top + height * 16.5 / 64.0);
        browser.mouse("mouseMoved", x, y, false);
        let value = browser.told("document.getElementById('value').textContent");
        assert!(value.starts_with("x 24, y 16") && value.contains("flow u +3.000, v −1.000 (3.162 px)"), "{value}");
        assert!(value.contains("truth u +2.000") && value.contains("error 1.000 px"), "{value}");
        // A drag in the picture moves the edge between the layers, and so does the slider.
        browser.mouse("mousePressed", x, y, true);
        browser.mouse("mouseMoved", left + 0.75 * width, y, true);
        browser.mouse("mouseReleased", left + 0.75 * width, y, true);
        assert_eq!(browser.told("Math.round(wipe.value / 10)"), "75");
        assert!(
            browser.told("over.style.clipPath").starts_with("inset(0px 25"),
            "{}",
            browser.told("over.style.clipPath")
        );
        browser.told("(wipe.value = 200, wipe.dispatchEvent(new Event('input')))");
        assert!(browser.told("over.style.clipPath").starts_with("inset(0px 80%"));
        browser.told("(right.value = 'error', right.dispatchEvent(new Event('change')))");
        browser.wait("under.complete && under.src.endsWith('/pair/0/error.png')");
        browser.screenshot("view");
        let (requests, url) = (browser.requests.clone(), serving.url.clone());
        assert!(requests.len() > 8 && requests.iter().all(|request| request.starts_with(&url)), "{requests:?}");
    }

    #[test]
    fn pairs_are_chosen_and_sorted() {
        let Some(mut browser) = Browser::start() else { return };
        let run = Run::new();
        let serving = Serving::new(&run, &["synth:chairs@size=192x256,count=3", "-m", "dis"]);
        browser.open(&serving.url);
        browser.wait("typeof state !== 'undefined' && !!state.numbers.confidence");
        browser.click("#next");
        browser.wait("state.index === 1 && !!state.numbers.flow");
        browser.click("#list summary");
        browser.click("#pairs tr:nth-child(3)");
        browser.wait("state.index === 2 && !!state.numbers.flow");
        let order = "[...document.querySelectorAll('#pairs tr')].map(row => row.cells[0].textContent).join('')";
        browser.click("#list th:nth-child(1) button");
        assert_eq!(browser.told(order), "123");
        browser.click("#list th:nth-child(1) button");
        assert_eq!(browser.told(order), "321");
        browser.screenshot("pairs");
        assert!(browser.requests.iter().all(|request| request.starts_with(&serving.url)));
    }

    #[test]
    fn the_report_is_sorted_and_loads_nothing() {
        let Some(mut browser) = Browser::start() else { return };
        let run = Run::new();
        let data = "synth:chairs@size=128x192,count=4";
        run.ok(&["eval", data, "-m", "dis", "--baseline", "zero", "--report", "page.html", "--confidence"]);
        let url = format!("file://{}", run.path("page.html").display());
        browser.open(&url);
        browser.wait("document.querySelectorAll('th.sorts button').length > 10");
        let column = "[...document.querySelectorAll('#summary ~ .wide table')][0]";
        let methods = format!("[...{column}.tBodies[0].rows].map(row => row.cells[1].textContent).join(' ')");
        browser.screenshot("report");
        let sort = format!("{column}.tHead.rows[0].cells[3].querySelector('button').click()");
        browser.told(&sort);
        assert_eq!(browser.told(&methods), "dis zero");
        browser.told(&sort);
        assert_eq!(browser.told(&methods), "zero dis");
        browser.told("document.querySelector('#worst').scrollIntoView()");
        browser.screenshot("worst");
        let elsewhere = |request: &&String| !request.starts_with("data:") && **request != url;
        assert_eq!(browser.requests.iter().find(elsewhere), None);
    }
}
