//! The user's command: run without a shell, within a time limit, its last line read as metrics.
use super::results::Metrics;
use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::{
    fs::{self, File},
    path::Path,
    process::{self, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// How often a running command is looked at.
const TICK: Duration = Duration::from_millis(20);

/// A command with places for the model and the point's name.
#[derive(Debug, Clone)]
pub(super) struct Command(Vec<String>);

impl Command {
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let words = shlex::split(text).with_context(|| format!("`--eval {text}`: a quote is not closed"))?;
        ensure!(!words.is_empty(), "`--eval` must be a command");
        ensure!(
            words.iter().any(|word| word.contains("{model}")),
            "`--eval {text}` must contain {{model}}, where the merged folder is put"
        );
        Ok(Self(words))
    }

    /// Runs the command with its output in `logs.out` and `logs.err`; a number instead of an object is called `number`.
    pub(super) fn run(
        &self,
        model: &Path,
        name: &str,
        logs: &Path,
        timeout: Option<Duration>,
        stop: &AtomicBool,
        number: &str,
    ) -> anyhow::Result<Metrics> {
        let model = std::path::absolute(model)?.display().to_string();
        let words: Vec<String> =
            self.0.iter().map(|word| word.replace("{model}", &model).replace("{name}", name)).collect();
        let Some((program, arguments)) = words.split_first() else { bail!("`--eval` must be a command") };
        let log = |end: &str| -> anyhow::Result<(std::path::PathBuf, File)> {
            let mut path = logs.as_os_str().to_owned();
            path.push(end);
            let file = File::create(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
            Ok((path.into(), file))
        };
        let ((out, stdout), (err, stderr)) = (log(".out")?, log(".err")?);
        let child = process::Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn();
        let mut child = child.with_context(|| format!("cannot start `{program}`"))?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().context("cannot wait for the command")? {
                break status;
            }
            let late = timeout.is_some_and(|limit| started.elapsed() >= limit);
            if late || stop.load(Ordering::Relaxed) {
                drop(child.kill());
                drop(child.wait());
                bail!(if late { "the command took longer than `--timeout`" } else { "interrupted" });
            }
            thread::sleep(TICK);
        };
        if !status.success() {
            bail!("the command failed ({status}); it said: {}", last_line(&err));
        }
        metrics(&last_line(&out), number)
    }
}

/// The last line with text; a log that cannot be read has none.
fn last_line(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

/// Reads a number, or the numbers of a JSON object; those of objects within have the names `outer.inner`.
fn metrics(line: &str, number: &str) -> anyhow::Result<Metrics> {
    let wrong = || {
        format!(
            "the last line of the command's output must be a JSON object of metrics or a number, but is `{line}`"
        )
    };
    if let Ok(value) = line.parse::<f64>() {
        ensure!(value.is_finite(), "the metric is {value}");
        return Ok(Metrics::from([(number.to_owned(), value)]));
    }
    let value: Value = serde_json::from_str(line).ok().with_context(wrong)?;
    let mut found = Metrics::new();
    gather("", &value, &mut found);
    ensure!(value.is_object() && !found.is_empty(), wrong());
    Ok(found)
}

fn gather(name: &str, value: &Value, found: &mut Metrics) {
    match value {
        Value::Number(number) => found.extend(number.as_f64().map(|x| (name.to_owned(), x))),
        Value::Object(entries) => {
            let dot = if name.is_empty() { "" } else { "." };
            entries.iter().for_each(|(key, value)| gather(&format!("{name}{dot}{key}"), value, found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_an_object_is_read() {
        assert_eq!(metrics("0.5", "score").unwrap(), Metrics::from([("score".to_owned(), 0.5)]));
        let found = metrics(r#"{"acc": 1, "tasks": {"a": 0.25}, "note": "x"}"#, "score").unwrap();
        let expected = [("acc".to_owned(), 1.0), ("tasks.a".to_owned(), 0.25)];
        assert_eq!(found, Metrics::from(expected));
        for line in ["", "done", "[1]", "{}", "nan"] {
            assert!(metrics(line, "score").is_err(), "{line}");
        }
    }

    #[test]
    fn commands_are_split_as_a_shell_does_and_need_the_model() {
        let command = Command::parse("python 'my eval.py' --dir={model}").unwrap();
        assert_eq!(command.0, ["python", "my eval.py", "--dir={model}"]);
        assert!(Command::parse("python eval.py").is_err() && Command::parse("a '{model}").is_err());
    }
}
