use super::*;
use crate::metrics::Better;
use crate::stats::Estimate;

fn pareto() -> ParetoPlot {
    let plot = ParetoPlot::new(("latency [ms]", Better::Lower), ("accuracy [%]", Better::Higher));
    plot.point("a & b", 2.0, 91.0).point("c", 9.0, 95.0).point("d", 9.5, 90.0)
}

#[test]
fn both_outputs_are_deterministic_and_well_formed() {
    let plot = pareto();
    let svg = plot.to_svg_string().unwrap();
    assert_eq!(svg, plot.to_svg_string().unwrap());
    assert!(svg.starts_with("<svg width=\"720\" height=\"440\" stroke-linejoin"));
    assert!(svg.contains("a &amp; b") && svg.trim_end().ends_with("</svg>"));
    let png = plot.draw().unwrap().to_png().unwrap();
    assert_eq!(png, plot.draw().unwrap().to_png().unwrap());
    let info = png::Decoder::new(std::io::Cursor::new(&png)).read_info().unwrap().info().size();
    assert_eq!(info, (1440, 880));
}

#[test]
fn every_text_stays_inside_the_figure() {
    let long =
        "a method with a name that goes on and on, far longer than any table would ever like to show it";
    let estimate = Estimate::of(&[0.1, 0.2, 0.3], 0.95).unwrap();
    let names: Vec<String> = (0..12).map(|i| format!("{long} {i}")).collect();
    let matrix = vec![vec![Some(0.5); 12]; 12];
    let point = CurvePoint { x: 3.0, mean: 0.5, band: None };
    let plots: Vec<Box<dyn Plot>> = vec![
        Box::new(BarChart::new(long).title(long).bar(long, long, estimate).bar(long, "b", estimate)),
        Box::new(HeatMap::new(&names, &names, matrix).unwrap().title(long).labels(long, long, long)),
        Box::new(pareto().point(long, 3.0, 92.0).title(long)),
        Box::new(
            LearningCurves::new(long, long)
                .title(long)
                .curve(Curve { name: long.into(), points: vec![point] }),
        ),
    ];
    for plot in plots {
        let drawing = plot.draw().unwrap();
        for item in &drawing.items {
            let drawing::Item::Text { at, text, font, anchor } = item else { continue };
            let width = font.width(text).unwrap();
            let back = match anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => width / 2.0,
                Anchor::End => width,
            };
            let (low, high, size) = if font.upwards {
                (at.1 - width + back, at.1 + back, drawing.height)
            } else {
                (at.0 - back, at.0 - back + width, drawing.width)
            };
            assert!(low >= 0.0 && high <= size, "`{text}` from {low} to {high} of {size}");
        }
    }
}

#[test]
fn what_cannot_be_drawn_is_an_error() {
    let bad = pareto().point("bad", f64::NAN, 1.0).draw().unwrap_err();
    insta::assert_snapshot!(bad, @"cannot draw the figure: point `bad` has the value NaN");
    insta::assert_snapshot!(pareto().point("bad", 0.0, 1.0).log_x().draw().unwrap_err(), @"cannot draw the figure: `bad` has 0 on a logarithmic axis");
    assert!(LearningCurves::new("step", "loss").draw().is_err());
    assert!(BarChart::new("x").draw().is_err());
    assert!(HeatMap::new(&[], &[], vec![]).is_err());
}

#[test]
fn saving_replaces_the_file_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let plot = pareto();
    plot.save_svg(&dir.path().join("a.svg")).unwrap();
    plot.save_png(&dir.path().join("a.png")).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    assert!(plot.save_png(&dir.path().join("none/a.png")).is_err());
}
