//! Performance profiles with bands: Agarwal et al., *Deep Reinforcement Learning at the Edge of the Statistical
//! Precipice*, arXiv 2108.13264.
use super::axis::Axis;
use super::drawing::{Color, Drawing};
use super::frame::{self, Frame};
use super::theme::{HEIGHT, WIDTH, series_color};
use super::{Plot, check};
use crate::stats::Profile;
use crate::{Error, Result};

/// The share of scores above each threshold, one curve per method: a curve above another is better everywhere there.
///
/// ```
/// use mtl_bench::{plot::{Plot, ProfilePlot}, stats::{Bootstrap, RunsByTasks, profile_with_band}};
///
/// let scores = RunsByTasks::from_rows(&[vec![0.9, 0.5], vec![0.7, 0.3]])?;
/// let options = Bootstrap { replicates: 200, ..Bootstrap::default() };
/// let profile = profile_with_band(&scores, &[0.0, 0.5, 1.0], Default::default(), Default::default(), &options)?;
/// assert!(ProfilePlot::new("accuracy τ").profile("pcgrad", profile).to_svg_string()?.contains("pcgrad"));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ProfilePlot {
    title: Option<String>,
    x_label: String,
    y_label: String,
    profiles: Vec<(String, Profile)>,
}

impl ProfilePlot {
    /// The label of the thresholds carries the unit of the scores.
    pub fn new(x_label: impl Into<String>) -> Self {
        Self {
            title: None,
            x_label: x_label.into(),
            y_label: "share of runs × tasks above τ".to_owned(),
            profiles: Vec::new(),
        }
    }

    /// Sets the title.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Sets what the share counts; for [`crate::stats::ProfileKind::TaskMeans`] say so.
    #[must_use]
    pub fn y_label(mut self, label: impl Into<String>) -> Self {
        self.y_label = label.into();
        self
    }

    /// Adds a method; its `low` and `high` are empty or as long as `tau`.
    #[must_use]
    pub fn profile(mut self, name: impl Into<String>, profile: Profile) -> Self {
        self.profiles.push((name.into(), profile));
        self
    }

    fn check(&self) -> Result<()> {
        if self.profiles.is_empty() {
            return Err(Error::Draw("there are no profiles".to_owned()));
        }
        for (name, p) in &self.profiles {
            let what = format!("profile `{name}`");
            let n = p.tau.len();
            if n < 2 {
                return Err(Error::Draw(format!("{what} needs 2 thresholds, but has {n}")));
            }
            let bands = [p.low.len(), p.high.len()];
            if p.share.len() != n || bands.iter().any(|&b| b != bands[0] || (b != 0 && b != n)) {
                return Err(Error::Draw(format!(
                    "{what} must have one share and both ends of the band per threshold"
                )));
            }
            check(&what, p.tau.iter().chain(&p.share).chain(&p.low).chain(&p.high))?;
            if p.tau.windows(2).any(|w| w[0] >= w[1]) {
                return Err(Error::Draw(format!("{what} needs ascending thresholds")));
            }
            if let Some(bad) =
                p.share.iter().chain(&p.low).chain(&p.high).find(|s| !(-1e-9..=1.0 + 1e-9).contains(*s))
            {
                return Err(Error::Draw(format!("{what} has the share {bad}, which is not in 0 to 1")));
            }
        }
        Ok(())
    }
}

impl Plot for ProfilePlot {
    fn draw(&self) -> Result<Drawing> {
        self.check()?;
        let mut drawing = Drawing::new(WIDTH, HEIGHT);
        let names: Vec<(&str, Color)> =
            self.profiles.iter().enumerate().map(|(i, p)| (p.0.as_str(), series_color(i))).collect();
        let top = frame::title(&mut drawing, self.title.as_deref())?;
        let top = frame::growing_legend(&mut drawing, &names, top)?;
        let x = Axis::tight(self.profiles.iter().flat_map(|p| p.1.tau.iter().copied()));
        let frame =
            Frame::new(&mut drawing, top, (x, &self.x_label), (Axis::tight([0.0, 1.0]), &self.y_label))?;
        // Many bands on top of each other would hide the curves.
        let strength = if self.profiles.len() > 5 { 0.06 } else { 0.16 };
        for (i, (_, p)) in self.profiles.iter().enumerate() {
            let upper = p.tau.iter().zip(&p.high).map(|(t, s)| (frame.x(*t), frame.y(*s)));
            let lower = p.tau.iter().zip(&p.low).rev().map(|(t, s)| (frame.x(*t), frame.y(*s)));
            let outline: Vec<(f64, f64)> = upper.chain(lower).collect();
            if outline.len() > 2 {
                drawing.area(&outline, series_color(i).alpha(strength));
            }
        }
        for (i, (_, p)) in self.profiles.iter().enumerate() {
            let line: Vec<(f64, f64)> =
                p.tau.iter().zip(&p.share).map(|(t, s)| (frame.x(*t), frame.y(*s))).collect();
            drawing.line(&line, 2.0, series_color(i));
            // Markers at other places for each curve, so that curves that coincide can still be told apart.
            let every = line.len().div_ceil(8).max(1);
            for point in line.iter().skip(i * every / 8 % every).step_by(every) {
                frame::marker(&mut drawing, *point, i, 3.6, series_color(i));
            }
        }
        Ok(drawing)
    }
}
