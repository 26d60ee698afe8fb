//! `ferroflow doctor`: what this machine can run.

use std::{io::Write, process::Command};

use ferroflow::CpuOptions;
use ferroflow::core::{Size, memory};
use ferroflow::kernels::{Bf16, Isa};
use ferroflow::net::Model;
use serde::Serialize;

use crate::{
    device::{self, DeviceName, DeviceParser, Gpu, Precision},
    machine,
    session::Session,
};

/// Say what this machine has (processor, instruction sets, memory, GPUs, ffmpeg) and which networks fit at a size.
///
///   ferroflow doctor --size 1080x1920
///   ferroflow doctor --device vulkan
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Size of the frames
    #[arg(long, default_value = "1080x1920", value_name = "HxW")]
    size: Size,
    /// Open this device, and fail if it cannot be had. Default: list all
    #[arg(long, value_name = "DEVICE", value_parser = DeviceParser)]
    device: Option<DeviceName>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    version: &'static str,
    processor: String,
    threads: usize,
    instruction_sets: Vec<&'static str>,
    instruction_set_used: &'static str,
    /// What `--precision bf16` would multiply with; absent where the processor has nothing for it.
    bf16: Option<&'static str>,
    total_memory_bytes: Option<u64>,
    available_memory_bytes: Option<u64>,
    /// What `--device` can name beside `cpu`; absent in a build without GPUs.
    gpus: Option<Vec<Gpu>>,
    ffmpeg: Option<String>,
    height: usize,
    width: usize,
    networks: Vec<Fits>,
}

#[derive(Serialize)]
struct Fits {
    name: &'static str,
    memory_bytes: u64,
    /// Whether that much memory is free; absent where the system does not say.
    fits: Option<bool>,
}

/// Runs the command.
pub fn run(args: Args, session: &mut Session) -> anyhow::Result<()> {
    if let Some(name) = args.device {
        device::open(name, Precision::F32, CpuOptions::default())?;
    }
    let gpus = (device::names().len() > 1).then(device::list);
    let chosen = args.device.filter(|name| *name != DeviceName::Cpu).map(|name| name.or_numbered(0).to_string());
    let is_chosen = |gpu: &Gpu| chosen.as_ref().is_none_or(|chosen| gpu.device == *chosen);
    let gpus = gpus.map(|gpus| gpus.into_iter().filter(is_chosen).collect());
    let available = memory::available();
    let networks = Model::names()
        .map(|name| {
            let model = Model::named(name)?;
            let sizes = model.sizes_for(args.size);
            let memory_bytes = ferroflow::infer::memory_estimate(&model, &sizes)?;
            Ok(Fits { name, memory_bytes, fits: available.map(|a| memory_bytes < a) })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        processor: machine::processor(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        instruction_sets: Isa::available().into_iter().map(Isa::name).collect(),
        instruction_set_used: Isa::detect().name(),
        bf16: Bf16::detect().ok().map(Bf16::name),
        total_memory_bytes: machine::total_memory_bytes(),
        available_memory_bytes: available,
        gpus,
        ffmpeg: ffmpeg_version(),
        height: args.size.height,
        width: args.size.width,
        networks,
    };
    if args.json {
        writeln!(session.out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(session.out, "{report}")?;
    }
    Ok(())
}

fn ffmpeg_version() -> Option<String> {
    let output = Command::new("ffmpeg").arg("-version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_string())
}

impl Report {
    /// A GPU, and which networks it is too small for.
    fn describe(&self, gpu: &Gpu) -> String {
        let Gpu { device, name, memory_bytes, software } = gpu;
        let on = if *software { ", a driver that computes on the processor" } else { "" };
        let Some(memory) = memory_bytes else { return format!("{device}: {name}{on}") };
        let large: Vec<&str> = self.networks.iter().filter(|n| n.memory_bytes > *memory).map(|n| n.name).collect();
        let fits = match &large[..] {
            [] => "every network fits".into(),
            large => format!("too small for {}", large.join(", ")),
        };
        format!("{device}: {name}{on}, {:.1} GB: {fits} at {}x{}", *memory as f64 / 1e9, self.height, self.width)
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gb = |bytes: Option<u64>| bytes.map_or("unknown".into(), |b| format!("{:.1} GB", b as f64 / 1e9));
        writeln!(f, "ferroflow {}", self.version)?;
        writeln!(f, "processor   {}, {} threads", self.processor, self.threads)?;
        writeln!(
            f,
            "kernels     {} (this machine has {}; FERROFLOW_ISA overrides)",
            self.instruction_set_used,
            self.instruction_sets.join(", ")
        )?;
        match Bf16::detect() {
            Ok(unit) => writeln!(f, "bf16        {} (--precision bf16)", unit.name())?,
            Err(error) => writeln!(f, "bf16        no: {error}")?,
        }
        writeln!(f, "memory      {}, {} free", gb(self.total_memory_bytes), gb(self.available_memory_bytes))?;
        match &self.gpus {
            None => writeln!(f, "gpus        this build of the program has none (GUIDE.md, \"GPUs\")")?,
            Some(gpus) if gpus.is_empty() => writeln!(f, "gpus        none found: is their driver installed?")?,
            Some(gpus) => gpus.iter().try_for_each(|gpu| writeln!(f, "gpu         {}", self.describe(gpu)))?,
        }
        match &self.ffmpeg {
            Some(version) => writeln!(f, "video       {version}")?,
            None => writeln!(f, "video       no ffmpeg: .y4m only; install ffmpeg to read other videos")?,
        }
        writeln!(f, "\nmemory of each network at {}x{}:", self.height, self.width)?;
        for network in &self.networks {
            let verdict = match network.fits {
                Some(true) => "",
                Some(false) => "  does not fit: use smaller frames or --tile",
                None => "",
            };
            writeln!(f, "  {:<18} {:>7.2} GB{verdict}", network.name, network.memory_bytes as f64 / 1e9)?;
        }
        Ok(())
    }
}
