//! Keeps the output away from the inputs.
use super::super::inputs::Opened;
use crate::{Error, Result};
use std::{
    ffi::OsString,
    path::{Component, Path, PathBuf},
};

/// Refuses an output that is an input, lies in an input's folder, or holds an input.
///
/// # Errors
///
/// [`Error::OutputOverInput`].
pub(super) fn check(opened: &[Opened<'_>], out: &Path) -> Result<()> {
    let out = real(out);
    for model in opened {
        for root in &model.roots {
            if out.starts_with(root) || root.starts_with(&out) {
                return Err(Error::OutputOverInput {
                    out: out.display().to_string(),
                    model: model.name.clone(),
                });
            }
        }
    }
    Ok(())
}

/// The path without links, `.` and `..`, whether it exists or not.
pub(super) fn real(path: &Path) -> PathBuf {
    let mut known = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut rest: Vec<OsString> = Vec::new();
    loop {
        if let Ok(mut found) = known.canonicalize() {
            for part in rest.iter().rev() {
                if part == ".." {
                    found.pop();
                } else {
                    found.push(part);
                }
            }
            return found;
        }
        match known.components().next_back() {
            Some(Component::Normal(name)) => rest.push(name.to_owned()),
            Some(Component::ParentDir) => rest.push("..".into()),
            _ => return path.to_owned(),
        }
        if !known.pop() {
            return path.to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_do_not_exist_yet_are_resolved_as_far_as_they_do() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().canonicalize().unwrap();
        std::fs::create_dir(home.join("a")).unwrap();
        assert_eq!(real(&home.join("a/../b/./c/../d")), home.join("b/d"));
        assert_eq!(real(&home.join("new/../a/x")), home.join("a/x"));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(home.join("a"), home.join("link")).unwrap();
            assert_eq!(real(&home.join("link/x")), home.join("a/x"));
        }
    }
}
