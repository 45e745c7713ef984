//! Charts as SVG inside a page: without colours of their own but those the page's style sheet gives.

use kuva::Theme;
use kuva::backend::svg::SvgBackend;
use kuva::render::render::render_multiple;

use super::escape::escape;
use crate::chart::{Chart, renumbered};

/// Size of a chart in its own pixels; the page scales it.
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 320.0;

/// What `var(--curve-N)` has values for.
pub(super) const CURVE_COLOURS: usize = 6;

/// A colour of the style sheet that tells curves apart, in light and dark; they repeat after [`CURVE_COLOURS`].
pub(super) fn curve_colour(index: usize) -> String {
    format!("var(--curve-{})", index % CURVE_COLOURS)
}

/// The chart as an element `svg` that grows and shrinks with the page.
///
/// `number` is the chart's own on its page, and `label` what a screen reader says.
pub(super) fn inline_svg(chart: &Chart, number: usize, label: &str) -> String {
    let text = "currentColor";
    let theme = Theme {
        background: "none".to_owned(),
        axis_color: "var(--axis)".to_owned(),
        grid_color: "var(--grid)".to_owned(),
        tick_color: "var(--axis)".to_owned(),
        text_color: text.to_owned(),
        ..Theme::light()
    };
    let layout = chart
        .layout()
        .with_theme(theme)
        .with_width(WIDTH)
        .with_height(HEIGHT)
        .with_label_size(14)
        .with_tick_size(13);
    let scene = render_multiple(chart.plots(), layout);
    let (width, height) = (scene.width, scene.height);
    let svg = SvgBackend::new().render_scene(&scene);
    // kuva's own opening tag has a fixed size and font, and no name.
    let content = svg.split_once('>').map_or("", |(_, content)| content);
    let content = renumbered(content, "kuva-clip-", &format!("chart-{number}-clip-"));
    format!(
        "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\" fill=\"currentColor\">{content}",
        escape(label)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::Curve;

    fn chart() -> Chart {
        Chart::over_epochs(vec![Curve::new(
            vec![(1.0, 2.0), (2.0, 1.0)],
            &curve_colour(0),
        )])
    }

    #[test]
    fn a_drawing_scales_has_a_name_and_the_pages_colours() {
        let svg = inline_svg(&chart(), 3, "loss < 2");
        assert!(
            svg.starts_with("<svg viewBox=\"0 0 460 320\""),
            "{}",
            &svg[..80]
        );
        assert!(svg.contains("aria-label=\"loss &lt; 2\"") && svg.trim_end().ends_with("</svg>"));
        for colour in ["var(--curve-0)", "var(--grid)", "var(--axis)"] {
            assert!(svg.contains(colour), "{colour}");
        }
        for fixed in [
            "\"black\"",
            "\"white\"",
            "#000",
            "#ffffff",
            "#fff\"",
            "#ccc",
        ] {
            assert!(
                !svg.contains(fixed),
                "{fixed} would vanish on one background"
            );
        }
    }

    #[test]
    fn names_inside_are_the_charts_own() {
        let (first, second) = (inline_svg(&chart(), 1, "a"), inline_svg(&chart(), 2, "a"));
        assert!(!first.contains("kuva-clip-"));
        assert_eq!(first.replace("chart-1-", "chart-2-"), second);
        assert!(first.contains("id=\"chart-1-clip-0\"") && first.contains("url(#chart-1-clip-0)"));
    }
}
