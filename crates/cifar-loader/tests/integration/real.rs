use std::path::PathBuf;
use std::time::Instant;

use cifar_loader::{Cifar10, OFFICIAL, SplitOptions, import_file, pixel_entropy_floor};

/// The folder with the real data set, or a printed line and nothing.
fn real() -> Option<PathBuf> {
    let data_dir = std::env::var_os("CIFAR10_DIR").map(PathBuf::from);
    if data_dir.is_none() {
        println!("skipped: CIFAR10_DIR does not name a folder with the whole data set");
    }
    data_dir
}

#[test]
fn the_whole_data_set_loads_and_has_the_published_floors() {
    let Some(data_dir) = real() else { return };
    let start = Instant::now();
    let data = Cifar10::load(&data_dir).unwrap();
    println!(
        "loaded and verified in {:.3} s",
        start.elapsed().as_secs_f64()
    );
    assert_eq!((data.train().len(), data.test().len()), (50_000, 10_000));
    // The first test image is a cat; its first red pixel is 158.
    assert_eq!((data.test().label(0), data.test().image(0)[0]), (3, 158));
    assert_eq!(
        format!("{:.2}", pixel_entropy_floor(&data.test())),
        "1681.72"
    );
    assert_eq!(
        format!("{:.2}", pixel_entropy_floor(&data.train())),
        "1678.91"
    );
    let splits = data.split(&SplitOptions::default()).unwrap();
    assert_eq!((splits.train.len(), splits.valid.len()), (45_000, 5_000));
}

#[test]
fn a_real_container_is_imported() {
    let Some(data_dir) = real() else { return };
    let container = data_dir.join(&*OFFICIAL.file_name);
    if !container.is_file() {
        println!("skipped: no {} in CIFAR10_DIR", OFFICIAL.file_name);
        return;
    }
    let target = tempfile::tempdir().unwrap();
    let start = Instant::now();
    import_file(&OFFICIAL, target.path(), &container, &mut |_| {}).unwrap();
    println!("imported in {:.3} s", start.elapsed().as_secs_f64());
    let imported = Cifar10::load(target.path()).unwrap();
    assert_eq!(
        imported.fingerprint(),
        Cifar10::load(&data_dir).unwrap().fingerprint()
    );
}
