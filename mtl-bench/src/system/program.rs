//! A program that answers on its standard output.
use super::{Request, System};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A program that reads one JSON object per line and writes one per line.
///
/// A request is `{"id": …, "messages": [{"role": "user", "content": …}], …}`, with `"choices": […]` when log-probabilities
/// are asked for. The answer is `{"response": "…"}`, or `{"scores": […]}` with one number per choice. Its standard error is
/// passed on. One request is in flight at a time, so the program need not read ahead.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

#[derive(Serialize)]
struct Question<'a> {
    #[serde(flatten)]
    request: &'a Request,
    #[serde(skip_serializing_if = "Option::is_none")]
    choices: Option<&'a [String]>,
}

#[derive(Deserialize)]
struct Answer {
    response: Option<String>,
    scores: Option<Vec<f64>>,
}

impl Program {
    /// Starts a program.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when it cannot be started.
    pub fn start(program: &str, arguments: &[String]) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let failed = |message: String| Error::System { system: program.to_owned(), message };
        let mut child = command.spawn().map_err(|e| failed(format!("cannot be started: {e}")))?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or_else(|| failed("has no standard output".into()))?;
        Ok(Self { name: program.to_owned(), child, input, output: BufReader::new(output) })
    }

    /// Sets the name in records.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    fn failed(&self, message: String) -> Error {
        Error::System { system: self.name.clone(), message }
    }

    fn ask(&mut self, question: &Question<'_>) -> Result<Answer> {
        let id = &question.request.id;
        let mut line = serde_json::to_string(question).map_err(|e| self.failed(e.to_string()))?;
        line.push('\n');
        let sent = match &mut self.input {
            Some(input) => input.write_all(line.as_bytes()).and_then(|()| input.flush()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        sent.map_err(|e| self.failed(format!("does not take the question `{id}`: {e}")))?;
        let mut line = String::new();
        let read = self.output.read_line(&mut line);
        match read {
            Ok(0) => Err(self.failed(format!("ended before it answered `{id}`"))),
            Ok(_) => serde_json::from_str(&line)
                .map_err(|e| self.failed(format!("answered `{id}` with something else than an answer: {e}"))),
            Err(e) => Err(self.failed(format!("gave no readable answer to `{id}`: {e}"))),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The end of its input asks it to go; one that stays is ended.
        drop(self.input.take());
        for _ in 0..50 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl System for Program {
    fn name(&self) -> &str {
        &self.name
    }

    fn respond(&mut self, requests: &[Request]) -> Result<Vec<String>> {
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            let answer = self.ask(&Question { request, choices: None })?;
            let missing = || self.failed(format!("answered `{}` without a `response`", request.id));
            answers.push(answer.response.ok_or_else(missing)?);
        }
        Ok(answers)
    }

    fn score(&mut self, request: &Request, choices: &[String]) -> Result<Vec<f64>> {
        let scores = self.ask(&Question { request, choices: Some(choices) })?.scores.unwrap_or_default();
        if scores.len() != choices.len() || scores.iter().any(|s| s.is_nan()) {
            return Err(self.failed(format!(
                "must give one number for each of the {} choices of `{}`, but gave {scores:?}",
                choices.len(),
                request.id
            )));
        }
        Ok(scores)
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program::start("sh", &["-c".to_owned(), script.to_owned()]).unwrap().named("script")
    }

    #[test]
    fn a_program_answers_line_by_line() {
        let mut echo =
            shell("while read line; do echo '{\"response\": \"yes\", \"scores\": [-1, -2]}'; done");
        let requests = [Request::new("a", "one\ntwo"), Request::new("b", "")];
        assert_eq!(echo.respond(&requests).unwrap(), ["yes", "yes"]);
        assert_eq!(echo.score(&requests[0], &["x".into(), "y".into()]).unwrap(), [-1.0, -2.0]);
        let error = echo.score(&requests[0], &["x".into()]).unwrap_err().to_string();
        assert!(error.contains("each of the 1 choices of `a`"), "{error}");
    }

    #[test]
    fn failures_name_the_question() {
        let error = |script: &str| shell(script).respond(&[Request::new("q", "")]).unwrap_err().to_string();
        let ended = error("read line; exit 0");
        assert_eq!(ended, "system `script`: ended before it answered `q`");
        assert!(error("read line; echo yes").contains("answered `q` with something else"));
        assert!(error("read line; echo '{}'").contains("without a `response`"));
        assert!(
            Program::start("no-such-program", &[]).unwrap_err().to_string().contains("cannot be started")
        );
    }
}
