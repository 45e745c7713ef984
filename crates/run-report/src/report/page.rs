//! A page of HTML that stands alone: its style, its pictures and its drawings are in it, and it has no script.

use std::fmt::Write as _;

use kuva::plot::line::LineStyle;

use super::contents::ReportTable;
use super::drawing::inline_svg;
use super::escape::escape;
use super::picture::Picture;
use crate::chart::Chart;

const STYLE: &str = include_str!("page.css");

/// A table with more columns is set in small type on paper.
const MANY_COLUMNS: usize = 10;
/// A text of more bytes has several lines in its cell.
const LONG_CELL: usize = 60;

/// One line of a legend.
pub(super) struct LegendEntry {
    pub(super) label: String,
    /// Any CSS colour.
    pub(super) colour: String,
    pub(super) style: LineStyle,
}

/// A number that stands out: what it is, the number with its unit, and more in small print, or nothing.
pub(super) struct Fact {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) detail: String,
}

/// A page under construction. Every text given to it is escaped here and nowhere else.
pub(super) struct Page {
    title: String,
    /// Class of the body, which decides about the paper's orientation.
    class: &'static str,
    body: String,
    charts: usize,
}

impl Page {
    /// An empty page with its title as the first heading; `class` is `run` or `sweep`.
    pub(super) fn new(title: &str, class: &'static str) -> Self {
        let mut page = Self {
            title: title.to_owned(),
            class,
            body: String::new(),
            charts: 0,
        };
        page.element("h1", "", title);
        page
    }

