//! Makes the embedded sample from the whole data set. The result is the same on every machine.
//!
//! ```text
//! cargo run -p cifar-loader --example make_sample -- DATA_DIR OUT.tar.gz
//! ```
//!
//! Takes 200 training and 50 test images of each class, in the order of a shuffle with seed 10, and prints the lengths
//! and hashes that stand in `archive.rs`.

use std::error::Error;
use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use cifar_loader::{Augment, BatchPlan, Cifar10, NUM_CLASSES, SAMPLE, Sha256Digest, View};
use flate2::{Compression, GzBuilder};

const SEED: u64 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(data_dir), Some(out)) = (arguments.next(), arguments.next()) else {
        return Err("usage: make_sample DATA_DIR OUT.tar.gz".into());
    };
    let whole = Cifar10::load(&data_dir)?;
    if whole.name() != "cifar-10" {
        return Err("the sample is made from the whole data set".into());
    }
    let gzip = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::best());
    let mut tar = tar::Builder::new(gzip);
    for (name, view, per_class) in [
        ("train.bin", whole.train(), 200),
        ("test.bin", whole.test(), 50),
    ] {
        let records = choose(view, per_class);
        println!("{name} {} {}", records.len(), Sha256Digest::of(&records));
        let mut header = tar::Header::new_ustar();
        header.set_size(records.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        tar.append_data(
            &mut header,
            format!("{}/{name}", SAMPLE.folder),
            records.as_slice(),
        )?;
    }
    let container = tar.into_inner()?.finish()?;
    println!(
        "{} {} {}",
        SAMPLE.file_name,
        container.len(),
        Sha256Digest::of(&container)
    );
    fs::write(out, container)?;
    Ok(())
}

/// The first `per_class` images of each class in shuffled order, as records.
fn choose(view: View, per_class: usize) -> Vec<u8> {
    let size = NonZeroUsize::new(view.len()).expect("the data set is not empty");
    let shuffled = BatchPlan::training(view.clone(), size, SEED, Augment::None).batch(0, 0);
    let mut counts = [0; NUM_CLASSES];
    let mut records = Vec::new();
    for position in shuffled.positions() {
        let record = view.record(*position as usize);
        let count = &mut counts[usize::from(record.label)];
        if *count < per_class {
            *count += 1;
            record.encode(&mut records);
        }
    }
    records
}
