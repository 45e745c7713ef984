//! One step, and what keeps one that is not finite away from the weights.

use burn::prelude::*;
#[cfg(test)]
use burn::tensor::Gradients;
use vae_core::DropoutMasks;

use super::error::TrainError;
use crate::experiment::model::sampler;
use crate::experiment::random::{Purpose, Stream};
use crate::experiment::weights::named_values;
use crate::step::batch_parts::micro_batches;
use crate::step::block_checkpointing::Forward;
use crate::step::gradient_norms::GradientNorms;
use crate::step::kl_objective::KlObjective;
use crate::step::pass::{Inputs, Pass, PassOptions};
use crate::step::running_statistics::{RunningStatistics, undo_last_pass};
use run_files::divergence::{DIVERGENCE, Divergence, LargestWeight, NonFinite, first_non_finite};
use run_files::metrics::BatchLoss;
use run_files::run_folder::pretty;

use super::{Progressing, Training};

/// A value that is not finite, put where a test wants it.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    /// Step since the run began, from 0.
    pub(super) step: u64,
    pub(super) site: FaultSite,
    pub(super) value: f32,
}

#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultSite {
    Input,
    Loss,
    Gradient,
}

impl Training<'_> {
    /// One step: its loss, or none where it was skipped and changed neither weights, nor moments, nor
    /// running statistics.
    ///
    /// # Shapes
    /// - images: `[batch, 3, 32, 32]`, in \[0, 1\], on the autodiff device
    pub(super) fn step(
        &self,
        now: &mut Progressing,
        epoch: u32,
        images: Tensor<4>,
    ) -> Result<Option<BatchLoss>, TrainError> {
        let step = now.state.step;
        #[cfg(test)]
        let images = self.faulty_images(step, images);
        let [batch, ..] = images.dims();
        let inputs = Inputs {
            images,
            noise: self.noise(step, batch),
            dropout: self.dropout(step, batch),
        };
        let options = PassOptions {
            micro_batch_size: self.settings.micro_batch_size,
            sampler: sampler(self.settings),
            gradient_checkpointing: self.settings.gradient_checkpointing,
            kl: self.kl_objective(now.state.updates),
        };
        // Those of the main device, whose running statistics are the run's.
        let passes = micro_batches(now.replicas.parts(batch)[0].len(), options.micro_batch_size);
        // Blocks that are computed again update the statistics again.
        let is_once = passes.len() == 1 && !options.gradient_checkpointing;
        let before = Before::of(now, is_once);
        let Pass {
            loss,
            gradients,
            failed,
            kl_means,
        } = now.replicas.pass(&now.model, &inputs, options);
        #[cfg(test)]
        let loss = self.faulty_loss(step, loss);
        let guard = &mut now.state.guard;
        guard.saw_loss(step, loss.mean(batch));
        now.state.step += 1;

        if let Some(mut cause) = first_non_finite(loss) {
            if let Some(gradients) = &gradients {
                let of_gradients = cause_of(&GradientNorms::read(&now.model, gradients), now);
                cause.parameter = of_gradients.parameter;
                cause.parameters = of_gradients.parameters;
            }
            self.skip(now, epoch, cause, failed, before)?;
            return Ok(None);
        }
        #[cfg_attr(not(test), allow(unused_mut))]
        let mut gradients = gradients.expect("a pass with a finite loss has gradients");
        #[cfg(test)]
        self.faulty_gradient(step, now, &mut gradients);
        let norms = GradientNorms::read(&now.model, &gradients);
        if !norms.are_finite() {
            let cause = cause_of(&norms, now);
            self.skip(now, epoch, cause, None, before)?;
            return Ok(None);
        }
        let factor = self.settings.skip_gradient_norm;
        if now.state.guard.skips_large(norms.total(), factor) {
            before.restore(now);
            return Ok(None);
        }
        let learning_rate = now.state.schedule.learning_rate_at(self.settings, step);
        now.state.rates.add(learning_rate);
        now.model = now.adam.step(now.model.clone(), gradients, learning_rate);
        if let Some(average) = &mut now.average {
            average.update(&now.model, now.state.updates);
        }
        now.state.updates += 1;
        if !self.settings.minimises_the_loss() {
            let images = batch as f64;
            let kl = options.kl.value(loss.kl / images, kl_means.as_deref());
            let objective = loss.cross_entropy / images + kl + loss.l2;
            now.state.sums.add_objective(objective, batch);
        }
        Ok(Some(loss))
    }

    /// Takes a step back that is not finite, and stops after too many in a row.
    ///
    /// `forward` is given where the loss is not finite and no gradient has been computed yet.
    fn skip(
        &self,
        now: &mut Progressing,
        epoch: u32,
        mut cause: NonFinite,
        forward: Option<Forward>,
        before: Before,
    ) -> Result<(), TrainError> {
        let stops = now.state.guard.skip_non_finite();
        if let Some(forward) = forward {
            // Also where nobody asks for the gradients: Burn keeps a graph, with all activations, until a backward pass has gone
            // through it.
            let gradients = forward.backward(&now.model);
            let of_gradients = cause_of(&GradientNorms::read(&now.model, &gradients), now);
            cause.parameter = of_gradients.parameter;
            cause.parameters = of_gradients.parameters;
        }
        before.restore(now);
        if !stops {
            return Ok(());
        }
        let step = now.state.step - 1;
        let learning_rate = now.state.schedule.learning_rate_at(self.settings, step);
        let guard = &now.state.guard;
        let report = Divergence {
            epoch,
            step,
            learning_rate,
            cause: cause.clone(),
            largest_weight: largest_weight(now),
            skipped_in_a_row: guard.non_finite_in_row,
            skipped: guard.skipped,
            last_losses: guard.recent_losses.iter().collect(),
        };
        let report = serde_json::to_value(&report).expect("numbers and names serialise");
        self.folder.write(DIVERGENCE, &pretty(&report))?;
        Err(TrainError::Diverged {
            epoch,
            step,
            in_row: guard.non_finite_in_row,
            cause: cause.to_string(),
            report: self.folder.join(DIVERGENCE),
            run_dir: self.folder.path().to_owned(),
            smaller_rate: now.state.schedule.smaller_rate(self.settings),
        })
    }

    /// What the update after so many of them minimises of the KL divergence.
    pub(super) fn kl_objective(&self, updates: u64) -> KlObjective {
        KlObjective {
            weight: self.settings.beta * self.settings.kl_warmup.weight(updates),
            free_bits: self.settings.free_bits,
        }
    }

    fn noise(&self, step: u64, batch: usize) -> Tensor<2> {
        let latent_dim = self.settings.latent_dim;
        let noise = Stream::new(self.settings.seed, Purpose::TrainingNoise, step)
            .standard_normal(batch * latent_dim);
        Tensor::from_data(TensorData::new(noise, [batch, latent_dim]), &self.device)
    }

    fn dropout(&self, step: u64, batch: usize) -> Option<DropoutMasks> {
        if self.settings.dropout == 0.0 {
            return None;
        }
        let mut stream = Stream::new(self.settings.seed, Purpose::Dropout, step);
        let mut uniform = |features: usize| {
            let draws = stream.uniform(batch * features);
            Tensor::<2>::from_data(TensorData::new(draws, [batch, features]), &self.device)
        };
        let intermediate = self.settings.intermediate_dim;
        let encoder = uniform(self.config.positions() * intermediate);
        Some(DropoutMasks::from_uniform(
            encoder,
            uniform(intermediate),
            self.settings.dropout,
        ))
    }
}

