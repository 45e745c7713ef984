//! Predicts how training grows with the number of GPUs, from a step's time on one GPU, the length of the vector that ranks add up,
//! and what connects them; writes a page and its plot into a folder.
//!
//! ```console
//! $ cargo run --package trainer --example predict_scaling -- docs
//! ```

use std::fmt::Write;
use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use kuva::backend::svg::SvgBackend;
use kuva::plot::{LegendEntry, LegendShape};
use kuva::render::figure::Figure;
use kuva::render::layout::TickFormat;
use run_report::chart::{Axis, Chart, Curve, renumbered};
use trainer::model::{Model, model_config};
use trainer::settings::Settings;

/// A step on one GPU, by its batch: a fixed part and one for each image, in seconds.
struct Compute {
    fixed: f64,
    per_image: f64,
}

/// What connects GPUs.
struct Links {
    name: &'static str,
    /// Beside the curve's colour.
    short_name: &'static str,
    colour: &'static str,
    /// Seconds of a message, within a machine and between machines.
    latency: [f64; 2],
    /// Bytes a second of one GPU within its machine, and of one machine's network.
    bandwidth: [f64; 2],
    /// Bytes a second between a GPU and the memory in which vectors are added up, both ways; none where GPUs add them.
    to_host: Option<f64>,
}

/// Of a machine.
const GPUS: usize = 8;
/// PyTorch's best form on an H100 at depth 28 in bfloat16: 5.6 ms at 25 images, 16.4 ms at 128.
const COMPUTE: Compute = Compute {
    fixed: 5.6e-3 - 25.0 * (16.4e-3 - 5.6e-3) / 103.0,
    per_image: (16.4e-3 - 5.6e-3) / 103.0,
};
/// Images a GPU in weak scaling, and of the whole batch in strong scaling.
const PER_GPU: f64 = 128.0;
const WHOLE: f64 = 2048.0;
const COUNTS: [usize; 10] = [1, 2, 8, 16, 32, 64, 128, 256, 512, 1024];

/// What `bench-step` measured of exchanges through MPI between two ranks of a processor: seconds of an empty one, and bytes a second each way of
/// a long one.
const MEASURED_LATENCY: f64 = 26e-6;
const MEASURED_BANDWIDTH: f64 = 2.0e9;
/// Communication of a step of those two ranks, by the same command: width, bytes sent, seconds.
const MEASURED_STEPS: [(f64, f64, f64); 3] = [
    (0.125, 2.27e6, 0.7e-3),
    (0.25, 6.79e6, 2.6e-3),
    (0.5, 22.6e6, 15.2e-3),
];

const LINKS: [Links; 2] = [
    Links {
        name: "host memory and MPI (where NCCL is missing)",
        short_name: "through the host",
        colour: "#2f6db5",
        latency: [MEASURED_LATENCY, MEASURED_LATENCY + 5e-6],
        bandwidth: [MEASURED_BANDWIDTH, 25e9],
        to_host: Some(20e9),
    },
    Links {
        name: "NCCL (not yet run)",
        short_name: "NCCL",
        colour: "#e07b28",
        latency: [5e-6, 15e-6],
        bandwidth: [200e9, 50e9],
        to_host: None,
    },
];

impl Links {
    /// Recursive halving and doubling over so many GPUs: at each level a piece half as long, there and back; the nearest first, so that
    /// only pieces of an eighth and less leave the machine, of all its GPUs at a time.
    fn sum(&self, count: usize, bytes: f64) -> f64 {
        let mut seconds = match self.to_host {
            Some(bandwidth) if count > 1 => 2.0 * bytes / bandwidth,
            _ => 0.0,
        };
        let mut piece = bytes;
        for level in 0..count.ilog2() {
            piece /= 2.0;
            let is_outside = 1 << level >= GPUS;
            let bandwidth = if is_outside {
                self.bandwidth[1] / GPUS as f64
            } else {
                self.bandwidth[0]
            };
            seconds += 2.0 * (self.latency[usize::from(is_outside)] + piece / bandwidth);
        }
        seconds
    }

