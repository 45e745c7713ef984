//! The parts, and the order they are made in.

use std::fmt;
use std::path::PathBuf;

use run_files::settings::{DeviceChoice, Precision};

/// A training step that is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StepCase {
    /// Layers of the model.
    pub(super) depth: u32,
    /// Images a step.
    pub(super) batch: usize,
    pub(super) precision: Precision,
}

/// What is done in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Opens the device and tells its name.
    Device,
    Parity(Precision),
    Determinism(Precision),
    /// One of the trainings that are compared: what the part starts another process for.
    Trained(Precision),
    Step(StepCase),
    /// The same step, launched kernel by kernel where it is otherwise replayed as a graph.
    Launched(StepCase),
    /// From the start of a process to the end of its first step, without compiled kernels and with them.
    Start,
    /// The same step by Burn's own layers in place of this project's forms of a block.
    Layers(StepCase),
    /// The same step in PyTorch.
    Pytorch(StepCase),
    Products(Precision),
}

/// How large everything is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    /// Multiplier of the model's widths.
    pub(super) width: f64,
    /// Dimensions of the latent.
    pub(super) latent_dim: usize,
    /// The three batch sizes.
    pub(super) batches: [usize; 3],
    /// Steps that count.
    pub(super) steps: usize,
    /// Steps before them.
    pub(super) warmup: usize,
    /// Rows and columns of the matrices that are multiplied.
    pub(super) product_size: usize,
    /// For how long they are, at least, in seconds.
    pub(super) product_seconds: f64,
}

impl Scale {
    /// The post's model at the batch sizes that a GPU is judged by.
    pub(super) const FULL: Self = Self {
        width: 1.0,
        latent_dim: 256,
        batches: [25, 128, 512],
        steps: 50,
        // The first step compiles kernels, the second one is captured; nothing is tuned.
        warmup: 5,
        product_size: 8192,
        product_seconds: 1.0,
    };
    /// The same parts on a processor, in seconds: whether they work, not what they measure.
    pub(super) const TINY: Self = Self {
        width: 0.02,
        latent_dim: 4,
        batches: [2, 4, 8],
        steps: 2,
        warmup: 1,
        product_size: 192,
        product_seconds: 0.05,
    };

    /// The size for a device.
    pub(super) fn of(is_cuda: bool) -> Self {
        if is_cuda { Self::FULL } else { Self::TINY }
    }
}

/// What a part is made on and with.
#[derive(Clone, Debug)]
pub(crate) struct PartOptions {
    pub(super) device: DeviceChoice,
    pub(super) scale: Scale,
    /// Folder of the results.
    pub(super) out: PathBuf,
    /// A Python that has PyTorch.
    pub(super) python: Option<PathBuf>,
}

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

/// The parts of a whole check in their order; PyTorch's only where it is asked for.
///
/// What the budget may not reach comes last: a card is judged by whether it computes what it should, and by the steps of depth 28 in bfloat16 and
/// their time in PyTorch.
pub(super) fn all(scale: Scale, with_pytorch: bool) -> Vec<Part> {
    let [small, middle, large] = scale.batches;
    let mut parts = vec![Part::Device];
    parts.extend(PRECISIONS.map(Part::Parity));
    parts.push(Part::Start);
    let (mut launched, mut others, mut in_pytorch) = (Vec::new(), Vec::new(), Vec::new());
    for precision in [Precision::Bf16, Precision::F32] {
        let is_first = precision == Precision::Bf16;
        let case = |depth, batch| StepCase {
            depth,
            batch,
            precision,
        };
        let of_depth_28 = [middle, small].map(|batch| case(28, batch));
        parts.extend(of_depth_28.map(Part::Step));
        parts.push(Part::Determinism(precision));
        if is_first && with_pytorch {
            parts.extend(of_depth_28.map(Part::Pytorch));
        }
        parts.push(Part::Products(precision));
        launched.extend(of_depth_28.map(Part::Launched));
        let mut of_others: Vec<StepCase> = [40, 70, 100].map(|depth| case(depth, small)).into();
        if is_first {
            // What PyTorch's deepest model was timed with.
            of_others.push(case(100, middle));
        } else {
            in_pytorch.extend(of_depth_28);
        }
        of_others.push(case(28, large));
        in_pytorch.extend(of_others.iter().copied());
        others.extend(of_others);
    }
    parts.extend(launched);
    parts.extend(others.into_iter().map(Part::Step));
    if with_pytorch {
        // It may compile for minutes.
        parts.extend(in_pytorch.into_iter().map(Part::Pytorch));
    }
    parts
}

