//! Whether a folder holds a libtorch that builds and loads.

use crate::platform::VERSION;
use crate::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs tried as C++ compiler, besides the one that `CXX` names.
const COMPILERS: [&str; 3] = ["c++", "g++", "clang++"];

// A C++ program is the load test because it needs nothing that the build of tch does not need as well (Python
// may be absent when libtorch is the user's own or cached), and because it tries the compiler, the headers,
// the linker and the loader in half a second, before cargo spends minutes on the same.
const LOAD_TEST: &str = r#"#if __has_include(<torch/headeronly/version.h>)
#include <torch/headeronly/version.h>
#else
#include <torch/csrc/api/include/torch/version.h>
#endif
#include <c10/util/Exception.h>
#include <string>
namespace at { int get_num_threads(); }
int main() { return at::get_num_threads() > 0 && std::string(TORCH_VERSION).size() > 0 ? 0 : 1; }
"#;

/// Checks files and version of the libtorch in `dir`, then builds and runs a small program with it.
///
/// `what` names the folder in errors, `remedy` is the next step if it is at fault, and `scratch` an existing
/// folder for the program.
pub(crate) fn verify(dir: &Path, what: &str, remedy: &str, scratch: &Path) -> Result<()> {
    files(dir, what, remedy)?;
    let found = version(dir).unwrap_or_else(|| "an unknown version".to_owned());
    if found != VERSION {
        let message = format!("{what} holds libtorch {found}, expected {VERSION}");
        return Err(Error::new(message, remedy));
    }
    load_test(dir, what, remedy, scratch)
}

fn files(dir: &Path, what: &str, remedy: &str) -> Result<()> {
    let suffix = if cfg!(target_os = "macos") { "dylib" } else { "so" };
    let libraries = ["torch_cpu", "torch", "c10"].map(|name| format!("lib/lib{name}.{suffix}"));
    let header = "include/torch/csrc/api/include/torch/torch.h".to_owned();
    for file in libraries.iter().chain([&header]) {
        if !dir.join(file).is_file() {
            return Err(Error::new(format!("{what} has no `{file}`"), remedy));
        }
    }
    Ok(())
}

/// The version in the headers, or where older packages write it down.
pub(crate) fn version(dir: &Path) -> Option<String> {
    let read = |file: &str| fs::read_to_string(dir.join(file)).ok();
    let headers = ["include/torch/headeronly/version.h", "include/torch/csrc/api/include/torch/version.h"];
    headers
        .iter()
        .find_map(|file| header_version(&read(file)?))
        .or_else(|| Some(bare(read("build-version")?.trim()).to_owned()))
        .or_else(|| python_version(&read("version.py")?))
}

fn header_version(text: &str) -> Option<String> {
    let number = |part: &str| {
        let start = format!("#define TORCH_VERSION_{part} ");
        text.lines().find_map(|line| line.strip_prefix(&start)?.trim().parse::<u32>().ok())
    };
    Some(format!("{}.{}.{}", number("MAJOR")?, number("MINOR")?, number("PATCH")?))
}

fn python_version(text: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
    Some(bare(value.trim().trim_matches(['\'', '"'])).to_owned())
}

/// `2.11.0` of `2.11.0+cpu`.
fn bare(version: &str) -> &str {
    version.split_once('+').map_or(version, |(bare, _)| bare)
}

/// The C++ compiler that the build of tch will use, as program and arguments.
pub(crate) fn compiler() -> Result<Vec<String>> {
    choose_compiler(std::env::var("CXX").ok().as_deref(), |name| find_program(name).is_some())
}

fn choose_compiler(cxx: Option<&str>, exists: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let install = if cfg!(target_os = "macos") {
        "install one with `xcode-select --install`"
    } else {
        "install one, e.g. `apt install g++` or `dnf install gcc-c++`, or set CXX to yours"
    };
    let words: Vec<String> = cxx.unwrap_or("").split_whitespace().map(str::to_owned).collect();
    if let Some(program) = words.first() {
        if exists(program) {
            return Ok(words);
        }
        let message = format!("the C++ compiler `{program}` that CXX names was not found");
        return Err(Error::new(message, format!("correct or unset CXX; {install}")));
    }
    match COMPILERS.into_iter().find(|name| exists(name)) {
        Some("c++") => Ok(vec!["c++".to_owned()]),
        // Builds of C++ code under cargo look for `c++` alone.
        Some(other) => Err(Error::new(
            format!("there is a C++ compiler `{other}`, but none named `c++`, which cargo builds look for"),
            format!("run `export CXX={other}`"),
        )),
        None => Err(Error::new(
            "no C++ compiler found (tried c++, g++, clang++), and tch needs one to build",
            install,
        )),
    }
}

