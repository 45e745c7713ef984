//! Steps that stay on a GPU: the host asks for the next one before it knows what became of the last.

mod checked;
mod scorer;
mod shards;
mod wire;
mod worker;

use burn::module::Module;
use burn::prelude::Device;
use run_files::metrics::BatchLoss;
use run_files::step_guard::StepGuard;
use vae_core::DropoutMasks;
use vae_device_step::{
    AdamOptions, DeviceStep, Outcome as DeviceOutcome, Pending, StepInputs, StepOptions, StepRates,
};

use self::checked::checked;
pub(crate) use self::scorer::DeviceScorer;
use self::wire::Link;
use self::worker::GpuWorker;
use crate::experiment::model::{Model, ModelConfig};
use crate::experiment::weights::NamedValues;
use crate::step::adam::{BETA_1, BETA_2, EPSILON};
use crate::step::kl_objective::KlObjective;
use crate::step::passes::pass::Inputs;
use crate::step::passes::replicas::Replicas;
use crate::step::request::{EngineOptions, Outcome, StepReport, StepRequest};
use crate::step::verdict::{Finding, verdict};

/// The step on a GPU, and the one whose outcome is not known yet.
pub(crate) struct OnDevice {
    step: DeviceStep,
    options: EngineOptions,
    open: Option<Open>,
    /// Whether the model has changed since it was read.
    is_ahead: bool,
    /// The penalties of the present weights and of their average, once somebody has asked for them.
    penalties: [Option<f64>; 2],
    /// The way to the GPUs of other ranks, from the first step on.
    link: Option<Link>,
    /// Other GPUs of this process that share each batch.
    workers: Vec<GpuWorker<OnDevice>>,
}

/// A step that the device has been asked for.
struct Open {
    pending: Pending,
    told: Told,
}

/// What a report says of a step besides its outcome.
struct Told {
    step: u64,
    images: usize,
    learning_rate: f64,
    kl: KlObjective,
}

impl OnDevice {
    /// The step on the model's device and those of the replicas, where they know one.
    pub(crate) fn with_replicas(
        model: &Model,
        replicas: &Replicas,
        options: EngineOptions,
    ) -> Option<Self> {
        let is_trained = model.devices().iter().all(Device::is_autodiff);
        if !replicas.are_independent() || !is_trained {
            return None;
        }
        Self::new(model, options)?.with_workers(replicas.worker_devices())
    }

    /// None where the model is on processors, or a run has something that the device's step does not know.
    pub(in crate::step) fn new(model: &Model, options: EngineOptions) -> Option<Self> {
        let model = model.as_resnet()?;
        if resnet_blocks::are_blocks_plain() {
            return None;
        }
        let step = DeviceStep::new(
            model,
            StepOptions {
                adam: AdamOptions {
                    beta_1: BETA_1,
                    beta_2: BETA_2,
                    epsilon: EPSILON,
                },
                sampler: options.sampler,
                average_decay: options.average_decay,
                free_bits: options.free_bits,
                is_recomputed: options.gradient_checkpointing,
                is_captured: !options.is_launched,
            },
        )?;
        Some(Self {
            step,
            options,
            open: None,
            is_ahead: false,
            penalties: [None; 2],
            link: None,
            workers: Vec::new(),
        })
    }

