//! Scores of a model that is not trained any more, by the same pass as in training.

use burn::prelude::*;
use cifar_loader::View;
use run_files::metrics::Terms;

#[cfg(feature = "cube")]
use crate::experiment::evaluate::evaluate_by;
use crate::experiment::evaluate::{EvaluationOptions, evaluate};
use crate::experiment::model::Model;
#[cfg(feature = "cube")]
use crate::step::on_device::{DeviceScorer, OnDevice};
#[cfg(feature = "cube")]
use crate::step::request::EngineOptions;
#[cfg(feature = "cube")]
use crate::step::weight_average::Weights;

/// What a finished model's score is, and how it came about.
pub(crate) struct FinishedScore {
    /// Means over the split's images, in nats.
    pub(crate) terms: Terms,
    /// Why a GPU launched batches that it should have replayed as a graph, if it did.
    pub(crate) capture_failure: Option<String>,
}

/// As [`evaluate`], by a GPU's own pass where it has one for the model's form. The pass's memory has been given back at the end.
/// As many images at a time as the device has buffers for: the noise of each is its own, whatever its batch.
///
/// # Panics
/// If the split is empty, or the device fails, as Burn's own operations do.
pub(crate) fn evaluate_finished(
    model: &Model,
    view: &View,
    floor: f64,
    options: EvaluationOptions,
    device: &Device,
) -> FinishedScore {
    let options = EvaluationOptions {
        batch_size: model.at_a_time(options.batch_size, device),
        ..options
    };
    #[cfg(feature = "cube")]
    if let Some(mut own) = OnDevice::new(model, EngineOptions::of_scores(options.sampler)) {
        let mut scorer = DeviceScorer::new(&mut own, model, Weights::Trained);
        let terms = evaluate_by(&mut scorer, view, floor, options, device);
        let capture_failure = own.capture_failure().map(str::to_owned);
        own.release();
        return FinishedScore {
            terms,
            capture_failure,
        };
    }
    FinishedScore {
        terms: evaluate(model, view, floor, options, device),
        capture_failure: None,
    }
}
