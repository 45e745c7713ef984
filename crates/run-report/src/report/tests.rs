//! Facts about whole documents.

use super::*;
use crate::image_sheet::{SheetLayout, VALUES, write_png};
use run_files::run_folder::{FINAL_RECONSTRUCTIONS, FINAL_SAMPLES};
use run_files::run_record::example::{summary, write_run};
use run_files::settings::{Sampler, Settings, Validation};

/// A made-up run without a folder.
pub(super) fn record(depth: u32, shortcuts: bool, seed: u64) -> RunRecord {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        depth,
        shortcuts,
        seed,
        ..Settings::default()
    };
    write_run(folder.path(), &settings, &summary());
    RunRecord::read(folder.path()).unwrap()
}

pub(super) fn group<'a>(runs: &[&'a RunRecord]) -> ReportGroup<'a> {
    let settings = &runs[0].settings;
    ReportGroup {
        label: format!(
            "depth {}{}",
            settings.depth,
            if settings.shortcuts {
                ""
            } else {
                ", no shortcuts"
            }
        ),
        depth: settings.depth,
        shortcuts: settings.shortcuts,
        runs: runs.to_vec(),
    }
}

fn table(cells: &[&str]) -> ReportTable {
    ReportTable {
        columns: vec!["depth".to_owned(), "value".to_owned()],
        rows: vec![cells.iter().map(|cell| (*cell).to_owned()).collect()],
        notes: vec!["A note & more.".to_owned()],
    }
}

fn sweep<'a>(groups: Vec<ReportGroup<'a>>) -> SweepReport<'a> {
    SweepReport {
        title: "Depths <28> & 40".to_owned(),
        intro: vec!["First.".to_owned(), "Second.".to_owned()],
        table: table(&["28", "1.5 \u{b1} 0.1"]),
        comparisons: table(&["28 against 40", "not distinguishable"]),
        published: Some(table(&["28", "1794.7"])),
        failed: vec!["depth 40, seed 2: out of memory".to_owned()],
        groups,
        command: "cargo xtask bench-depths --depths 28,40".to_owned(),
    }
}

