//! What the parts find, one row a measurement.

use serde::{Deserialize, Serialize};

use run_files::settings::Precision;

/// One measurement, as `results.json` holds it and as a part's process prints it, one a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Row {
    Device(DeviceRow),
    Parity(ParityRow),
    Determinism(DeterminismRow),
    Step(StepRow),
    Pytorch(PytorchRow),
    Product(ProductRow),
    Start(StartRow),
    /// No result: where the part stands.
    Stage(StageRow),
    /// No result: what a training for another process gave.
    Trained(TrainedRow),
}

impl Row {
    /// Where the part stands.
    pub(super) fn stage(stage: String, compiles: bool) -> Self {
        Self::Stage(StageRow { stage, compiles })
    }

    /// Why this is no success, if it is none.
    pub(super) fn failure(&self) -> Option<String> {
        match self {
            Self::Step(row) => row.failure(),
            Self::Product(row) => row.unplanned_products.clone(),
            Self::Device(_) | Self::Start(_) | Self::Stage(_) | Self::Trained(_) => None,
            Self::Parity(row) => row.failure(),
            Self::Determinism(row) => row.failure(),
            Self::Pytorch(row) => row.failure(),
        }
    }
}

/// Where a part stands, so that one that does not end can say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StageRow {
    pub(super) stage: String,
    /// Whether kernels are compiled, which the part's time limit does not count.
    #[serde(default)]
    pub(super) compiles: bool,
}

/// From the start of a process to its end after one training step, on a GPU two: the first compiles, the second is captured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StartRow {
    /// Whether no compiled kernel was there.
    pub(super) is_cold: bool,
    pub(super) seconds: f64,
}

/// The device itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeviceRow {
    /// The card's name by the driver, or the processor's architecture.
    pub(super) name: String,
    /// Free memory in bytes, where the system tells.
    pub(super) free_bytes: Option<u64>,
    /// Threads of the host.
    pub(super) threads: usize,
    /// What multiplies matrices there; none on processors.
    #[serde(default)]
    pub(super) matrix_products: Option<String>,
}

/// One tensor against its golden values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Comparison {
    pub(super) tensor: String,
    /// Relative L2 distance, or the largest value where zero is expected; none where it is not finite.
    pub(super) error: Option<f64>,
    pub(super) allowed: f64,
}

impl Comparison {
    /// The error as a share of what is allowed.
    pub(super) fn share(&self) -> f64 {
        self.error
            .map_or(f64::INFINITY, |error| error / self.allowed)
    }

    pub(super) fn is_within(&self) -> bool {
        self.share() <= 1.0
    }
}

/// One block or autoencoder against its golden file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ParityRow {
    /// The file's name.
    pub(super) case: String,
    /// Tensors compared.
    pub(super) comparisons: usize,
    /// The one that comes nearest to its limit, or exceeds it most.
    pub(super) worst: Option<Comparison>,
    /// Why nothing could be compared.
    pub(super) reason: Option<String>,
}

impl ParityRow {
    pub(super) fn failure(&self) -> Option<String> {
        match (&self.reason, &self.worst) {
            (Some(reason), _) => Some(reason.clone()),
            (None, None) => Some("nothing was compared".to_owned()),
            (None, Some(worst)) if !worst.is_within() => {
                let error = worst.error.map(|error| format!("off by {error:.1e}"));
                let error = error.as_deref().unwrap_or("not finite");
                Some(format!(
                    "{}: {} {error}, {:.1e} allowed",
                    self.case, worst.tensor, worst.allowed
                ))
            }
            _ => None,
        }
    }
}

/// The bits of a short training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TrainedRow {
    /// Of every step's mean loss; none where it is not finite.
    pub(super) losses: Vec<Option<u64>>,
    /// All parameters and running statistics, in their order.
    pub(super) tensors: Vec<TensorRow>,
}

/// The bits of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TensorRow {
    pub(super) numbers: usize,
    /// A hash of them; none where a number is not finite.
    pub(super) bits: Option<u64>,
}

/// What a training is compared with: one that is replayed as a graph where the device can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Compared {
    /// The same in the same process.
    #[default]
    Again,
    /// Kernel by kernel in the same process.
    Launched,
    /// The same in another process.
    OtherProcess,
}

