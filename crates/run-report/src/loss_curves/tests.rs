//! Whole drawings, from any rows.

use super::*;

fn row(epoch: u32, loss: f64) -> EpochRow {
    let terms = |loss| Terms {
        loss,
        cross_entropy: loss - 40.0,
        excess: loss - 1720.0,
        kl: 33.0,
        l2: 7.0,
    };
    EpochRow {
        epoch,
        train: terms(loss),
        valid: terms(loss + 5.0),
        learning_rate: 0.001,
        last_learning_rate: 0.001,
        skipped_steps: 0,
        optional: Default::default(),
    }
}

#[test]
fn any_rows_give_a_whole_svg() {
    let wild = [
        row(1, f64::INFINITY),
        row(2, 1e8),
        row(3, f64::NAN),
        row(4, -1e300),
        row(5, f64::MAX),
    ];
    for rows in [&[][..], &[row(1, 1900.0)], &[row(1, f64::NAN)], &wild] {
        let svg = render_svg(rows);
        assert!(svg.contains("<svg") && svg.trim_end().ends_with("</svg>"));
        for number in ["NaN", "\"inf", "\"-inf"] {
            assert!(!svg.contains(number), "{number} in the drawing of {rows:?}");
        }
    }
}

#[test]
fn axes_are_labelled_with_units_and_bytes_are_the_same_each_time() {
    let rows: Vec<EpochRow> = (1..=6)
        .map(|epoch| row(epoch, 2100.0 - 10.0 * f64::from(epoch)))
        .collect();
    let svg = render_svg(&rows);
    assert_eq!(svg.matches("nats per image").count(), 3);
    for text in [
        "epoch",
        "cross-entropy excess",
        "KL divergence",
        "train",
        "valid",
    ] {
        assert!(svg.contains(text), "{text}");
    }
    render_svg(&[row(1, 1.0)]);
    assert!(
        svg == render_svg(&rows),
        "a drawing in between changed the bytes"
    );
}

#[test]
fn the_file_holds_the_drawing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("loss-curves.svg");
    write_svg(&path, &[row(1, 1900.0)]).unwrap();
    assert_eq!(
        std::fs::read_to_string(path).unwrap(),
        render_svg(&[row(1, 1900.0)])
    );
}
