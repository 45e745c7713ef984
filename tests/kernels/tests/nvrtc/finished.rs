//! What is done with a finished model on a card: that its kernels compile. Each command is a process of its own; the kernels of those before are kept for it.

use std::path::Path;

use super::runs::{program, train};
use super::{Products, folder, run};

/// Seconds that one kernel may compile; what a search among candidates compiles takes minutes.
const MOST_SECONDS: f64 = 20.0;

/// Number of kernels that were loaded since the report was begun, and the longest time that one of them took.
fn loaded(folder: &Path) -> (usize, f64) {
    let report = std::fs::read_to_string(folder.join("report")).expect("the stand-in's report");
    let seconds = report.lines().filter_map(|line| {
        let mut words = line.strip_prefix("module ")?.split(' ');
        words.next()?.parse::<f64>().ok()
    });
    seconds.fold((0, 0.0), |(count, most), seconds| {
        (count + 1, f64::max(most, seconds))
    })
}

#[test]
fn every_command_of_a_finished_model_compiles_for_the_oldest_card_and_the_newest() {
    for (capability, precision) in [("6.1", "f32"), ("9.0", "bf16")] {
        let folder = folder(&format!("finished-{capability}"));
        let cache = folder.join("cache").display().to_string();
        let variables = [
            ("STAND_IN_CAPABILITY", capability),
            ("XDG_CACHE_HOME", cache.as_str()),
        ];
        let flags = format!("--device cuda:0 --precision {precision} --limit-train 24");
        let output = train(&folder, &flags, &variables);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{capability}: {text}");
        for command in [
            "evaluate --split test --importance-samples 3 --batch-size 4",
            "evaluate --split train --likelihood renormalised-bernoulli --batch-size 4",
            "latents --images 12",
            "sample --out samples.png",
            "sample --temperature 0.7 --out drawn.npy --count 10",
            "traverse --out traversal.png",
            "interpolate --out between.png --pair 0,1",
            "sample-statistics --images 12 --neighbours 4",
            "reconstruct --image samples.png --out again.png",
        ] {
            std::fs::remove_file(folder.join("report")).expect("removed");
            let output = program(
                &folder,
                &format!("{command} --run-dir run --device cuda:0"),
                &variables,
            );
            let text = String::from_utf8_lossy(&output.stderr);
            let (kernels, most) = loaded(&folder);
            println!(
                "capability {capability}, {command}: {kernels} kernels, one of them {most:.1} s"
            );
            assert!(output.status.success(), "{capability}, {command}: {text}");
            // Those that open a device are a handful.
            assert!(kernels > 20, "{capability}, {command}: {kernels} kernels");
            assert!(most < MOST_SECONDS, "{capability}, {command}: {most} s");
        }
        std::fs::remove_dir_all(&folder).expect("the folder goes");
    }
}

/// The network of a FID, whose float32 convolutions are Burn's.
#[test]
fn the_features_of_a_fid_compile_for_cards_of_three_generations() {
    for capability in ["6.1", "8.0", "9.0"] {
        let folder = folder(&format!("features-{capability}"));
        let program = env!("CARGO_BIN_EXE_features");
        let text = run(program, &[], &folder, (capability, Products::Library), true);
        assert!(text.contains("2048 features of 2 images"), "{text}");
        let (kernels, most) = loaded(&folder);
        println!("capability {capability}: {kernels} kernels, one of them {most:.1} s");
        assert!(most < MOST_SECONDS, "{capability}: {most} s");
        std::fs::remove_dir_all(&folder).expect("the folder goes");
    }
}