/// The full path of a program: `name` itself when it has a folder, else the first on `PATH`.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

fn load_test(dir: &Path, what: &str, remedy: &str, scratch: &Path) -> Result<()> {
    let compiler = compiler()?;
    let source = scratch.join("load_test.cpp");
    let program = scratch.join("load_test");
    fs::write(&source, LOAD_TEST).map_err(|error| Error::io("write", &source, &error))?;
    let lib = dir.join("lib");
    let mut compile = Command::new(&compiler[0]);
    compile.args(&compiler[1..]).arg("-std=c++17").arg("-I").arg(dir.join("include")).arg(&source);
    compile.arg("-o").arg(&program).arg("-L").arg(&lib).arg(format!("-Wl,-rpath,{}", lib.display()));
    compile.args(["-ltorch_cpu", "-lc10"]);
    run(&mut compile).map_err(|output| {
        Error::new(
            format!("`{}` cannot build a program with {what}:\n{output}", compiler[0]),
            format!("if the compiler is at fault, set CXX to one that knows C++17; else {remedy}"),
        )
    })?;
    run(&mut Command::new(&program))
        .map_err(|output| Error::new(format!("the libraries of {what} do not load:\n{output}"), remedy))
}

/// Runs a command; on failure returns the end of what it printed.
fn run(command: &mut Command) -> std::result::Result<(), String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Err(format!("{}\n  ({})", last_lines(&String::from_utf8_lossy(&text), 6), output.status))
        }
        Err(error) => Err(format!("  {error}")),
    }
}

/// The last lines that are not blank, indented and cut to a readable length.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    const LONGEST: usize = 240;
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let kept = lines.get(lines.len().saturating_sub(count)..).unwrap_or_default();
    let cut = |line: &&str| match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("  {}…", &line[..end]),
        None => format!("  {line}"),
    };
    kept.iter().map(cut).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_every_place() {
        let header = "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 11\n/// x\n#define TORCH_VERSION_PATCH 0\n";
        assert_eq!(header_version(header).as_deref(), Some("2.11.0"));
        assert_eq!(header_version("#define TORCH_VERSION_MAJOR 2\n"), None);
        assert_eq!(python_version("x = 1\n__version__ = '2.9.1+cu130'\n").as_deref(), Some("2.9.1"));
        assert_eq!(bare("2.11.0+cpu"), "2.11.0");
    }

    #[test]
    fn a_folder_without_libraries_is_named() {
        let error = verify(Path::new("/nonexistent"), "`LIBTORCH`", "unset it", Path::new("/")).unwrap_err();
        assert!(error.message().starts_with("`LIBTORCH` has no `lib/libtorch_cpu."), "{error}");
    }

    #[test]
    fn the_compiler_is_what_a_cargo_build_would_use() {
        let all = |_: &str| true;
        assert_eq!(choose_compiler(None, all), Ok(vec!["c++".to_owned()]));
        assert_eq!(choose_compiler(Some("ccache g++"), all), Ok(vec!["ccache".to_owned(), "g++".to_owned()]));
        let only_clang = choose_compiler(None, |name| name == "clang++").unwrap_err().to_string();
        assert!(only_clang.contains("hint: run `export CXX=clang++`"), "{only_clang}");
        let none = choose_compiler(None, |_| false).unwrap_err();
        assert!(none.message().starts_with("no C++ compiler found"), "{none}");
        let wrong = choose_compiler(Some("g++-99"), |_| false).unwrap_err();
        assert!(wrong.message().contains("`g++-99` that CXX names"), "{wrong}");
    }

    #[test]
    fn the_end_of_an_output_is_quoted() {
        assert_eq!(last_lines("a\n\nb \nc\n", 2), "  b\n  c");
        assert_eq!(last_lines("", 2), "");
        assert_eq!(last_lines(&"é".repeat(300), 1), format!("  {}…", "é".repeat(240)));
    }
}
