//! The step: training, timing, scaling and the check of determinism all take this one.
//!
//! What is behind it: how a batch is divided over devices and micro-batches, how the gradients of shards become one, who
//! decides that a step changes nothing, and the update of weights, moments and their average.

use burn::prelude::*;
use run_files::divergence::{NonFinite, first_non_finite};
use run_files::step_guard::StepGuard;

use crate::experiment::model::Model;
use crate::experiment::weights::{NamedValues, WeightsError, load_values, named_values};
use crate::ranks::{RanksError, Requests};
use crate::step::adam::Adam;
use crate::step::fault::FaultInjector;
use crate::step::gradient_norms::GradientNorms;
#[cfg(feature = "cube")]
use crate::step::on_device::OnDevice;
use crate::step::passes::pass::{Pass, PassOptions, Phase};
use crate::step::passes::replicas::Replicas;
use crate::step::request::{EngineOptions, Outcome, StepReport, StepRequest};
use crate::step::running_statistics::{StatisticsSnapshot, with_statistics_vector};
#[cfg(feature = "cube")]
use crate::step::weight_average::named_as_average;
use crate::step::weight_average::{WeightAverage, Weights};

mod own_step;

/// A model with all that its steps need: its optimizer, the average of its weights, and its replicas on other devices.
pub(crate) struct Engine {
    model: Model,
    adam: Adam,
    average: Option<WeightAverage>,
    replicas: Replicas,
    options: EngineOptions,
    /// The step on a GPU, which has weights and moments of its own: `model` follows when steps are settled.
    #[cfg(feature = "cube")]
    device: Option<OnDevice>,
}

impl Engine {
    /// Before the first step.
    pub(crate) fn new(model: Model, replicas: Replicas, options: EngineOptions) -> Self {
        let average = options
            .average_decay
            .map(|decay| WeightAverage::new(decay, &model));
        Self {
            #[cfg(feature = "cube")]
            device: OnDevice::with_replicas(&model, &replicas, options),
            model,
            adam: Adam::new(),
            average,
            replicas,
            options,
        }
    }

    /// After so many updates: `weights` and `optimizer` are what [`weights`](Self::weights) and
    /// [`optimizer`](Self::optimizer) gave.
    ///
    /// # Errors
    /// Where names or shapes are not those of `model`, which has any values.
    pub(crate) fn restore(
        model: Model,
        replicas: Replicas,
        options: EngineOptions,
        updates: u64,
        weights: &NamedValues,
        mut optimizer: NamedValues,
    ) -> Result<Self, WeightsError> {
        let of_average = WeightAverage::take_values(&mut optimizer);
        let model = load_values(model, weights)?;
        let device = replicas.main_device();
        let adam =
            Adam::from_named_values(updates, &optimizer, &model, device).ok_or_else(|| {
                WeightsError::Missing {
                    name: "a moment of the optimizer".to_owned(),
                }
            })?;
        let average = options
            .average_decay
            .map(|decay| WeightAverage::from_values(decay, &model, &of_average))
            .transpose()?;
        #[cfg(feature = "cube")]
        let device = OnDevice::with_replicas(&model, &replicas, options).and_then(|mut device| {
            if let Some(average) = &average {
                device.restore_average(average.model());
            }
            device.restore(updates, &optimizer).then_some(device)
        });
        // The moments lie there once.
        #[cfg(feature = "cube")]
        let adam = if device.is_some() { Adam::new() } else { adam };
        Ok(Self {
            #[cfg(feature = "cube")]
            device,
            average,
            model,
            adam,
            replicas,
            options,
        })
    }

    /// The model as it is trained.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// The average of the weights, where one is kept.
    pub(crate) fn average(&self) -> Option<&Model> {
        self.average.as_ref().map(WeightAverage::model)
    }

    /// The model that scores and pictures are of: the average where there is one. It has no gradients, and its norms use
    /// their running statistics.
    pub(crate) fn scored_model(&self) -> Model {
        match self.average() {
            Some(average) => average.clone(),
            None => self.model.valid(),
        }
    }

    /// The weights and running statistics by name, from where they are trained: [`model`](Self::model) may be behind there.
    pub(crate) fn weights(&self) -> NamedValues {
        #[cfg(feature = "cube")]
        if let Some(device) = &self.device {
            return device.weights();
        }
        named_values(&self.model.valid())
    }

    /// What is kept beside the weights: the optimizer's moments, and the average.
    pub(crate) fn optimizer(&self) -> NamedValues {
        let mut values = self.moments();
        #[cfg(feature = "cube")]
        if let Some(device) = &self.device {
            values.extend(
                device
                    .averaged_weights()
                    .map(named_as_average)
                    .unwrap_or_default(),
            );
            return values;
        }
        if let Some(average) = &self.average {
            values.extend(average.to_named_values());
        }
        values
    }

    fn moments(&self) -> NamedValues {
        #[cfg(feature = "cube")]
        if let Some(device) = &self.device {
            return device.moments();
        }
        self.adam.to_named_values(&self.model)
    }

    #[cfg(all(test, feature = "flex"))]
    pub(crate) fn adam(&self) -> &Adam {
        &self.adam
    }