    /// The whole document.
    pub(super) fn finish(self) -> String {
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n\
             <body class=\"{}\">\n{}</body>\n</html>\n",
            escape(&self.title),
            self.class,
            self.body
        )
    }

    fn line(&mut self, html: std::fmt::Arguments<'_>) {
        // Writing into a `String` cannot fail.
        let _ = writeln!(self.body, "{html}");
    }

    fn element(&mut self, name: &str, attributes: &str, text: &str) {
        self.line(format_args!(
            "<{name}{attributes}>{}</{name}>",
            escape(text)
        ));
    }

    /// Links to the sections, which [`heading`](Self::heading) begins.
    pub(super) fn contents(&mut self, sections: &[(&str, &str)]) {
        self.line(format_args!("<nav aria-label=\"Sections\">"));
        for (id, title) in sections {
            self.element("a", &format!(" href=\"#{id}\""), title);
        }
        self.line(format_args!("</nav>"));
    }

    /// Begins a section; `id` is a word of the program's own.
    pub(super) fn heading(&mut self, id: &str, text: &str) {
        self.element("h2", &format!(" id=\"{id}\""), text);
    }

    pub(super) fn subheading(&mut self, text: &str) {
        self.element("h3", "", text);
    }

    pub(super) fn paragraph(&mut self, text: &str) {
        self.element("p", "", text);
    }

    pub(super) fn note(&mut self, text: &str) {
        self.element("p", " class=\"note\"", text);
    }

    /// A command to type.
    pub(super) fn command(&mut self, text: &str) {
        self.element("pre", "", text);
    }

    /// What went wrong, where anything did.
    pub(super) fn alarm(&mut self, title: &str, lines: &[String]) {
        self.line(format_args!("<div class=\"alarm\" role=\"note\">"));
        self.element("h2", "", title);
        self.line(format_args!("<ul>"));
        for text in lines {
            self.element("li", "", text);
        }
        self.line(format_args!("</ul></div>"));
    }

    /// Numbers that stand out.
    pub(super) fn facts(&mut self, facts: &[Fact]) {
        self.line(format_args!("<dl class=\"facts\">"));
        for fact in facts {
            self.line(format_args!("<div>"));
            self.element("dt", "", fact.name);
            self.element("dd", "", &fact.value);
            if !fact.detail.is_empty() {
                self.element("dd", "", &fact.detail);
            }
            self.line(format_args!("</div>"));
        }
        self.line(format_args!("</dl>"));
    }

    /// A table that scrolls inside its own box, its notes below; columns of numbers are set to the right.
    ///
    /// `name` is what a screen reader says.
    pub(super) fn table(&mut self, name: &str, table: &ReportTable) {
        let rows = &table.rows;
        let is_numeric: Vec<bool> = (0..table.columns.len())
            .map(|column| is_column_of_numbers(rows, column))
            .collect();
        let class = |column: usize| match is_numeric.get(column) {
            Some(true) => " class=\"number\"",
            _ => "",
        };
        let size = if table.columns.len() > MANY_COLUMNS {
            "wide many"
        } else {
            "wide"
        };
        self.open_table(name, size);
        self.line(format_args!("<thead><tr>"));
        for (column, title) in table.columns.iter().enumerate() {
            self.element("th", &format!(" scope=\"col\"{}", class(column)), title);
        }
        self.line(format_args!("</tr></thead>\n<tbody>"));
        for row in rows {
            self.line(format_args!("<tr>"));
            for (column, cell) in row.iter().enumerate() {
                if column == 0 {
                    self.element("th", &format!(" scope=\"row\"{}", class(0)), cell);
                } else if cell.len() > LONG_CELL {
                    self.element("td", " class=\"long\"", cell);
                } else {
                    self.element("td", class(column), cell);
                }
            }
            self.line(format_args!("</tr>"));
        }
        self.line(format_args!("</tbody></table></div>"));
        if table.columns.len() > MANY_COLUMNS {
            self.element("p", " class=\"note screen\"", "The table scrolls sideways.");
        }
        for note in &table.notes {
            self.note(note);
        }
    }

    /// A table of names and values.
    pub(super) fn pairs(&mut self, name: &str, pairs: &[(String, String)]) {
        self.open_table(name, "pairs");
        self.line(format_args!("<tbody>"));
        for (key, value) in pairs {
            self.line(format_args!(
                "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
                escape(key),
                escape(value)
            ));
        }
        self.line(format_args!("</tbody></table></div>"));
    }

    fn open_table(&mut self, name: &str, class: &str) {
        // Focusable, so that the arrow keys scroll it.
        self.line(format_args!(
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\"><table class=\"{class}\">",
            escape(name)
        ));
    }

    /// Content in a block of this class: `columns` of charts, `twos` for charts in pairs, `sheets` of pictures; or a
    /// `whole` section, which paper does not divide where it fits on a page.
    pub(super) fn block(&mut self, class: &str, content: impl FnOnce(&mut Self)) {
        self.line(format_args!("<div class=\"{class}\">"));
        content(self);
        self.line(format_args!("</div>"));
    }

    /// A chart under its title, with a note on what its axis does not show.
    pub(super) fn chart(&mut self, title: &str, chart: &Chart) {
        self.charts += 1;
        let label = format!("{title}: {} over {}", chart.y_label, chart.x_label);
        let svg = inline_svg(chart, self.charts, &label);
        self.line(format_args!(
            "<figure><figcaption><b>{}</b></figcaption>\n{}",
            escape(title),
            svg.trim_end()
        ));
        // Below, so that charts side by side stay level.
        if chart.axis.above > 0 {
            self.note(&format!(
                "Above the axis: {}, up to {:.1e}, drawn as triangles at its edge.",
                chart.axis.above, chart.axis.largest
            ));
        }
        if chart.axis.not_finite > 0 {
            self.note(&format!("Not finite: {}, left out.", chart.axis.not_finite));
        }
        self.line(format_args!("</figure>"));
    }

    /// A picture under its title; a sentence where there is none.
    pub(super) fn picture(&mut self, title: &str, description: &str, picture: Option<&Picture>) {
        let content = match picture {
            Some(picture) => format!(
                "<img alt=\"{}\" width=\"{}\" height=\"{}\" src=\"{}\">",
                escape(description),
                picture.width,
                picture.height,
                picture.address
            ),
            None => {
                "<p class=\"note\">The picture is not in the run's folder any more.</p>".to_owned()
            }
        };
        self.line(format_args!(
            "<figure><figcaption><b>{}</b></figcaption>\n{content}\n</figure>",
            escape(title)
        ));
    }

    /// What the colours and styles of lines mean.
    pub(super) fn legend(&mut self, entries: &[LegendEntry]) {
        self.line(format_args!("<ul class=\"legend\">"));
        for entry in entries {
            let style = match entry.style {
                LineStyle::Solid => "solid",
                _ => "dashed",
            };
            self.line(format_args!(
                "<li><span style=\"border-top-style:{style};color:{}\"></span>{}</li>",
                escape(&entry.colour),
                escape(&entry.label)
            ));
        }
        self.line(format_args!("</ul>"));
    }
}