/// What holds of every page: nothing is fetched, nothing runs, every element is closed, and every picture has words.
fn check(html: &str) {
    assert!(html.starts_with("<!DOCTYPE html>") && html.trim_end().ends_with("</html>"));
    assert!(html.contains("name=\"viewport\" content=\"width=device-width"));
    let without_namespaces = html.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for outside in [
        "http://", "https://", "<script", "<link", "@import", "url(//", "<iframe",
    ] {
        assert!(!without_namespaces.contains(outside), "{outside}");
    }
    for fetched in html.split("url(").skip(1) {
        assert!(fetched.starts_with('#'), "url({}", &fetched[..20]);
    }
    for source in html.split("src=\"").skip(1) {
        assert!(source.starts_with("data:image/png;base64,"));
    }
    for image in html.split("<img").skip(1) {
        let tag = image.split('>').next().unwrap();
        let alt = tag.split("alt=\"").nth(1).expect("alt");
        assert!(alt.find('"').unwrap() > 20, "{}", &alt[..40]);
    }
    for handler in [" onload=", " onclick=", " onerror=", "javascript:"] {
        assert!(!html.contains(handler), "{handler}");
    }
    check_nesting(html);
    let ids: Vec<&str> = html
        .split(" id=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), ids.len(), "an id stands twice");
    for link in html.split("href=\"#").skip(1) {
        let target = link.split('"').next().unwrap();
        assert!(ids.contains(&target), "no section {target}");
    }
}

/// Every element that opens closes in its place.
fn check_nesting(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    for part in html.split('<').skip(1) {
        let tag = part.split('>').next().unwrap();
        if tag.starts_with('!') || tag.ends_with('/') {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "after {:?}", open);
        } else {
            let name = tag.split_ascii_whitespace().next().unwrap();
            if !["meta", "img"].contains(&name) {
                open.push(name);
            }
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_runs_report_tells_its_numbers_settings_and_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("<script>alert(1)</script>");
    let settings = Settings {
        latent_dim: 3,
        dropout: 0.125,
        ..Settings::default()
    };
    write_run(&path, &settings, &summary());
    for file in [FINAL_SAMPLES, FINAL_RECONSTRUCTIONS] {
        let layout = SheetLayout::with_columns(1);
        write_png(&path.join(file), &[0.5; VALUES], layout).unwrap();
    }
    let record = RunRecord::read(&path).unwrap();
    let out = path.join(REPORT);
    write_run_report(&out, &record).unwrap();
    let html = std::fs::read_to_string(&out).unwrap();
    check(&html);
    assert_eq!(html.matches("<img").count(), 2);
    // What is not there yet is named with its command.
    assert!(html.contains("cargo xtask report --run-dir"), "{html}");
    // Three of losses, one of the latent.
    assert_eq!(html.matches("<svg").count(), 4);
    for text in [
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "179.90 nats",
        "1859.90 nats",
        "epoch 1 of 2",
        "2 of 3",
        "50.0 images/s",
        "<th scope=\"row\">dropout</th><td>0.125</td>",
        "<th scope=\"row\">data_hash</th><td>0123456789abcdef</td>",
        "<th scope=\"row\">versions burn</th><td>0.22.1</td>",
    ] {
        assert!(html.contains(text), "{text}");
    }
    write_run_report(&out, &record).unwrap();
    assert!(
        html == std::fs::read_to_string(&out).unwrap(),
        "other bytes"
    );
}

#[test]
fn a_run_of_the_posts_sampler_shows_no_bound_and_says_why() {
    let mut record = record(28, true, 1);
    record.settings.likelihood = "logistic".parse().unwrap();
    record.summary.test_bits_per_dim = Some(4.25);
    let bound = run_page::render(&record);
    check(&bound);
    for text in ["Test bits per dimension", "negative ELBO"] {
        assert!(bound.contains(text), "{text}");
    }
    record.settings.sampler = Sampler::Blog;
    record.summary.test_bits_per_dim = None;
    for row in &mut record.rows {
        (row.train.excess, row.valid.excess) = (f64::NAN, f64::NAN);
    }
    let page = run_page::render(&record);
    check(&page);
    for text in ["its per dimension", "egative ELBO", "xcess", "not finite"] {
        assert!(!page.contains(text), "{text}");
    }
    for text in [
        "bounds nothing",
        "--importance-samples",
        "-log p(image given latent)",
    ] {
        assert!(page.contains(text), "{text}");
    }
    let sweep_of = |run| sweep_page::render(&sweep(vec![group(&[run])]));
    let page = sweep_of(&record);
    check(&page);
    assert!(page.contains("bounds nothing") && page.contains("Test -log p(image given latent)"));
    assert!(!page.contains("its per dimension") && !page.contains("Excess"));
}

#[test]
fn a_run_that_was_validated_on_the_test_images_does_not_call_them_scored_once() {
    let mut record = record(28, true, 1);
    let held_out = run_page::render(&record);
    assert!(held_out.contains("scored once") && held_out.contains("held-out training images"));
    record.settings.validation = Validation::Test;
    let on_test = run_page::render(&record);
    check(&on_test);
    assert!(!on_test.contains("scored once") && on_test.contains("chose that epoch"));
}

#[test]
fn numbers_that_are_not_finite_and_missing_pictures_are_said_in_words() {
    let mut record = record(28, true, 1);
    record.summary.test.kl = f64::NAN;
    record.summary.latent.kl_per_dimension[0] = f64::NAN;
    for row in &mut record.rows {
        row.train.loss = f64::INFINITY;
    }
    let html = run_page::render(&record);
    check(&html);
    assert!(html.contains("not finite") && !html.contains("NaN"));
    assert_eq!(html.matches("not in the run").count(), 2);
}

#[test]
fn a_sweeps_report_has_every_part() {
    let runs = [
        record(28, true, 1),
        record(28, true, 2),
        record(28, false, 1),
        record(40, true, 1),
    ];
    let failed = ReportGroup {
        runs: Vec::new(),
        label: "depth 100".to_owned(),
        depth: 100,
        shortcuts: true,
    };
    let groups = vec![
        group(&[&runs[0], &runs[1]]),
        group(&[&runs[2]]),
        group(&[&runs[3]]),
        failed,
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(REPORT);
    write_sweep_report(&path, &sweep(groups)).unwrap();
    let html = std::fs::read_to_string(&path).unwrap();
    check(&html);
    // Training and validation of loss and excess; three against depth; the latent.
    assert_eq!(html.matches("<svg").count(), 8);
    // Samples and reconstructions of three groups.
    assert_eq!(html.matches("not in the run").count(), 6);
    for text in [
        "Depths &lt;28&gt; &amp; 40",
        "1.5 \u{b1} 0.1",
        "not distinguishable",
        "1794.7",
        "depth 40, seed 2: out of memory",
        "A note &amp; more.",
        "depth 28, no shortcuts",
        "without shortcuts",
        "A point with a single seed has no bar.",
        "cargo xtask bench-depths --depths 28,40",
    ] {
        assert!(html.contains(text), "{text}");
    }
    // Shared settings stand once; depth, seed and shortcuts stand in the table of what differs.
    assert_eq!(html.matches("<th scope=\"row\">latent_dim</th>").count(), 1);
    assert!(!html.contains("<th scope=\"row\">depth</th>"));
    assert!(html.contains("<th scope=\"col\" class=\"number\">depth</th>"));
}

#[test]
fn a_sweep_without_seeds_to_spare_or_without_runs_says_so() {
    let run = record(28, true, 1);
    let html = sweep_page::render(&sweep(vec![group(&[&run])]));
    check(&html);
    assert!(html.contains("no error bars"));
    let mut nothing = sweep(Vec::new());
    nothing.published = None;
    let html = sweep_page::render(&nothing);
    check(&html);
    assert!(!html.contains("<svg") && html.contains("out of memory"));
}

#[test]
fn a_report_that_cannot_be_written_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no-such-folder").join(REPORT);
    let error = write_run_report(&path, &record(28, true, 1)).unwrap_err();
    assert!(error.to_string().contains("no-such-folder"), "{error}");
}

#[test]
fn a_runs_report_shows_traversals_interpolations_and_information() {
    use run_files::run_record::{INTERPOLATIONS, LATENTS, LatentRecord, TRAVERSALS};

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let mut summary = summary();
    summary.latent.kl_per_dimension = vec![0.0; 3];
    summary.latent.mean_variance = vec![0.0; 3];
    write_run(&path, &Settings::default(), &summary);
    for file in [TRAVERSALS, INTERPOLATIONS] {
        write_png(
            &path.join(file),
            &[0.5; VALUES],
            SheetLayout::with_columns(1),
        )
        .unwrap();
    }
    let mut latents = LatentRecord {
        weights_of_epoch: summary.best.epoch,
        images: 2000,
        average_kl: 9.25,
        mutual_information: 7.5,
        aggregated_posterior_kl: 1.75,
        ceiling: 2000f64.ln(),
        is_of_posts_draws: false,
        traversed: vec![17, 4],
        interpolated: vec![[8, 9]],
    };
    let html = |latents: &LatentRecord| {
        std::fs::write(path.join(LATENTS), latents.to_json()).unwrap();
        let out = path.join(REPORT);
        write_run_report(&out, &RunRecord::read(&path).unwrap()).unwrap();
        let html = std::fs::read_to_string(&out).unwrap();
        check(&html);
        html
    };
    let shown = html(&latents);
    assert_eq!(shown.matches("src=\"data:image/png").count(), 2);
    for text in [
        "dimensions 17, 4",
        "test images 8 to 9",
        "7.50 nats of mutual information",
        "7.60 nats",
        "at least so much",
    ] {
        assert!(shown.contains(text), "{text}");
    }
    // A collapse stands there with what helps.
    assert!(shown.contains("The latent is not used") && shown.contains("--kl-warmup"));
    latents.mutual_information = 5.0;
    assert!(!html(&latents).contains("at least so much"));
    // Of other weights, it is not shown.
    latents.weights_of_epoch += 1;
    assert!(!html(&latents).contains("dimensions 17, 4"));
}
