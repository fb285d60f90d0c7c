//! Finite regular expressions as the list of their strings.
use regex_syntax::hir::{Class, Hir, HirKind};

const MOST: usize = 1000;

/// All strings that a finite regular expression matches, in the order of its parts.
///
/// ```
/// use mtl_bench::formats::tasksource::expand_pattern;
///
/// assert_eq!(expand_pattern(r"option\_[0-2]").unwrap(), ["option_0", "option_1", "option_2"]);
/// assert!(expand_pattern("a*").unwrap_err().contains("infinitely many"));
/// ```
///
/// # Errors
///
/// A message when it does not parse, matches infinitely many strings or more than 1000, or looks at its surroundings.
pub fn expand_pattern(pattern: &str) -> Result<Vec<String>, String> {
    // Python escapes the underscore, which needs no escape.
    let hir = regex_syntax::parse(&pattern.replace("\\_", "_"))
        .map_err(|e| e.to_string().split_whitespace().collect::<Vec<_>>().join(" "))?;
    expand(&hir)
}

fn expand(hir: &Hir) -> Result<Vec<String>, String> {
    let too_many = || format!("matches more than {MOST} strings");
    match hir.kind() {
        HirKind::Empty => Ok(vec![String::new()]),
        HirKind::Literal(literal) => Ok(vec![
            String::from_utf8(literal.0.to_vec())
                .map_err(|_| "matches bytes that are not UTF-8".to_owned())?,
        ]),
        HirKind::Class(Class::Unicode(class)) => {
            let characters = class.iter().flat_map(|r| r.start()..=r.end());
            let found: Vec<String> = characters.take(MOST + 1).map(String::from).collect();
            if found.len() > MOST { Err(too_many()) } else { Ok(found) }
        }
        HirKind::Class(Class::Bytes(_)) => Err("matches bytes".into()),
        HirKind::Look(_) => Err("looks at its surroundings".into()),
        HirKind::Capture(capture) => expand(&capture.sub),
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(expand(part)?);
            }
            if all.len() > MOST { Err(too_many()) } else { Ok(all) }
        }
        HirKind::Concat(parts) => {
            let mut all = vec![String::new()];
            for part in parts {
                all = product(&all, &expand(part)?)?;
            }
            Ok(all)
        }
        HirKind::Repetition(repetition) => {
            let max = repetition.max.ok_or("matches infinitely many strings")?;
            let once = expand(&repetition.sub)?;
            let mut power = vec![String::new()];
            let mut all = if repetition.min == 0 { power.clone() } else { Vec::new() };
            for times in 1..=max {
                power = product(&power, &once)?;
                if times >= repetition.min {
                    all.extend(power.iter().cloned());
                }
                if all.len() > MOST || times as usize > MOST {
                    return Err(too_many());
                }
            }
            Ok(all)
        }
    }
}

fn product(left: &[String], right: &[String]) -> Result<Vec<String>, String> {
    if left.len().saturating_mul(right.len()) > MOST {
        return Err(format!("matches more than {MOST} strings"));
    }
    Ok(left.iter().flat_map(|l| right.iter().map(move |r| format!("{l}{r}"))).collect())
}
