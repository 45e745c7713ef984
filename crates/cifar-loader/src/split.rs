//! Splits as lists of positions over shared bytes.

use std::sync::Arc;

use crate::error::Error;
use crate::image_format::{IMAGE_BYTES, NUM_CLASSES};
use crate::names::names;
use crate::permutation::{DataDraw, permutation};
use crate::record::{Record, Records};
pub use crate::split_name::Split;

/// Where the validation images come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Validation {
    /// One tenth of the training images (5,000 of 50,000), chosen by the seed, equally many of each class.
    #[default]
    HeldOut,
    /// The test images, as in the 2018 post; all training images are then learned from.
    Test,
}

names!(Validation, "validation", HeldOut => "held-out", Test => "test");

/// How a data set is split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SplitOptions {
    /// Where the validation images come from.
    pub validation: Validation,
    /// Chooses the held-out images.
    pub seed: u64,
    /// Keeps only the first images of the training split.
    pub limit_train: Option<usize>,
    /// Keeps only the first images of the test split, and also of the validation split, held out or not.
    pub limit_test: Option<usize>,
}

/// The three splits of a data set.
#[derive(Clone, Debug)]
pub struct Splits {
    /// Images the model learns from.
    pub train: View,
    /// Images that decide about learning rate and stopping.
    pub valid: View,
    /// Images for the final figures.
    pub test: View,
}

impl Splits {
    /// The view of one split.
    pub fn get(&self, split: Split) -> &View {
        match split {
            Split::Train => &self.train,
            Split::Valid => &self.valid,
            Split::Test => &self.test,
        }
    }
}

/// Splits what there is to learn from, and limits it and the test images.
pub(crate) fn split(all: &View, test: View, options: &SplitOptions) -> Result<Splits, Error> {
    let (train, valid) = match options.validation {
        Validation::HeldOut => hold_out(all, options.seed),
        Validation::Test => (all.clone(), test.clone()),
    };
    let limited = |view: View, limit: Option<usize>, split| {
        let view = view.first(limit.unwrap_or(usize::MAX));
        if view.is_empty() {
            Err(Error::EmptySplit { split })
        } else {
            Ok(view)
        }
    };
    Ok(Splits {
        train: limited(train, options.limit_train, Split::Train)?,
        valid: limited(valid, options.limit_test, Split::Valid)?,
        test: limited(test, options.limit_test, Split::Test)?,
    })
}

/// Divides `view` into (kept, held out); the second has one tenth of the images.
fn hold_out(view: &View, seed: u64) -> (View, View) {
    let order = permutation(DataDraw::HeldOut, seed, 0, view.len());
    let mut quota = [0; NUM_CLASSES];
    order
        .iter()
        .for_each(|position| quota[usize::from(view.label(*position as usize))] += 1);
    quota.iter_mut().for_each(|count| *count /= 10);

    let mut is_held_out = vec![false; view.len()];
    let mut missing = view.len() / 10;
    for position in order.iter().map(|position| *position as usize) {
        let left = &mut quota[usize::from(view.label(position))];
        if *left > 0 {
            *left -= 1;
            missing -= 1;
            is_held_out[position] = true;
        }
    }
    // Classes whose sizes are no multiples of ten leave a remainder for the next images in line.
    for position in order.iter().map(|position| *position as usize) {
        if missing > 0 && !is_held_out[position] {
            missing -= 1;
            is_held_out[position] = true;
        }
    }
    let select = |held_out: bool| {
        let positions = (0..view.len()).filter(|position| is_held_out[*position] == held_out);
        View {
            records: view.records.clone(),
            indices: positions.map(|position| view.indices[position]).collect(),
        }
    };
    (select(false), select(true))
}

/// Some images of a part of the data set, in a fixed order. Cloning shares everything.
#[derive(Clone)]
pub struct View {
    records: Arc<Records>,
    indices: Arc<[u32]>,
}

