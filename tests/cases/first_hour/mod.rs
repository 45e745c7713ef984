//! What people meet in their first hour: mistyped names, wrong guesses, moved folders, a closed terminal.

use end_to_end_tests::tiny;

mod data;
mod guesses;
mod running;

const TINY: &str = "--limit-train 100 --limit-test 20 --epochs 1";

fn train(more: &[&'static str]) -> Vec<&'static str> {
    [&tiny(TINY)[..], more].concat()
}
