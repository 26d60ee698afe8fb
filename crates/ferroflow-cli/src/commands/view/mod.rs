//! `ferroflow view`: frames, flow, errors and occlusion in a browser.

mod scene;
mod server;
mod source;

use std::{
    collections::VecDeque,
    io::{IsTerminal, Write},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use ferroflow::infer::report::SORT;

use self::{
    scene::Shown,
    server::{Response, listen, serve},
    source::Scenes,
};
use crate::{
    method::MethodArgs,
    session::{Session, complain, note},
    usage::{UsageError, explain},
};

/// Look at frames, flow, errors and occlusion in a browser: a slider wipes between any two of them, and the pointer reads values.
///
/// The page is served on this machine alone (127.0.0.1) until Ctrl-C; nothing is loaded from elsewhere. Two images or a folder of frames
/// are estimated when they are looked at, with occlusion and confidence from the flow back:
///
///   ferroflow view frame1.png frame2.png
///   ferroflow view flow.flo frame1.png frame2.png --truth truth.png
///   ferroflow view flows/ --frames frames/
///   ferroflow view kitti15:/data/kitti -w pwcnet.safetensors
///   ferroflow view runs/first
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Two images; a flow file with or without its frames; a folder of frames or of flow files; a run of `train` (its network on the
    /// data that it is validated on); or a data set, NAME:PATH
    #[arg(required = true, num_args = 1..=3, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// The true flow of a pair, to show the errors
    #[arg(long, value_name = "FLOW")]
    truth: Option<PathBuf>,
    /// The frames of a folder of flow files, whose names they have
    #[arg(long, value_name = "DIR")]
    frames: Option<PathBuf>,
    /// With a data set: look at the flows of this folder, as `eval --flows` takes them, in place of a network's
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "weights"])]
    flows: Option<PathBuf>,
    #[command(flatten)]
    method: MethodArgs,
    /// Port to serve on. Default: one that is free
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Open no browser: the address is printed all the same
    #[arg(long)]
    no_open: bool,
    /// Print the address as JSON, and open no browser
    #[arg(long)]
    json: bool,
}

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const ICON: &str = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><path d='M2 8h9M8 4l4 4-4 4' fill='none' stroke='#b7410e' \
                    stroke-width='2'/></svg>";

/// Scenes that stay drawn: the one that is looked at and its neighbours.
const KEPT: usize = 4;

/// Runs the command, until a signal ends the program: there is nothing to save.
pub fn run(args: Args, session: &mut Session) -> anyhow::Result<()> {
    let scenes = source::open(&args)?;
    let listener = listen(args.port)
        .map_err(|error| UsageError(format!("cannot serve on port {}: {error}; leave out --port", args.port)))?;
    let url = format!("http://{}/", listener.local_addr().context("cannot serve a page")?);
    if args.json {
        writeln!(session.out, "{}", serde_json::json!({ "url": url }))?;
    } else {
        writeln!(session.out, "{url}")?;
        note!("showing {} there; Ctrl-C ends", scenes.title());
    }
    session.out.flush()?;
    if !args.no_open && !args.json && std::io::stdout().is_terminal() {
        open_browser(&url);
    }
    let viewer = Viewer { scenes, drawn: Mutex::default() };
    serve(&listener, move |path| viewer.answer(path)).context("cannot serve the page")
}

/// Asks the system for its browser. Without one there is still the address.
fn open_browser(url: &str) {
    let program = match std::env::consts::OS {
        "macos" => "open",
        "windows" => "explorer",
        _ => "xdg-open",
    };
    let mut command = Command::new(program);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if command.spawn().is_err() {
        note!("there is no {program} to open a browser with: open the address yourself");
    }
}

/// Answers the page's requests.
struct Viewer {
    scenes: Box<dyn Scenes>,
    /// The latest last. Scenes are drawn one at a time: an estimate uses all threads.
    drawn: Mutex<VecDeque<(usize, Arc<Shown>)>>,
}

impl Viewer {
    fn answer(&self, path: &str) -> Response {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match parts[..] {
            [""] => Response::new("text/html; charset=utf-8", PAGE.as_bytes()),
            ["page.css"] => Response::new("text/css; charset=utf-8", STYLE.as_bytes()),
            ["page.js"] => Response::new("text/javascript; charset=utf-8", SCRIPT.as_bytes()),
            ["sort.js"] => Response::new("text/javascript; charset=utf-8", SORT.as_bytes()),
            ["icon.svg"] => Response::new("image/svg+xml", ICON.as_bytes()),
            ["pairs"] => {
                let list = serde_json::json!({ "title": self.scenes.title(), "names": self.scenes.names() });
                Response::new("application/json", list.to_string().into_bytes())
            }
            ["pair", index, what] => match index.parse() {
                Ok(index) => self.part(index, what),
                Err(_) => missing(),
            },
            _ => missing(),
        }
    }

    /// A part of a pair: `scene` describes it, `NAME.png` are pictures, `NAME.f32` numbers.
    fn part(&self, index: usize, what: &str) -> Response {
        let shown = match self.shown(index) {
            Ok(shown) => shown,
            Err(error) => {
                let why = explain(&error);
                complain!("pair {}: {why}", index + 1);
                return Response::refusal("500 Internal Server Error", &why);
            }
        };
        let found = match what.rsplit_once('.') {
            None if what == "scene" => serde_json::to_vec(&*shown).ok().map(|json| ("application/json", json.into())),
            Some((name, "png")) => shown.png(name).map(|png| ("image/png", png)),
            Some((name, "f32")) => shown.plane(name).map(|numbers| ("application/octet-stream", numbers)),
            _ => None,
        };
        found.map_or_else(missing, |(kind, body): (_, Arc<[u8]>)| Response::new(kind, body))
    }

    fn shown(&self, index: usize) -> anyhow::Result<Arc<Shown>> {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, shown)) = drawn.iter().find(|(drawn, _)| *drawn == index) {
            return Ok(shown.clone());
        }
        let shown = Arc::new(Shown::new(&self.scenes.scene(index)?)?);
        if drawn.len() == KEPT {
            drawn.pop_front();
        }
        drawn.push_back((index, shown.clone()));
        Ok(shown)
    }
}

fn missing() -> Response {
    Response::refusal("404 Not Found", "there is no such thing here")
}