impl View {
    /// All `records` in order.
    ///
    /// # Panics
    /// With 2^32 records or more.
    pub fn all(records: Arc<Records>) -> Self {
        let len = u32::try_from(records.len()).expect("fewer than 2^32 records");
        Self {
            records,
            indices: (0..len).collect(),
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The record at `position`.
    ///
    /// # Panics
    /// Past the end.
    pub fn record(&self, position: usize) -> Record<'_> {
        let index = self.indices[position] as usize;
        self.records
            .get(index)
            .expect("a view only holds indices of its records")
    }

    /// The image at `position`: `[3, 32, 32]` planes red, green, blue; 0 to 255.
    ///
    /// # Panics
    /// Past the end.
    pub fn image(&self, position: usize) -> &[u8; IMAGE_BYTES] {
        self.record(position).image
    }

    /// The class at `position`, 0 to 9.
    ///
    /// # Panics
    /// Past the end.
    pub fn label(&self, position: usize) -> u8 {
        self.record(position).label
    }

    /// The index of the image in the publisher's training or test part.
    ///
    /// # Panics
    /// Past the end.
    pub fn record_index(&self, position: usize) -> u32 {
        self.indices[position]
    }

    /// Whether both are the same images of the same part in the same order.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.records, &other.records)
            && (Arc::ptr_eq(&self.indices, &other.indices) || self.indices == other.indices)
    }

    /// At most `count` images from the front.
    pub fn first(&self, count: usize) -> Self {
        if count >= self.len() {
            return self.clone();
        }
        Self {
            records: self.records.clone(),
            indices: self.indices[..count].into(),
        }
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("len", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Cifar10;

    fn indices(view: &View) -> Vec<u32> {
        (0..view.len())
            .map(|position| view.record_index(position))
            .collect()
    }

    fn split(options: SplitOptions) -> Splits {
        Cifar10::sample().unwrap().split(&options).unwrap()
    }

    #[test]
    fn held_out_images_are_one_tenth_balanced_and_disjoint() {
        let splits = split(SplitOptions {
            seed: 7,
            ..Default::default()
        });
        assert_eq!(
            (splits.train.len(), splits.valid.len(), splits.test.len()),
            (1800, 200, 500)
        );
        let mut counts = [0; NUM_CLASSES];
        (0..200).for_each(|position| counts[usize::from(splits.valid.label(position))] += 1);
        assert_eq!(counts, [20; NUM_CLASSES]);
        let mut all = [indices(&splits.train), indices(&splits.valid)].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..2000));
    }

    #[test]
    fn the_seed_alone_chooses_the_held_out_images() {
        let valid = |seed| {
            indices(
                &split(SplitOptions {
                    seed,
                    ..Default::default()
                })
                .valid,
            )
        };
        assert_eq!(valid(1), valid(1));
        assert_ne!(valid(1), valid(2));
        // A change of these numbers changes every run with held-out validation.
        assert_eq!(valid(0)[..8], [4, 9, 16, 34, 54, 87, 93, 103]);
    }

    #[test]
    fn the_posts_way_validates_on_the_test_images() {
        let splits = split(SplitOptions {
            validation: Validation::Test,
            ..Default::default()
        });
        assert_eq!((splits.train.len(), splits.valid.len()), (2000, 500));
        assert_eq!(
            splits.get(Split::Valid).image(3),
            splits.get(Split::Test).image(3)
        );
    }

    #[test]
    fn limits_apply_after_the_split() {
        let limits = SplitOptions {
            limit_train: Some(100),
            limit_test: Some(30),
            ..Default::default()
        };
        let limited = split(limits);
        let whole = split(SplitOptions::default());
        assert_eq!(indices(&limited.train), indices(&whole.train)[..100]);
        assert_eq!(indices(&limited.valid), indices(&whole.valid)[..30]);
        assert_eq!(limited.test.len(), 30);
        let many = split(SplitOptions {
            limit_train: Some(1_000_000),
            ..Default::default()
        });
        assert_eq!(many.train.len(), 1800);
    }

    #[test]
    fn a_limit_of_zero_is_refused() {
        let options = SplitOptions {
            limit_train: Some(0),
            ..Default::default()
        };
        let error = Cifar10::sample().unwrap().split(&options).unwrap_err();
        assert!(matches!(
            error,
            Error::EmptySplit {
                split: Split::Train
            }
        ));
    }

    #[test]
    fn names_parse_and_print() {
        assert_eq!("held-out".parse(), Ok(Validation::HeldOut));
        assert_eq!(Validation::Test.to_string(), "test");
        let error = "val".parse::<Split>().unwrap_err();
        assert_eq!(
            error,
            "unknown split `val`, expected one of train, valid, test"
        );
    }
}
