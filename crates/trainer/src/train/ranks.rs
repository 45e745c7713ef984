//! What the ranks of a run settle before its first step: how batches are divided, that all train the same, and where they go on from.

use std::collections::BTreeMap;

use run_files::checkpoint::{Checkpoint, Origin, TrainingState, hex};
use run_files::settings::{Key, Settings};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::TrainError;
use crate::experiment::weights::NamedValues;
use crate::ranks::agreement::Fact;
use crate::ranks::{Message, Ranks, RanksError};
use crate::step::engine::Engine;

const SAME_FLAGS: &str = "start all ranks with the same flags and environment variables";
const SAME_DATA: &str = "give all machines the same data set";
const SAME_PROGRAM: &str = "copy rank 0's program to all machines";

/// Compares program, settings and data with rank 0's.
pub(super) fn check_agreement(
    settings: &Settings,
    data_hash: &str,
    ranks: &Ranks,
) -> Result<(), RanksError> {
    if !ranks.are_several() {
        return Ok(());
    }
    let mut facts = vec![Fact::new("program", program(), SAME_PROGRAM)];
    let values = settings.recorded();
    // Where data and run lie is each machine's own affair, and each rank has its own GPUs.
    let own = [Key::DataDir, Key::RunDir, Key::Device];
    let compared = Key::ALL.into_iter().filter(|key| !own.contains(key));
    facts.extend(compared.map(|key| {
        let value = values.get(key.name()).map(ToString::to_string);
        Fact::new(
            format!("`{}`", key.name()),
            value.unwrap_or_default(),
            SAME_FLAGS,
        )
    }));
    let device = settings.device.main().to_string();
    let kind = device.split(':').next().unwrap_or_default();
    let devices = format!("{} of kind {kind}", settings.device.count());
    facts.push(Fact::new("number or kind of devices", devices, SAME_FLAGS));
    facts.push(Fact::new("data set (by its hash)", data_hash, SAME_DATA));
    ranks.agree(&facts)
}

/// The version of this program, and the hash of its file.
fn program() -> String {
    let file = std::env::current_exe().and_then(std::fs::read);
    let hash = file.map_or_else(|_| "unreadable".to_owned(), |bytes| digest(&bytes));
    format!("{} (SHA-256 {hash})", env!("CARGO_PKG_VERSION"))
}

/// The first eight bytes of a SHA-256, enough to tell programs and models apart.
fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..8])
}

/// Compares the weights, which are equal as long as all machines compute alike.
pub(super) fn check_weights(engine: &Engine, epoch: u32, ranks: &Ranks) -> Result<(), TrainError> {
    if !ranks.are_several() {
        return Ok(());
    }
    let mut bytes = Vec::new();
    for (_, values) in engine.weights().into_values() {
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    let cure =
        "the machines compute differently: use processors or GPUs of one kind, and one program";
    let fact = Fact::new(format!("model after epoch {epoch}"), digest(&bytes), cure);
    Ok(ranks.agree(&[fact])?)
}

/// What describes the values of a message that holds a checkpoint.
#[derive(Serialize, Deserialize)]
struct Head {
    model: BTreeMap<String, Vec<usize>>,
    optimizer: BTreeMap<String, Vec<usize>>,
    state: TrainingState,
    origin: Option<Origin>,
}

/// Rank 0's checkpoint, on every rank; none where the run is new.
pub(super) fn shared_checkpoint(
    own: Option<Checkpoint>,
    ranks: &Ranks,
) -> Result<Option<Checkpoint>, RanksError> {
    if !ranks.are_several() {
        return Ok(own);
    }
    let message = own.map_or_else(Message::default, |checkpoint| {
        let shapes = |values: &NamedValues| {
            let shapes = values
                .iter()
                .map(|(name, (shape, _))| (name.clone(), shape.clone()));
            shapes.collect()
        };
        let head = Head {
            model: shapes(&checkpoint.model),
            optimizer: shapes(&checkpoint.optimizer),
            state: checkpoint.state,
            origin: checkpoint.origin,
        };
        let all = checkpoint
            .model
            .into_values()
            .chain(checkpoint.optimizer.into_values());
        Message {
            text: serde_json::to_string(&head).expect("numbers and names serialise"),
            values: all.flat_map(|(_, values)| values).collect(),
            ..Message::default()
        }
    });
    let received = ranks.broadcast(message)?;
    if received.text.is_empty() {
        return Ok(None);
    }
    let Ok(head) = serde_json::from_str::<Head>(&received.text) else {
        unreachable!("all ranks run the same program, which has just been compared")
    };
    let mut values = received.values.into_iter();
    let mut filled = |shapes: BTreeMap<String, Vec<usize>>| -> NamedValues {
        let filled = shapes.into_iter().map(|(name, shape)| {
            let of_tensor = values.by_ref().take(shape.iter().product()).collect();
            (name, (shape, of_tensor))
        });
        filled.collect()
    };
    Ok(Some(Checkpoint {
        model: filled(head.model),
        optimizer: filled(head.optimizer),
        state: head.state,
        origin: head.origin,
    }))
}
