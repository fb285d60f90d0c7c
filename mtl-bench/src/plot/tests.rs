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
    for plot in plots.into_iter().chain(crowded(1, long)).chain(crowded(20, long)).chain(crowded(20, "m")) {
        let drawing = plot.draw().unwrap();
        for (text, (left, top, right, bottom)) in boxes(&drawing) {
            let inside = left >= 0.0 && right <= drawing.width && top >= 0.0 && bottom <= drawing.height;
            assert!(
                inside,
                "`{text}` at {left}..{right}, {top}..{bottom} of {} × {}",
                drawing.width, drawing.height
            );
        }
    }
}

/// The texts of a drawing with their rectangles: left, top, right, bottom.
fn boxes(drawing: &Drawing) -> Vec<(String, (f64, f64, f64, f64))> {
    let mut found = Vec::new();
    for item in &drawing.items {
        let drawing::Item::Text { at, text, font, anchor } = item else { continue };
        let (width, half) = (font.width(text).unwrap(), 0.45 * font.size);
        let back = match anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => width / 2.0,
            Anchor::End => width,
        };
        let place = if font.upwards {
            (at.0 - half, at.1 - width + back, at.0 + half, at.1 + back)
        } else {
            (at.0 - back, at.1 - half, at.0 - back + width, at.1 + half)
        };
        found.push((text.clone(), place));
    }
    found
}

/// The figures whose texts are laid out by their number: n methods called `name`.
fn crowded(n: usize, name: &str) -> Vec<Box<dyn Plot>> {
    let names: Vec<String> = (0..n).map(|i| format!("{name} {i}")).collect();
    let unit = |i: usize| (i * 7 % 20) as f64 / 20.0;
    let ranks = (0..n).map(|i| (names[i].clone(), 1.0 + i as f64)).collect();
    let groups = vec![(0..n / 2).collect(), (n / 3..n).collect()];
    let diagram = CriticalDifferenceDiagram::new(ranks, groups).critical_difference(3.0).title(name);
    let profile = |i: usize| crate::stats::Profile {
        tau: vec![0.0, 0.5, 1.0],
        share: vec![1.0, unit(i), 0.0],
        low: Vec::new(),
        high: Vec::new(),
    };
    let effect = |i: usize| Estimate::of(&[unit(i), -unit(i + 1), 0.3], 0.95).unwrap();
    let mut radar = Radar::new((0..8).map(|i| format!("{name} {i}")), name).title(name);
    let mut profiles = ProfilePlot::new(name).title(name).y_label(name);
    let mut forest = ForestPlot::new(name).title(name).sides(name, name);
    let matrix = (0..n).map(|i| (0..n).map(|j| Some(unit(i + j) - 0.5)).collect()).collect();
    for (i, name) in names.iter().enumerate() {
        radar = radar.series(name, (0..8).map(|axis| unit(axis + i)).collect());
        profiles = profiles.profile(name, profile(i));
        forest = forest.row(name, effect(i));
    }
    let forest = forest.pooled(name, effect(3));
    let affinity = HeatMap::affinity(&names, &names, matrix).unwrap().title(name).labels(name, name, name);
    let mut plots: Vec<Box<dyn Plot>> =
        vec![Box::new(radar), Box::new(profiles), Box::new(forest), Box::new(affinity), Box::new(law(0.1))];
    if n > 1 {
        plots.push(Box::new(diagram));
    }
    plots
}

fn law(offset: f64) -> PowerLawPlot {
    let x = [100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0];
    let noise = [1.01, 0.99, 1.0, 1.02, 0.98, 1.0];
    let y: Vec<f64> =
        x.iter().zip(noise).map(|(x, e): (&f64, f64)| (3.0 * x.powf(-0.5) + offset) * e).collect();
    let fit = crate::stats::fit_power_law(&x, &y, &Default::default()).unwrap();
    PowerLawPlot::new("examples", "error [share]", &x, &y, fit).unwrap()
}

#[test]
fn texts_keep_off_each_other() {
    for n in [1, 3, 20] {
        for name in [
            "m",
            "a method with a name that goes on and on, far longer than any margin of a page has room for",
        ] {
            for plot in crowded(n, name) {
                let boxes = boxes(&plot.draw().unwrap());
                for (i, (text, a)) in boxes.iter().enumerate() {
                    for (other, b) in &boxes[i + 1..] {
                        let apart = a.2 <= b.0 || b.2 <= a.0 || a.3 <= b.1 || b.3 <= a.1;
                        assert!(apart, "`{text}` {a:?} covers `{other}` {b:?}");
                    }
                }
            }
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