    /// The share of a GPU's time that is not lost, where each has `per_gpu` images, against `alone` seconds for as many images on one.
    fn efficiency(&self, count: usize, per_gpu: f64, bytes: f64) -> f64 {
        let alone = (COMPUTE.fixed + COMPUTE.per_image * PER_GPU) / PER_GPU;
        let step = COMPUTE.fixed + COMPUTE.per_image * per_gpu + self.sum(count, bytes);
        alone * per_gpu / step
    }
}

fn strong(count: usize) -> Option<f64> {
    let per_gpu = WHOLE / count as f64;
    // Two images a shard at least.
    (per_gpu >= 2.0).then_some(per_gpu)
}

fn page(bytes: f64) -> String {
    let mut text = format!(
        "# Scaling, predicted\n\n\
         Written by `cargo run --package trainer --example predict_scaling -- docs`. Nothing here was measured on several GPUs; measurements with\n\
         several ranks of a processor are in [EXPERIMENTS.md](../EXPERIMENTS.md).\n\n\
         ## Assumptions\n\n\
         - One GPU takes {:.2} ms per step and {:.4} ms per image: PyTorch's best form on an H100 at depth 28 in bfloat16 (5.6 ms at 25 images, 16.4 ms at 128;\n\
         \x20 [EXPERIMENTS.md](../EXPERIMENTS.md#2026-11-26-the-first-contact-with-a-card-no-step-finished) has the measurement).\n\
         - Ranks add {:.1} MB per step: the gradients and running statistics of depth 28 at the original width, {:.0} float32 numbers.\n\
         - {GPUS} GPUs per machine. The sum is recursive halving and doubling, the nearest ranks first; it begins when the backward pass has ended.\n\
         - Ranks wait for nobody; evaluation, pictures and checkpoints are not counted.\n\
         - Through host memory, the message and the bandwidth within a machine are those that `bench-step --ranks 2` measured of an exchange between\n\
         \x20 two ranks of a 2-core machine ([EXPERIMENTS.md](../EXPERIMENTS.md#2026-11-28-an-exchange-between-two-ranks)): {:.0} us and {:.1} GB/s. Eight GPUs'\n\
         \x20 ranks are assumed to have as much each, although they share a server's memory, which is also faster. 5 us more are assumed between machines.\n\
         - All other numbers of links are assumed, and round. NCCL within a machine: 200 GB/s, of the 450 GB/s each way that NVIDIA states for an H100's NVLink.\n\
         \x20 A machine's network: one InfiniBand port of 400 Gbit/s, that is 50 GB/s, and half of it through host memory. To the host: 20 GB/s, of the 63 GB/s each\n\
         \x20 way of 16 lanes of PCIe 5.0. Messages of NCCL: 5 and 15 us.\n\n\
         | between GPUs | message within, between machines | GPU within its machine | network of a machine | to the host and back |\n|---|---|---|---|---|\n",
        1e3 * COMPUTE.fixed,
        1e3 * COMPUTE.per_image,
        bytes / 1e6,
        bytes / 4.0,
        1e6 * MEASURED_LATENCY,
        MEASURED_BANDWIDTH / 1e9,
    );
    for links in &LINKS {
        let to_host = links.to_host.map_or_else(
            || "-".to_owned(),
            |bandwidth| format!("{:.0} GB/s", bandwidth / 1e9),
        );
        let _ = writeln!(
            text,
            "| {} | {:.0} us, {:.0} us | {:.0} GB/s | {:.0} GB/s | {to_host} |",
            links.name,
            1e6 * links.latency[0],
            1e6 * links.latency[1],
            links.bandwidth[0] / 1e9,
            links.bandwidth[1] / 1e9,
        );
    }
    text += &checked();
    for (title, about) in [
        ("Weak scaling", format!("{PER_GPU} images per GPU")),
        (
            "Strong scaling",
            format!("{WHOLE} images in all; efficiency against one GPU at {PER_GPU} images"),
        ),
    ] {
        let _ = write!(
            text,
            "\n## {title}: {about}\n\n| GPUs | images per GPU | step without the sum | sum, host | efficiency, host | sum, NCCL | efficiency, NCCL |\n|---|---|---|---|---|---|---|\n"
        );
        for count in COUNTS {
            let per_gpu = if title.starts_with("Weak") {
                Some(PER_GPU)
            } else {
                strong(count).filter(|_| count >= 8)
            };
            let Some(per_gpu) = per_gpu else { continue };
            let _ = write!(
                text,
                "| {count} | {per_gpu} | {:.2} ms |",
                1e3 * (COMPUTE.fixed + COMPUTE.per_image * per_gpu)
            );
            for links in &LINKS {
                let _ = write!(
                    text,
                    " {:.2} ms | {:.2} |",
                    1e3 * links.sum(count, bytes),
                    links.efficiency(count, per_gpu, bytes)
                );
            }
            text += "\n";
        }
    }
    text + "\n![efficiency over the number of GPUs](scaling.svg)\n\nLeft weak, right strong scaling.\n"
}