impl Compared {
    /// As a table names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Again => "trained again",
            Self::Launched => "launched",
            Self::OtherProcess => "in another process",
        }
    }
}

/// Two short trainings with one seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeterminismRow {
    pub(super) precision: Precision,
    /// The second one.
    #[serde(default)]
    pub(super) compared: Compared,
    /// Steps of each.
    pub(super) steps: usize,
    /// Steps whose losses are equal to the bit.
    pub(super) equal_losses: usize,
    /// Numbers of the model.
    pub(super) weights: usize,
    /// Those in tensors that are equal to the bit at the end.
    pub(super) equal_weights: usize,
    /// Whether equality is promised; it is, on every device.
    pub(super) is_demanded: bool,
}

impl DeterminismRow {
    /// Whether everything is equal.
    pub(super) fn is_equal(&self) -> bool {
        self.equal_losses == self.steps && self.equal_weights == self.weights
    }

    fn failure(&self) -> Option<String> {
        (self.is_demanded && !self.is_equal()).then(|| {
            format!(
                "{}: {} of {} losses and {} of {} weights are equal",
                self.compared.name(),
                self.equal_losses,
                self.steps,
                self.equal_weights,
                self.weights
            )
        })
    }
}

/// A training step of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StepRow {
    /// Layers of the model.
    pub(super) depth: u32,
    /// Images a step.
    pub(super) batch: usize,
    pub(super) precision: Precision,
    /// By Burn's own layers.
    #[serde(default)]
    pub(super) is_plain: bool,
    /// Kernel by kernel, where a GPU could replay the step as a graph.
    #[serde(default)]
    pub(super) is_launched: bool,
    /// Why it was, though nobody asked for it.
    #[serde(default)]
    pub(super) capture_failure: Option<String>,
    /// Which products the GPU's library refused, which makes the step slower.
    #[serde(default)]
    pub(super) unplanned_products: Option<String>,
    /// Median of the steps that count.
    pub(super) seconds_per_step: f64,
    pub(super) fastest: f64,
    pub(super) slowest: f64,
    /// Steps that count.
    pub(super) steps: usize,
    /// Steps before them.
    pub(super) warmup: usize,
    /// The very first step: compiling and tuning of kernels included.
    pub(super) first_step_seconds: f64,
    pub(super) images_per_second: f64,
    /// On a GPU what Burn's memory pool holds at the end, pages that it keeps for reuse included, tuning's among them; on a
    /// processor the process's largest resident memory. Absent where neither is told.
    pub(super) peak_bytes: Option<u64>,
    /// What was predicted for that step; nothing is for Burn's own layers.
    pub(super) predicted_bytes: Option<u64>,
    /// Floating-point operations of convolutions and dense layers as the model writes them, forward and backward: 6 a
    /// multiply-accumulate. Products with the zeros of an upsampling block count, though only Burn's own layers make them.
    pub(super) operations: u64,
    pub(super) operations_per_second: f64,
}

impl StepRow {
    fn failure(&self) -> Option<String> {
        let launched = self.capture_failure.as_ref().map(|reason| {
            format!("its steps were launched, because they cannot be captured as a graph: {reason}")
        });
        let reasons: Vec<String> = launched
            .into_iter()
            .chain(self.unplanned_products.clone())
            .collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// The same step in PyTorch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PytorchRow {
    pub(super) depth: u32,
    pub(super) batch: usize,
    pub(super) precision: Precision,
    /// How PyTorch ran the model.
    pub(super) form: String,
    pub(super) version: Option<String>,
    pub(super) seconds_per_step: Option<f64>,
    /// The largest memory allocated on the device, or resident.
    pub(super) peak_bytes: Option<u64>,
    /// Why it could not be timed.
    pub(super) reason: Option<String>,
}

impl PytorchRow {
    fn failure(&self) -> Option<String> {
        let reason = self.reason.as_ref()?;
        Some(format!("{}: {reason}", self.form))
    }
}

/// A product of two square matrices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ProductRow {
    pub(super) precision: Precision,
    /// Rows and columns of each.
    pub(super) size: usize,
    /// Of one product.
    pub(super) seconds: f64,
    pub(super) operations_per_second: f64,
    /// That the GPU's library refused it, where it did.
    #[serde(default)]
    pub(super) unplanned_products: Option<String>,
}
