//! The tables of a sweep, for people: means with their spread, comparisons, and the post's numbers beside ours.

mod comparison;
mod lines;
mod main;
mod notes;
mod published;

pub(super) use comparison::comparison_table;
pub(super) use lines::lines;
pub(super) use main::main_table;
pub(super) use published::published_table;

#[cfg(test)]
mod tests {
    use run_report::report::ReportTable;

    use super::*;
    use crate::sweep::matching::Matching;
    use crate::sweep::plan::{Protocol, SweepOptions};
    use crate::sweep::results::tests::{options, results};

    /// The cell under a heading.
    fn cell<'a>(table: &'a ReportTable, row: usize, column: &str) -> &'a str {
        let position = table.columns.iter().position(|title| title == column);
        &table.rows[row][position.unwrap_or_else(|| panic!("no column {column}"))]
    }

    #[test]
    fn every_row_has_a_cell_for_every_column() {
        for matching in [Matching::None, Matching::Parameters, Matching::Macs] {
            let results = results(SweepOptions {
                matching,
                protocol: Protocol::Blog,
                ..options()
            });
            let published = published_table(&results).expect("the post's protocol");
            for table in [main_table(&results), comparison_table(&results), published] {
                assert!(!table.rows.is_empty());
                for row in &table.rows {
                    assert_eq!(row.len(), table.columns.len(), "{row:?}");
                }
            }
        }
    }

    #[test]
    fn the_main_table_states_seeds_spread_and_floor() {
        let table = main_table(&results(options()));
        assert_eq!(cell(&table, 0, "seeds"), "2");
        assert_eq!(cell(&table, 1, "seeds"), "1 of 2");
        // 80 and 82.
        assert_eq!(cell(&table, 0, "excess over the floor"), "81.00 ± 1.41");
        assert_eq!(cell(&table, 1, "excess over the floor"), "90.00");
        assert_eq!(cell(&table, 0, "parameters"), "26,815,683");
        assert_eq!(cell(&table, 0, "active latent dimensions"), "2");
        assert!(table.notes.iter().any(|note| note.contains("1681.70")));
    }

    #[test]
    fn under_the_posts_sampler_the_tables_have_no_bound_and_say_why() {
        let of = |protocol| {
            results(SweepOptions {
                protocol,
                likelihood: Some("logistic".to_owned()),
                ..options()
            })
        };
        let held_out = of(Protocol::HeldOut);
        assert_eq!(
            comparison_table(&held_out).columns[0],
            "difference of negative ELBO"
        );
        assert_eq!(
            cell(&main_table(&held_out), 0, "test negative ELBO"),
            "1795.80 ± 1.41"
        );
        let blog = of(Protocol::Blog);
        let table = main_table(&blog);
        // 1681.7 + 80 + 33.1 and 2 more.
        assert_eq!(
            cell(&table, 0, "test cross-entropy plus KL"),
            "1795.80 ± 1.41"
        );
        assert!(
            table
                .notes
                .iter()
                .any(|note| note.contains("bounds nothing"))
        );
        let told = format!(
            "{:?} {:?} {:?}",
            table.columns,
            comparison_table(&blog),
            lines(&blog)
        );
        assert!(!told.contains("ELBO") && !told.contains("bits"), "{told}");
        assert!(published_table(&blog).is_none());
    }

    #[test]
    fn matched_widths_stand_in_the_table_with_their_mismatch() {
        let table = main_table(&results(SweepOptions {
            matching: Matching::Macs,
            width: Some("0.05".to_owned()),
            ..options()
        }));
        assert_eq!(cell(&table, 0, "mismatch"), "+0.00 %");
        assert!(cell(&table, 1, "width").parse::<f64>().expect("a number") < 0.05);
        assert_ne!(cell(&table, 1, "mismatch"), "+0.00 %");
    }

    #[test]
    fn the_posts_row_stands_beside_ours_under_its_protocol_alone() {
        assert!(published_table(&results(options())).is_none());
        let table = published_table(&results(SweepOptions {
            protocol: Protocol::Blog,
            ..options()
        }))
        .expect("the post's protocol");
        assert_eq!(cell(&table, 0, "whose"), "the post");
        assert_eq!(cell(&table, 0, "last epoch: excess"), "81.56");
        assert_eq!(cell(&table, 1, "whose"), "here");
        assert_eq!(
            (cell(&table, 2, "depth"), cell(&table, 2, "epochs")),
            ("40", "274")
        );
    }

    #[test]
    fn differences_have_signs_and_verdicts() {
        let table = comparison_table(&results(options()));
        assert_eq!(
            table.rows[0][..4],
            [
                "depth 40, residual minus depth 28, residual",
                "+9.00",
                "-",
                "one seed: no interval"
            ]
        );
    }
}