    /// Takes a step, or skips it as `guard` decides. The answer is the report of the newest step whose outcome is known: here
    /// always of this one; where a device decides, of the one before, so that nobody waits for it.
    ///
    /// # Errors
    /// Where another rank is lost; the step has changed nothing then.
    pub(crate) fn step(
        &mut self,
        request: StepRequest,
        guard: &mut StepGuard,
        faults: &FaultInjector,
    ) -> Result<Option<StepReport>, RanksError> {
        let mut nobody = |_| Ok::<(), RanksError>(());
        self.watched_step(request, guard, faults, &mut nobody)
    }

    /// Sets what this rank asks all for with the next step.
    pub(crate) fn ask(&mut self, requests: Requests) {
        self.replicas.ask(requests);
    }

    /// What any rank asked for with the last step.
    pub(crate) fn requests(&self) -> Requests {
        self.replicas.requests()
    }

    /// As [`step`](Self::step); `ended` is called at the end of each phase.
    ///
    /// # Errors
    /// What `ended` gives, or where another rank is lost.
    pub(crate) fn watched_step<E: From<RanksError>>(
        &mut self,
        request: StepRequest,
        guard: &mut StepGuard,
        faults: &FaultInjector,
        ended: &mut impl FnMut(Phase) -> Result<(), E>,
    ) -> Result<Option<StepReport>, E> {
        #[cfg(feature = "cube")]
        if self.device.is_some() {
            let report = self.device_step(request, guard, faults)?;
            for phase in [Phase::Forward, Phase::Backward, Phase::Optimizer] {
                ended(phase)?;
            }
            return Ok(report);
        }
        let StepRequest {
            step,
            mut inputs,
            learning_rate,
            kl,
            ..
        } = request;
        inputs.images = faults.images(step, inputs.images);
        let images = inputs.len();
        let passes = if self.replicas.divides(images, self.options.micro_batch_size) {
            0
        } else {
            // Blocks that are computed again update the statistics again.
            1 + usize::from(self.options.gradient_checkpointing)
        };
        let snapshot = StatisticsSnapshot::take(&self.model, passes);
        let options = PassOptions {
            micro_batch_size: self.options.micro_batch_size,
            sampler: self.options.sampler,
            gradient_checkpointing: self.options.gradient_checkpointing,
            kl,
        };
        let pass = self.replicas.pass(&self.model, &inputs, options, ended)?;
        let Pass {
            loss,
            gradients,
            failed,
            kl_means,
            running_statistics,
        } = pass;
        let loss = faults.loss(step, loss);
        guard.saw_loss(step, loss.mean(images));
        let outcome = 'outcome: {
            if let Some(mut cause) = first_non_finite(loss) {
                let stops = guard.skip_non_finite();
                // Also where nobody asks for the gradients: Burn keeps a graph, with all activations, until a backward pass
                // has gone through it.
                let gradients = failed
                    .map(|forward| forward.backward(&self.model))
                    .or(gradients);
                if let Some(gradients) = gradients {
                    let of_gradients = self.cause(&GradientNorms::read(&self.model, &gradients));
                    cause.parameter = of_gradients.parameter;
                    cause.parameters = of_gradients.parameters;
                }
                self.model = snapshot.restore(self.model.clone());
                break 'outcome Outcome::NotFinite { cause, stops };
            }
            let gradients = gradients.expect("a pass with a finite loss has gradients");
            let gradients = faults.gradients(step, &self.model, gradients);
            let norms = GradientNorms::read(&self.model, &gradients);
            ended(Phase::Backward)?;
            if !norms.are_finite() {
                let cause = self.cause(&norms);
                let stops = guard.skip_non_finite();
                self.model = snapshot.restore(self.model.clone());
                break 'outcome Outcome::NotFinite { cause, stops };
            }
            if guard.skips_large(norms.total(), self.options.skip_gradient_norm) {
                self.model = snapshot.restore(self.model.clone());
                break 'outcome Outcome::TooLarge;
            }
            if let Some(statistics) = running_statistics {
                self.model = with_statistics_vector(self.model.clone(), statistics);
            }
            let updates = self.adam.steps();
            self.model = self.adam.step(self.model.clone(), gradients, learning_rate);
            if let Some(average) = &mut self.average {
                average.update(&self.model, updates);
            }
            ended(Phase::Optimizer)?;
            Outcome::Taken
        };
        let mean_kl = loss.kl / images as f64;
        let weighted_kl = kl.value(mean_kl, kl_means.as_deref());
        Ok(Some(StepReport {
            step,
            images,
            learning_rate,
            loss,
            objective: loss.objective(images, weighted_kl),
            outcome,
        }))
    }

    /// Which weights scores and pictures are of.
    pub(crate) fn scored_weights(&self) -> Weights {
        match &self.average {
            Some(_) => Weights::Averaged,
            None => Weights::Trained,
        }
    }

    fn cause(&self, norms: &GradientNorms) -> NonFinite {
        let names = norms.not_finite(&self.model);
        NonFinite {
            term: "gradient",
            value: norms.total().to_string(),
            parameters: names.len(),
            parameter: names.into_iter().next(),
        }
    }
}
