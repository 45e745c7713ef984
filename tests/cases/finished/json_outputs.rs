//! What commands print with `--json`: programs read these texts, so that keys, their order and the form of numbers stay.

use end_to_end_tests::{Bench, Ended, tiny};
use serde_json::Value;

/// The keys of a value in their order, with those of the first entry of each list.
fn keys(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let entries: Vec<String> = object
                .iter()
                .map(|(key, value)| format!("{key}{}", keys(value)))
                .collect();
            format!("{{{}}}", entries.join(" "))
        }
        Value::Array(list) => format!("[{}]", list.first().map_or_else(String::new, keys)),
        _ => String::new(),
    }
}

#[track_caller]
fn check(ended: Ended, expected: &str) -> Value {
    let ended = ended.success();
    let json = ended.json();
    assert_eq!(keys(&json), expected);
    // Two spaces a level, and the shortest decimals that read back to the same number.
    assert_eq!(ended.stdout, format!("{json:#}\n"));
    json
}

#[test]
fn scores_of_a_run_keep_their_form() {
    let bench = Bench::new();
    let train = tiny("--limit-train 100 --limit-test 30 --epochs 1 --run-dir r");
    bench.trainer(&train).success();
    let run = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        bench.trainer(&words)
    };
    check(
        run("evaluate --run-dir r --importance-samples 2 --images 20 --json"),
        "{split images sampler data_set data_source data_hash likelihood terms{loss cross_entropy excess kl l2} elbo bits_per_dim \
         importance{samples images elbo{nats standard_error bits_per_dim bits_per_dim_standard_error} \
         bound{nats standard_error bits_per_dim bits_per_dim_standard_error}} notes[]}",
    );
    let of_levels = check(
        run("evaluate --run-dir r --likelihood renormalised-bernoulli --images 20 --json"),
        "{split images sampler data_set data_source data_hash likelihood terms{loss cross_entropy excess kl l2} elbo bits_per_dim \
         importance}",
    );
    assert_eq!(of_levels["terms"]["excess"], Value::Null);
    assert_eq!(of_levels["importance"], Value::Null);
    assert!(of_levels["bits_per_dim"].is_number());
    check(
        run("latents --run-dir r --images 10 --json"),
        "{active_dimensions latent_dim kl_per_dimension[] images average_kl mutual_information aggregated_posterior_kl ceiling \
         is_at_ceiling sampler collapse traversed[] interpolated[[]]}",
    );
    check(
        run("sample-statistics --run-dir r --images 10 --neighbours 2 --json"),
        "{drawn test_images training_images data_set data_hash prior temperature seed neighbours power_ratio[] fine_detail \
         colour_distance colour_distance_of_training nearest_training nearest_training_of_test}",
    );
    check(
        run("verify-run --run-dir r --json"),
        "{findings[{name problem}] newest_intact_checkpoint}",
    );
}

#[test]
fn what_needs_no_run_keeps_its_form() {
    let bench = Bench::new();
    let run = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        bench.trainer(&words)
    };
    check(
        run("summary --depth 28 --json"),
        "{depth layers parameters{encoder decoder total} multiply_accumulates_per_image{encoder decoder total} activations_per_image \
         batch_size device step_memory{parameters activations in_flight program allocator images pictures} step_memory_bytes \
         stage_widths[] intermediate_dim latent_dim}",
    );
    check(
        run("self-test --data 20 --json"),
        "{data seed elbo importance_weighted[{draws nats standard_error}] log_likelihood kl kl_of_draws kl_of_the_posts_draws \
         checks[{check holds}]}",
    );
    check(
        run(
            "bench-step --width 0.02 --latent-dim 4 --batch-size 4 --steps 2 --warmup 1 --evaluation --json",
        ),
        "{seconds_per_step fastest slowest images_per_second peak_bytes first_step_seconds steps phases{data_seconds forward_seconds \
         backward_seconds optimizer_seconds} processor_seconds_per_step likelihood device depth width likelihood_name precision \
         gradient_checkpointing batch_size threads}",
    );
}
