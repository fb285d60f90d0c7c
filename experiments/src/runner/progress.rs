//! How far the whole study is: a bar on a terminal, a line every ten seconds elsewhere.
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

const EVERY: Duration = Duration::from_secs(10);

/// Numbers to show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) total: usize,
    /// Finished, by this run or earlier ones.
    pub(super) done: usize,
    pub(super) running: usize,
    pub(super) failed: usize,
}

/// Shows [`Counts`] with an estimate of the time left.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    workers: usize,
    shown: Instant,
    /// Cells finished by this run, and their wall times together.
    finished: u32,
    spent: Duration,
}

impl Progress {
    pub(super) fn new(total: usize, workers: usize, quiet: bool) -> Self {
        let bar = (!quiet && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(total as u64);
            let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} cells, {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        Self { bar, quiet, workers, shown: Instant::now(), finished: 0, spent: Duration::ZERO }
    }

    /// Notes how long a cell took.
    pub(super) fn finished(&mut self, wall: Duration) {
        self.finished += 1;
        self.spent += wall;
    }

    /// Shows the numbers when it is time to.
    pub(super) fn show(&mut self, counts: Counts) {
        if let Some(bar) = &self.bar {
            bar.set_position((counts.done + counts.failed) as u64);
            bar.set_message(describe(counts, self.left(counts)));
        } else if !self.quiet && self.shown.elapsed() > EVERY {
            self.shown = Instant::now();
            self.say(&format!(
                "{} of {} cells done, {}",
                counts.done,
                counts.total,
                describe(counts, self.left(counts))
            ));
        }
    }

    /// Prints a line above the bar.
    pub(super) fn say(&self, line: &str) {
        match &self.bar {
            _ if self.quiet => {}
            Some(bar) => bar.println(line),
            // Nobody may be listening any more; that is no reason to stop.
            None => drop(writeln!(io::stderr(), "{line}")),
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Time left, from the mean of the cells that this run has finished.
    fn left(&self, counts: Counts) -> Option<Duration> {
        let mean = self.spent.checked_div(self.finished)?;
        let open = counts.total.saturating_sub(counts.done + counts.failed);
        Some(mean.mul_f64(open as f64 / self.workers.max(1) as f64))
    }
}

fn describe(counts: Counts, left: Option<Duration>) -> String {
    let waiting = counts.total.saturating_sub(counts.done + counts.failed + counts.running);
    let left = left.map_or_else(String::new, |left| format!(", about {} to go", human(left)));
    format!("{} running, {} failed, {waiting} left{left}", counts.running, counts.failed)
}

/// A duration as people say it: `42 s`, `3 min 20 s`, `2 h 5 min`.
pub(super) fn human(time: Duration) -> String {
    match time.as_secs() {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_every_count_and_an_estimate() {
        let mut progress = Progress::new(10, 2, true);
        let counts = Counts { total: 10, done: 4, running: 2, failed: 1 };
        insta::assert_snapshot!(describe(counts, progress.left(counts)), @"2 running, 1 failed, 3 left");
        progress.finished(Duration::from_secs(60));
        progress.finished(Duration::from_secs(20));
        insta::assert_snapshot!(
            describe(counts, progress.left(counts)),
            @"2 running, 1 failed, 3 left, about 1 min 40 s to go"
        );
    }
}
