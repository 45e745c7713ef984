//! What a report shows, before it is a page.

use run_files::run_record::RunRecord;

/// A table of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportTable {
    /// Titles of the columns, with units.
    pub columns: Vec<String>,
    /// Cells, one a column; the first one names the row.
    pub rows: Vec<Vec<String>>,
    /// Sentences below the table.
    pub notes: Vec<String>,
}

/// The runs of one model, which differ in their seeds.
#[derive(Clone, Debug)]
pub struct ReportGroup<'a> {
    /// Name of the model, such as "depth 28, no shortcuts".
    pub label: String,
    /// Layers.
    pub depth: u32,
    /// Whether its blocks have shortcuts.
    pub shortcuts: bool,
    /// One a seed; none where all failed.
    pub runs: Vec<&'a RunRecord>,
}

/// What a sweep's report shows, in this order but for the command, which stands with the configuration.
#[derive(Clone, Debug)]
pub struct SweepReport<'a> {
    /// First heading.
    pub title: String,
    /// Paragraphs below it: what was asked, and what can be concluded.
    pub intro: Vec<String>,
    /// Results, one row a group.
    pub table: ReportTable,
    /// Differences between groups, with confidence intervals.
    pub comparisons: ReportTable,
    /// Published results beside these, where the protocol is theirs.
    pub published: Option<ReportTable>,
    /// A sentence for each run that failed.
    pub failed: Vec<String>,
    /// The runs.
    pub groups: Vec<ReportGroup<'a>>,
    /// What was typed.
    pub command: String,
}
