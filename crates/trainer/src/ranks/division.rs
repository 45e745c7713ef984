//! How many shards ranks divide a batch into.

use run_files::settings::{DeviceChoice, Settings};

use super::batch_division::FEWEST;
use super::{Ranks, RanksError};

/// The settings with the number of shards that these ranks and their devices need where none was given.
pub(crate) fn divided(settings: &Settings, ranks: &Ranks) -> Result<Settings, RanksError> {
    let mut settings = settings.clone();
    if settings.sync_norm {
        let hindrance = [
            (
                settings.device.main() != DeviceChoice::Flex,
                "`--device flex`, and no other device",
            ),
            (
                settings.micro_batch_size.is_some(),
                "whole shards, and no `--micro-batch-size`",
            ),
            (
                settings.free_bits.is_some(),
                "the whole KL divergence, and no `--free-bits`",
            ),
        ];
        if let Some((_, needed)) = hindrance.into_iter().find(|(is_there, _)| *is_there) {
            return Err(RanksError::NoSharedNorms { needed });
        }
    }
    let devices = settings.device.count();
    let units = ranks.size() * devices;
    // Recorded, so that whoever divides that number can go on with the run. Three devices have parts that no shards are.
    let can_be_shards = units.is_power_of_two() && settings.batch_size >= FEWEST * units;
    if settings.shards == 1 && (ranks.are_several() || can_be_shards) {
        settings.shards = units;
    }
    let shards = settings.shards;
    if shards > 1 && !(shards.is_power_of_two() && shards.is_multiple_of(units)) {
        return Err(RanksError::Indivisible {
            shards,
            ranks: ranks.size(),
            devices,
        });
    }
    if shards > 1 && settings.batch_size < FEWEST * shards {
        return Err(RanksError::TooManyShards {
            shards,
            batch_size: settings.batch_size,
            least: FEWEST * shards,
        });
    }
    Ok(settings)
}