/// What is made only where it is asked for: Burn's own layers, whose kernels a GPU tunes for hours.
pub(super) fn on_request(scale: Scale) -> Vec<Part> {
    let [_, middle, _] = scale.batches;
    let layers = PRECISIONS.map(|precision| StepCase {
        depth: 28,
        batch: middle,
        precision,
    });
    layers.map(Part::Layers).into()
}

/// What only parts start.
pub(super) fn of_parts() -> Vec<Part> {
    PRECISIONS.map(Part::Trained).into()
}

impl Part {
    /// The precision that it is made in; none where that does not matter.
    pub(super) fn precision(self) -> Option<Precision> {
        match self {
            Self::Device | Self::Start => None,
            Self::Parity(precision)
            | Self::Determinism(precision)
            | Self::Trained(precision)
            | Self::Products(precision) => Some(precision),
            Self::Step(case) | Self::Launched(case) | Self::Layers(case) | Self::Pytorch(case) => {
                Some(case.precision)
            }
        }
    }

    /// Whether `name` is this part's, or that of its kind: its first word.
    pub(super) fn is_named(self, name: &str) -> bool {
        let own = self.to_string();
        own == name || own.split('-').next() == Some(name)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let mut step = |kind: &str, case: &StepCase| {
            let StepCase {
                depth,
                batch,
                precision,
            } = case;
            write!(formatter, "{kind}-{depth}-{batch}-{precision}")
        };
        match self {
            Self::Step(case) => step("step", case),
            Self::Launched(case) => step("launched", case),
            Self::Start => formatter.write_str("start"),
            Self::Layers(case) => step("layers", case),
            Self::Pytorch(case) => step("pytorch", case),
            Self::Device => formatter.write_str("device"),
            Self::Parity(precision) => write!(formatter, "parity-{precision}"),
            Self::Determinism(precision) => write!(formatter, "determinism-{precision}"),
            Self::Trained(precision) => write!(formatter, "trained-{precision}"),
            Self::Products(precision) => write!(formatter, "products-{precision}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_kinds_name_many() {
        let parts = [all(Scale::FULL, true), on_request(Scale::FULL)].concat();
        for part in &parts {
            let named = parts
                .iter()
                .filter(|other| other.is_named(&part.to_string()));
            assert_eq!(named.count(), 1, "{part}");
        }
        let count = |name| parts.iter().filter(|part| part.is_named(name)).count();
        assert_eq!(count("step"), 2 * (2 + 3 + 1) + 1);
        assert_eq!(count("step-100-128-bf16"), 1);
        assert_eq!(count("pytorch"), count("step"));
        assert_eq!(count("launched"), 4);
        assert_eq!(count("layers"), 2);
        assert_eq!(count("parity"), 2);
        assert_eq!(count("step-28"), 0);
    }

    #[test]
    fn what_matters_most_comes_first() {
        let parts = all(Scale::FULL, true);
        let at = |name: &str| {
            let found = parts.iter().position(|part| part.to_string() == name);
            found.unwrap_or_else(|| panic!("no {name}"))
        };
        let order = [
            "device",
            "parity-f32",
            "parity-bf16",
            "start",
            "step-28-128-bf16",
            "step-28-25-bf16",
            "determinism-bf16",
            "pytorch-28-128-bf16",
            "pytorch-28-25-bf16",
            "products-bf16",
            "step-28-128-f32",
            "step-28-25-f32",
            "determinism-f32",
            "products-f32",
            "launched-28-128-bf16",
            "step-40-25-bf16",
            "step-100-128-bf16",
            "step-28-512-f32",
            "pytorch-28-128-f32",
            "pytorch-100-25-f32",
        ];
        assert!(order.map(at).is_sorted());
        assert!(
            !all(Scale::FULL, false)
                .iter()
                .any(|part| part.is_named("pytorch"))
        );
    }
}