    /// With workers on other GPUs, autodiff devices for models of that form; none where any of them cannot take part.
    fn with_workers<'a>(
        mut self,
        devices: impl Iterator<Item = (&'a ModelConfig, &'a Device)>,
    ) -> Option<Self> {
        // Only the main one takes steps, and has an average; nothing is captured beside other GPUs.
        let options = EngineOptions {
            average_decay: None,
            is_launched: true,
            ..self.options
        };
        let gpus = devices.map(|(config, device)| {
            let config = config.clone();
            // Their step is not known where the model's form is not.
            GpuWorker::start(device, move |device| {
                Self::new(&Model::new(&config, device), options)
            })
        });
        self.workers = gpus.collect::<Option<_>>()?;
        if !self.workers.is_empty() {
            // Nothing else of the process may ask the driver for memory while one GPU captures.
            self.step.launch_always();
        }
        Some(self)
    }

    /// Goes on after so many updates; false where the moments are another model's.
    pub(crate) fn restore(&mut self, updates: u64, moments: &NamedValues) -> bool {
        self.step.restore(updates, moments)
    }

    /// Asks for a step, and reports the one before.
    ///
    /// # Panics
    /// If the device fails, as Burn's own operations do.
    pub(crate) fn step(
        &mut self,
        request: StepRequest,
        guard: &mut StepGuard,
    ) -> Option<StepReport> {
        let StepRequest {
            step,
            inputs,
            learning_rate,
            kl,
            next_kl_weight,
        } = request;
        let images = inputs.len();
        let rates = self.rates(learning_rate, [kl.weight, next_kl_weight], guard);
        let pending = checked(self.step.step(on_device(inputs), rates));
        self.goes_ahead();
        let told = Told {
            step,
            images,
            learning_rate,
            kl,
        };
        let before = self.open.replace(Open { pending, told });
        let report = self.report(before?, guard);
        if let Outcome::Taken = report.outcome
            && let Some(Open { told, .. }) = &mut self.open
        {
            told.kl.weight = next_kl_weight;
        }
        Some(report)
    }

    /// The report of the step that none has been given of yet.
    pub(crate) fn settle(&mut self, guard: &mut StepGuard) -> Option<StepReport> {
        let open = self.open.take()?;
        Some(self.report(open, guard))
    }

    /// The model as it is on the device; none where it is the one that was read last.
    pub(crate) fn model(&mut self, model: &Model) -> Option<Model> {
        let model = model.as_resnet()?;
        let is_ahead = std::mem::take(&mut self.is_ahead);
        is_ahead.then(|| Model::ResNet(checked(self.step.model(model.clone()))))
    }

    /// The present weights and running statistics by name.
    pub(crate) fn weights(&self) -> NamedValues {
        checked(self.step.weights())
    }

    /// Those of the average, where one is kept.
    pub(crate) fn averaged_weights(&self) -> Option<NamedValues> {
        checked(self.step.averaged_weights())
    }

    /// The average of the weights, where one is kept; `average` has any values.
    pub(crate) fn average(&self, average: &Model) -> Option<Model> {
        let average = average.as_resnet()?;
        let read = checked(self.step.average(average.clone()));
        read.map(Model::ResNet)
    }

    /// Goes on with an average.
    pub(crate) fn restore_average(&mut self, average: &Model) {
        if let Some(average) = average.as_resnet() {
            self.step.restore_average(average);
        }
    }

    /// Why steps are launched that should be replayed.
    pub(crate) fn capture_failure(&self) -> Option<&str> {
        self.step.capture_failure()
    }

    /// What moves the sums of shards between ranks, once a step has.
    pub(crate) fn link(&self) -> Option<&str> {
        self.link.as_ref().map(Link::name)
    }

    /// The optimizer's moments.
    pub(crate) fn moments(&self) -> NamedValues {
        checked(self.step.moments())
    }

    fn report(&mut self, open: Open, guard: &mut StepGuard) -> StepReport {
        let Open { pending, told } = open;
        let outcome = checked(pending.wait());
        checked(self.step.observe(&outcome));
        let loss = BatchLoss {
            cross_entropy: outcome.cross_entropy,
            kl: outcome.kl,
            l2: outcome.l2,
        };
        let kl = outcome.kl_with_free_bits.map(|kl| told.kl.weight * kl);
        self.told_report(told, (loss, kl), outcome, guard)
    }

    /// `kl_objective` is what the objective has of the KL divergence, where that is not its weighted mean.
    fn told_report(
        &self,
        told: Told,
        (loss, kl_objective): (BatchLoss, Option<f64>),
        outcome: DeviceOutcome,
        guard: &mut StepGuard,
    ) -> StepReport {
        let Told {
            step,
            images,
            learning_rate,
            kl,
        } = told;
        guard.saw_loss(step, loss.mean(images));
        let weighted_kl = kl_objective.unwrap_or_else(|| kl.value(loss.kl / images as f64, None));
        StepReport {
            step,
            images,
            learning_rate,
            loss,
            objective: loss.objective(images, weighted_kl),
            outcome: verdict(outcome.into(), loss, guard, self.options.skip_gradient_norm),
        }
    }

    /// `kl_weights` are those behind the updates that are known, and behind one more.
    fn rates(&self, learning_rate: f64, kl_weights: [f64; 2], guard: &StepGuard) -> StepRates {
        let [known, next] = kl_weights;
        let skip = self.options.skip_gradient_norm;
        StepRates {
            learning_rate,
            // No more than one step is open.
            kl_weights: [known, next, next, next],
            largest_norm: guard.largest_norm(skip, self.open.is_some()),
        }
    }

    /// Takes note that the device is about to change the model.
    fn goes_ahead(&mut self) {
        self.is_ahead = true;
        self.penalties = [None; 2];
    }
}

impl From<DeviceOutcome> for Finding {
    fn from(outcome: DeviceOutcome) -> Self {
        Self {
            gradient_norm: outcome.gradient_norm,
            is_taken: outcome.is_taken,
            not_finite: outcome.not_finite,
            not_finite_parameters: outcome.not_finite_parameters,
        }
    }
}

/// The inputs without autodiff, which the device's step does without.
fn on_device(inputs: Inputs) -> StepInputs {
    let Inputs {
        images,
        noise,
        dropout,
    } = inputs;
    StepInputs {
        images: images.for_step(),
        noise: noise.inner(),
        dropout: dropout.map(|masks| DropoutMasks {
            encoder: masks.encoder.inner(),
            decoder: masks.decoder.inner(),
        }),
    }
}