/// Whether every cell of a column that says anything begins with a digit, after a sign or not.
fn is_column_of_numbers(rows: &[Vec<String>], column: usize) -> bool {
    let mut cells = rows
        .iter()
        .filter_map(|row| row.get(column))
        .map(|cell| cell.trim_start_matches(['-', '\u{2212}', '+', '\u{2013}', '\u{2014}', ' ']))
        .filter(|cell| !cell.is_empty())
        .peekable();
    cells.peek().is_some()
        && cells.all(|cell| cell.starts_with(|letter: char| letter.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_escaped_wherever_it_stands() {
        let wild = "<script>alert('\"&')</script>";
        let mut page = Page::new(wild, "run");
        page.contents(&[("a", wild)]);
        page.heading("a", wild);
        page.subheading(wild);
        page.paragraph(wild);
        page.note(wild);
        page.command(wild);
        page.alarm(wild, &[wild.to_owned()]);
        page.facts(&[Fact {
            name: "loss",
            value: wild.to_owned(),
            detail: wild.to_owned(),
        }]);
        page.table(
            wild,
            &ReportTable {
                columns: vec![wild.to_owned()],
                rows: vec![vec![wild.to_owned(), wild.to_owned()]],
                notes: vec![wild.to_owned()],
            },
        );
        page.pairs(wild, &[(wild.to_owned(), wild.to_owned())]);
        page.legend(&[LegendEntry {
            label: wild.to_owned(),
            colour: wild.to_owned(),
            style: LineStyle::Solid,
        }]);
        let picture = Picture {
            address: "data:,".to_owned(),
            width: 1,
            height: 2,
        };
        page.picture(wild, wild, Some(&picture));
        let mut chart = Chart::over_epochs(Vec::new());
        chart.x_label = wild.to_owned();
        page.chart(wild, &chart);
        let html = page.finish();
        assert!(
            !html.contains("<script") && !html.contains("alert('"),
            "{html}"
        );
        // Title, heading, link, and the twenty places above.
        let escaped = "&lt;script&gt;alert(&#39;&quot;&amp;&#39;)&lt;/script&gt;";
        assert!(
            html.matches(escaped).count() >= 22,
            "{}",
            html.matches(escaped).count()
        );
    }

    #[test]
    fn columns_of_numbers_are_set_to_the_right() {
        let rows = |cells: &[&str]| -> Vec<Vec<String>> {
            cells.iter().map(|cell| vec![(*cell).to_owned()]).collect()
        };
        assert!(is_column_of_numbers(
            &rows(&["28", "1,000", "-0.5 ± 0.1", "\u{2212}3", "\u{2013}", ""]),
            0
        ));
        assert!(!is_column_of_numbers(
            &rows(&["28", "not distinguishable"]),
            0
        ));
        assert!(!is_column_of_numbers(&rows(&["", "-"]), 0));
        assert!(!is_column_of_numbers(&[], 0));
    }

    #[test]
    fn a_picture_that_is_gone_is_said_to_be() {
        let mut page = Page::new("t", "run");
        page.picture("samples", "a sheet", None);
        let html = page.finish();
        assert!(html.contains("not in the run") && !html.contains("<img"));
    }
}
