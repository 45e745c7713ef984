//! Prints what is in the data set: counts, first records and one image as text.
//!
//! ```text
//! cargo run -p cifar-loader --example inspect_records [DATA_DIR]
//! ```
//!
//! Without a folder it uses the embedded sample and takes less than a second.

use std::path::Path;
use std::time::Instant;

use cifar_loader::{CLASS_NAMES, Cifar10, HEIGHT, SplitOptions, View, WIDTH, pixel_entropy_floor};

fn main() -> Result<(), cifar_loader::Error> {
    let start = Instant::now();
    let data = match std::env::args_os().nth(1) {
        Some(data_dir) => Cifar10::load(Path::new(&data_dir))?,
        None => Cifar10::sample()?,
    };
    println!(
        "{} from {}, loaded and verified in {:.3} s",
        data.name(),
        data.source(),
        start.elapsed().as_secs_f64()
    );
    println!("fingerprint {}", data.fingerprint());

    let splits = data.split(&SplitOptions::default())?;
    for (name, view) in [
        ("train", &splits.train),
        ("valid", &splits.valid),
        ("test", &splits.test),
    ] {
        println!(
            "{name:5} {:6} images, floor {:.2} nats an image",
            view.len(),
            pixel_entropy_floor(view)
        );
    }
    for (name, view) in [
        ("all training images", data.train()),
        ("all test images", data.test()),
    ] {
        println!(
            "{name}: floor {:.2} nats an image",
            pixel_entropy_floor(&view)
        );
    }
    for position in 0..3 {
        let label = splits.test.label(position);
        println!(
            "test image {position}: label {label} ({})",
            CLASS_NAMES[usize::from(label)]
        );
    }
    print_image(&splits.test, 0);
    Ok(())
}

/// The green plane as characters, dark to bright.
fn print_image(view: &View, position: usize) {
    let plane = &view.image(position)[HEIGHT * WIDTH..2 * HEIGHT * WIDTH];
    for row in plane.chunks(WIDTH) {
        let line: String = row
            .iter()
            .map(|byte| char::from(b" .:-=+*#%@"[usize::from(*byte) * 10 / 256]))
            .collect();
        println!("{line}");
    }
}