/// The running statistics before a step, to be given back where it is skipped.
enum Before {
    /// The step is one pass, which can be taken back without having been prepared for.
    OnePass,
    /// It is several.
    SeveralPasses(RunningStatistics),
}

impl Before {
    fn of(now: &Progressing, is_once: bool) -> Self {
        if is_once {
            Self::OnePass
        } else {
            Self::SeveralPasses(RunningStatistics::read(&now.model))
        }
    }

    fn restore(self, now: &mut Progressing) {
        let model = now.model.clone();
        now.model = match self {
            Self::OnePass => undo_last_pass(model),
            Self::SeveralPasses(statistics) => statistics.restore(model),
        };
    }
}

fn cause_of(norms: &GradientNorms, now: &Progressing) -> NonFinite {
    let names = norms.not_finite(&now.model);
    NonFinite {
        term: "gradient",
        value: norms.total().to_string(),
        parameters: names.len(),
        parameter: names.into_iter().next(),
    }
}

fn largest_weight(now: &Progressing) -> Option<LargestWeight> {
    let values = named_values(&now.model.valid());
    let largest = values.into_iter().map(|(name, (_, values))| LargestWeight {
        name,
        magnitude: values
            .iter()
            .fold(0.0, |largest, value| value.abs().max(largest)),
    });
    largest.max_by(|a, b| a.magnitude.total_cmp(&b.magnitude))
}

#[cfg(test)]
impl Training<'_> {
    fn fault(&self, step: u64, site: FaultSite) -> Option<f32> {
        let mut faults = self.faults.iter();
        faults
            .find(|fault| fault.step == step && fault.site == site)
            .map(|fault| fault.value)
    }

    fn faulty_images(&self, step: u64, images: Tensor<4>) -> Tensor<4> {
        match self.fault(step, FaultSite::Input) {
            Some(value) => images.mul_scalar(value),
            None => images,
        }
    }

    fn faulty_loss(&self, step: u64, mut loss: BatchLoss) -> BatchLoss {
        if let Some(value) = self.fault(step, FaultSite::Loss) {
            loss.kl = f64::from(value);
        }
        loss
    }

    fn faulty_gradient(&self, step: u64, now: &Progressing, gradients: &mut Gradients) {
        if let Some(value) = self.fault(step, FaultSite::Gradient) {
            let weight = now.model.decoder.dense.weight.val();
            let gradient = weight.grad(gradients).expect("the decoder is trained");
            weight.grad_replace(gradients, gradient.mul_scalar(0.0).add_scalar(value));
        }
    }
}
