//! What the sheets of pictures check of their flags.

use cifar_loader::View;

use crate::commands::error::TrainerError;

/// Checks the position of an image in a split.
pub(super) fn position(flag: &'static str, image: u32, view: &View) -> Result<(), TrainerError> {
    if (image as usize) < view.len() {
        return Ok(());
    }
    Err(TrainerError::UnfittingFlag {
        flag,
        given: image.to_string(),
        reason: format!("there are {} images, from 0", view.len()),
    })
}

/// Pictures of a sheet at most, which is kept in memory until it is whole.
pub(super) const MOST_PICTURES: usize = 10_000;

/// Checks that a sheet can be made of so many rows and columns.
pub(super) fn sheet_size(rows: usize, columns: usize) -> Result<(), TrainerError> {
    if rows
        .checked_mul(columns)
        .is_some_and(|pictures| pictures <= MOST_PICTURES)
    {
        return Ok(());
    }
    Err(TrainerError::UnfittingFlag {
        flag: "--columns",
        given: columns.to_string(),
        reason: format!(
            "with {rows} rows that is more than the {MOST_PICTURES} pictures that a sheet holds"
        ),
    })
}