/// The model's sum between the two ranks whose exchange was measured, beside what their steps spent.
fn checked() -> String {
    let mut text = "\n## The same formula for the two ranks that were measured\n\n\
                    Depth 28, one message each way at a time. What the sum of a step takes by the measured exchange, and the communication that the step had:\n\n\
                    | width | MB per step | predicted | measured |\n|---|---|---|---|\n"
        .to_owned();
    for (width, bytes, seconds) in MEASURED_STEPS {
        let predicted = 2.0 * MEASURED_LATENCY + bytes / MEASURED_BANDWIDTH;
        let _ = writeln!(
            text,
            "| {width} | {:.1} | {:.1} ms | {:.1} ms |",
            bytes / 1e6,
            1e3 * predicted,
            1e3 * seconds
        );
    }
    text
}

fn plot(bytes: f64) -> String {
    let chart = |images: fn(usize) -> Option<f64>, label: &str| {
        let curves = LINKS.iter().map(|links| {
            let points = COUNTS.into_iter().filter_map(|count| {
                let per_gpu = images(count)?;
                Some((
                    f64::from(count.ilog2()),
                    links.efficiency(count, per_gpu, bytes),
                ))
            });
            Curve::new(points.collect(), links.colour)
        });
        let curves: Vec<Curve> = curves.collect();
        // The whole range: `Axis::of` would leave out what is rare.
        let axis = Axis {
            low: 0.0,
            high: 1.2,
            step: 0.2,
            above: 0,
            largest: 1.0,
            not_finite: 0,
        };
        Chart {
            curves,
            x_label: format!("log2 of the number of GPUs, {label}"),
            y_label: "efficiency".to_owned(),
            horizontal: (0.0, 10.5),
            x_step: 2.0,
            axis,
            y_format: TickFormat::Auto,
        }
    };
    let charts = [
        chart(|_| Some(PER_GPU), "weak"),
        chart(|count| strong(count).filter(|_| count >= 8), "strong"),
    ];
    let legend = LINKS.iter().map(|links| LegendEntry {
        label: links.short_name.to_owned(),
        color: links.colour.to_owned(),
        shape: LegendShape::Line,
        dasharray: None,
    });
    let figure = Figure::new(1, charts.len())
        .with_plots(charts.iter().map(Chart::plots).collect())
        .with_layouts(charts.iter().map(Chart::layout).collect())
        .with_cell_size(400.0, 340.0)
        .with_shared_legend_bottom()
        .with_shared_legend_entries(legend.collect());
    let svg = SvgBackend::new()
        .with_pretty(true)
        .render_scene(&figure.render());
    renumbered(svg.trim_end(), "kuva-clip-", "kuva-clip-") + "\n"
}

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "docs".to_owned());
    let folder = Path::new(&folder);
    let settings = Settings {
        depth: 28,
        ..Settings::default()
    };
    let config = model_config(&settings).map_err(std::io::Error::other)?;
    let model = Model::new(&config, &Device::flex());
    // Running statistics are counted too.
    let bytes = 4.0 * model.num_params() as f64;
    std::fs::write(folder.join("scaling.md"), page(bytes))?;
    std::fs::write(folder.join("scaling.svg"), plot(bytes))
}
