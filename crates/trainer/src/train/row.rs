//! The row of metrics of an epoch.

use run_files::metrics::{EpochRow, OptionalMetrics, Terms};

use super::validation::ValidationTerms;
use super::{ActiveRun, Training};
use crate::experiment::evaluate::bits_per_dim;

impl Training<'_> {
    /// Of the epoch whose steps have ended.
    pub(super) fn row(&self, run: &ActiveRun, epoch: u32, valid: ValidationTerms) -> EpochRow {
        let ValidationTerms {
            of_scored,
            without_average,
        } = valid;
        let state = &run.state;
        let train = state.sums.means(self.train_floor);
        EpochRow {
            epoch,
            train,
            valid: of_scored,
            learning_rate: state.rates.mean(),
            last_learning_rate: state.rates.last(),
            skipped_steps: state.guard.skipped_in_epoch,
            optional: OptionalMetrics {
                valid_loss_without_average: without_average.map(|terms| terms.loss),
                ..self.optional(run, &train, &of_scored)
            },
        }
    }

    /// The numbers of a row that the settings ask for besides; they depend on the settings alone which there are.
    fn optional(&self, run: &ActiveRun, train: &Terms, valid: &Terms) -> OptionalMetrics {
        let settings = self.settings;
        let is_loss = settings.minimises_the_loss();
        let objective = run.state.sums.objective();
        let last_update = run.state.updates.saturating_sub(1);
        OptionalMetrics {
            train_bits_per_dim: bits_per_dim(settings, train),
            valid_bits_per_dim: bits_per_dim(settings, valid),
            train_objective: (!is_loss).then(|| objective.unwrap_or(f64::NAN)),
            kl_weight: (!is_loss).then(|| self.kl_objective(last_update).weight),
            valid_elbo: settings
                .tells_the_elbo()
                .then(|| -valid.cross_entropy_plus_kl()),
            ..OptionalMetrics::default()
        }
    }

    /// The keys of those numbers.
    pub(super) fn optional_keys(&self) -> Vec<&'static str> {
        let has_bound = self.settings.bounds_the_likelihood();
        let is_loss = self.settings.minimises_the_loss();
        let number = |is_there: bool| is_there.then_some(0.0);
        let all = OptionalMetrics {
            train_bits_per_dim: number(has_bound),
            valid_bits_per_dim: number(has_bound),
            train_objective: number(!is_loss),
            kl_weight: number(!is_loss),
            valid_elbo: number(self.settings.tells_the_elbo()),
            valid_loss_without_average: number(self.settings.ema.is_some()),
        };
        all.present().map(|(key, _)| key).collect()
    }
}
