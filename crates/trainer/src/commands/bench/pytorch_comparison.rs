//! A step beside PyTorch's, in several rounds and forms.

use serde::{Serialize, Serializer};

use crate::timing::median::median;
use crate::timing::pytorch_timing::{PytorchForm, PytorchTiming};
use crate::timing::step_timing::StepTiming;

/// PyTorch's fastest form.
#[derive(Serialize)]
pub(super) struct Comparison<'a> {
    /// Of its median round.
    pub(super) seconds_per_step: f64,
    pub(super) form: PytorchForm,
    /// What every form took, the fastest first.
    #[serde(serialize_with = "as_map")]
    forms: Vec<(PytorchForm, f64)>,
    pub(super) version: &'a str,
    pub(super) peak_bytes: u64,
    pub(super) times_pytorch: f64,
}

fn as_map<S: Serializer>(forms: &[(PytorchForm, f64)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(forms.iter().copied())
}

/// The fastest form's median round, and what every form took; none where PyTorch was not timed.
pub(super) fn comparison<'a>(
    ours: &StepTiming,
    forms: &[PytorchForm],
    theirs: &'a [Vec<PytorchTiming>],
) -> Option<Comparison<'a>> {
    let forms = forms.iter().zip(theirs).filter_map(|(form, timings)| {
        let seconds: Vec<f64> = timings
            .iter()
            .map(|timing| timing.seconds_per_step)
            .collect();
        let first = timings.first()?;
        Some((*form, median(&seconds), first))
    });
    let mut forms: Vec<_> = forms.collect();
    forms.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (form, seconds, fastest) = *forms.first()?;
    Some(Comparison {
        seconds_per_step: seconds,
        form,
        forms: forms
            .iter()
            .map(|(form, seconds, _)| (*form, *seconds))
            .collect(),
        version: &fastest.version,
        peak_bytes: fastest.peak_bytes,
        times_pytorch: ours.seconds_per_step / seconds,
    })
}
