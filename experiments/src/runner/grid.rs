//! Study grids: TOML to cells.
//!
//! ```toml
//! seeds = [0, 1, 2]
//! [defaults]                    # keys of every cell
//! steps = 400
//! [kinds.train]                 # keys of every cell of this kind; they win over the defaults
//! lr = 0.1
//! [prerequisites.backbone]      # a cell of its own, one per seed, shared by all that need it
//! kind = "pretrain"
//! inherit = ["data"]            # keys copied from the cell that needs it, hence one per value of `data`
//! [[grid]]
//! kind = "train"
//! data = ["digits", "letters"]  # an array directly in a [[grid]] table spans the product, the first key slowest
//! widths = { list = [64, 64] }  # a literal list; arrays nested any deeper are literal as well
//! needs = ["backbone"]
//! first_seeds = 2               # only the first two seeds
//! ```
use super::{
    cell::{Cell, Scope},
    overrides::{self, Overrides},
    source::{Keys, Source},
};
use mtl_core::{Result, Seed};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// More cells than any table can show; a grid above it is a mistake.
pub const MAX_CELLS: usize = 100_000;

/// A parsed grid file with the command line's overrides applied.
#[derive(Debug)]
pub struct Grid {
    source: Source,
    seeds: Vec<u64>,
    overrides: Overrides,
}

impl Grid {
    /// Parses `text`, called `name` in messages, and applies `overrides`.
    ///
    /// # Errors
    ///
    /// [`Error::Format`](mtl_core::Error::Format) with the line for what is not a grid, or
    /// [`Error::Unknown`](mtl_core::Error::Unknown) for an override that fits nothing.
    pub fn parse(name: &str, text: &str, overrides: &Overrides) -> Result<Self> {
        let mut source = Source::parse(name, text)?;
        for set in &overrides.set {
            overrides::apply(&mut source, set)?;
        }
        let seeds = match &overrides.seeds {
            Some(seeds) => seeds.clone(),
            None => source.seeds.clone(),
        };
        check_seeds(&source, &seeds)?;
        Ok(Self { source, seeds, overrides: overrides.clone() })
    }

    /// Seeds, in the order of the file or the command line.
    pub fn seeds(&self) -> &[u64] {
        &self.seeds
    }

    /// All cells in the order of the grid, each prerequisite before the first cell that needs it.
    ///
    /// # Errors
    ///
    /// [`Error::Format`](mtl_core::Error::Format) for duplicate cells, unknown or cyclic prerequisites and grids above
    /// [`MAX_CELLS`]; [`Error::Unknown`](mtl_core::Error::Unknown) for an `--only` filter that selects nothing.
    pub fn cells(&self, scope: &Scope) -> Result<Vec<Cell>> {
        check_prerequisites(&self.source)?;
        let mut resolver = Resolver { grid: self, scope, index: BTreeMap::new(), cells: Vec::new() };
        let mut lines: BTreeMap<String, usize> = BTreeMap::new();
        let mut all: Vec<Cell> = Vec::new();
        for point in &self.points()? {
            for &seed in self.seeds.iter().take(point.first_seeds) {
                let cell = resolver.resolve(point, seed)?;
                if let Some(line) = lines.insert(cell.id().to_owned(), point.line) {
                    let message = format!("the cell `{}` is listed twice, also in line {line}", cell.label());
                    return Err(self.source.error(point.line, message));
                }
                all.push(cell);
            }
        }
        self.overrides.check_filters(&all)?;
        self.source.check_kinds(resolver.cells.iter().chain(&all).map(Cell::kind))?;
        if resolver.cells.is_empty() {
            return Err(self.source.error(1, "the grid has no cell; add a [[grid]] table"));
        }
        Ok(resolver.cells)
    }

    /// The points of all `[[grid]]` tables, without seeds.
    fn points(&self) -> Result<Vec<Point>> {
        let spans = |keys: &Keys| {
            keys.choices().map(|(_, values)| values.len()).try_fold(1_usize, usize::checked_mul)
        };
        let mut total = 0_usize;
        for keys in &self.source.grid {
            let seeds = self.seeds.len().min(keys.first_seeds.unwrap_or(usize::MAX));
            let size = spans(keys).and_then(|n| n.checked_mul(seeds));
            total = size.and_then(|n| total.checked_add(n)).unwrap_or(usize::MAX);
            if total > MAX_CELLS {
                let message =
                    format!("the grid spans more than {MAX_CELLS} cells; split it into several studies");
                return Err(self.source.error(keys.line, message));
            }
        }
        let tables = self.source.grid.iter().map(|keys| Point::product(&self.source, keys));
        Ok(tables.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }
}

fn check_seeds(source: &Source, seeds: &[u64]) -> Result<()> {
    if seeds.is_empty() {
        return Err(source.error(source.seeds_line, "`seeds` must list at least one seed"));
    }
    let mut seen = BTreeSet::new();
    match seeds.iter().find(|&&seed| !seen.insert(seed)) {
        Some(seed) => Err(source.error(source.seeds_line, format!("`seeds` lists {seed} twice"))),
        None => Ok(()),
    }
}

/// One combination of the values of a table, before defaults.
#[derive(Debug, Clone)]
struct Point {
    line: usize,
    kind: String,
    needs: Vec<String>,
    /// How many of the study's seeds it runs with.
    first_seeds: usize,
    config: Map<String, Value>,
    lines: BTreeMap<String, usize>,
}

impl Point {
    /// The cartesian product of the table's arrays, the first key slowest.
    fn product(source: &Source, keys: &Keys) -> Result<Vec<Self>> {
        let mut combinations: Vec<Map<String, Value>> = vec![Map::new()];
        for (key, choices) in keys.choices() {
            combinations = combinations
                .iter()
                .flat_map(|combination| {
                    choices.iter().map(move |choice| {
                        let mut next = combination.clone();
                        next.insert(key.clone(), choice.clone());
                        next
                    })
                })
                .collect();
        }
        combinations.into_iter().map(|config| Self::new(source, keys, config)).collect()
    }

    /// Adds the defaults and takes `kind` out of the keys.
    fn new(source: &Source, keys: &Keys, mut own: Map<String, Value>) -> Result<Self> {
        let kind = match own.remove("kind") {
            Some(Value::String(kind)) if !kind.is_empty() => kind,
            Some(other) => {
                return Err(
                    source.error(keys.line_of("kind"), format!("`kind` must be a name, but is {other}"))
                );
            }
            None => return Err(source.error(keys.line, "the table has no `kind`")),
        };
        let mut config = Map::new();
        let mut lines = BTreeMap::new();
        for layer in [Some(&source.defaults), source.kinds.get(&kind)].into_iter().flatten() {
            for (key, value) in layer.literals() {
                lines.insert(key.clone(), layer.line_of(key));
                config.insert(key.clone(), value.clone());
            }
        }
        for (key, value) in own {
            lines.insert(key.clone(), keys.line_of(&key));
            config.insert(key, value);
        }
        let first_seeds = keys.first_seeds.unwrap_or(usize::MAX);
        Ok(Self { line: keys.line, kind, needs: keys.needs.clone(), first_seeds, config, lines })
    }
}

/// Turns points into cells, prerequisites first, each once.
struct Resolver<'a> {
    grid: &'a Grid,
    scope: &'a Scope,
    index: BTreeMap<String, usize>,
    cells: Vec<Cell>,
}

impl Resolver<'_> {
    /// Resolves `point` for `seed` and, where the filters select it, schedules it after its prerequisites.
    fn resolve(&mut self, point: &Point, seed: u64) -> Result<Cell> {
        let mut chain = Vec::new();
        let cell = self.build(point, seed, &mut chain)?;
        if !self.grid.overrides.selects(&cell) {
            return Ok(cell);
        }
        for link in chain {
            let next = self.cells.len();
            if *self.index.entry(link.id().to_owned()).or_insert(next) == next {
                self.cells.push(link);
            }
        }
        if let Some(&at) = self.index.get(cell.id()) {
            self.cells[at].listed = true;
        }
        if self.cells.len() > MAX_CELLS {
            let message = format!("with prerequisites the grid has more than {MAX_CELLS} cells");
            return Err(self.grid.source.error(point.line, message));
        }
        Ok(cell)
    }

    /// The cell of `point`; appends its prerequisites and then itself to `chain`.
    fn build(&self, point: &Point, seed: u64, chain: &mut Vec<Cell>) -> Result<Cell> {
        let mut needs = BTreeMap::new();
        for name in &point.needs {
            let needed = self.prerequisite(name, point)?;
            needs.insert(name.clone(), self.build(&needed, seed, chain)?.id().to_owned());
        }
        let mut cell = Cell::new(self.scope, point.kind.clone(), Seed(seed), point.config.clone(), needs);
        cell.lines = point.lines.clone();
        chain.push(cell.clone());
        Ok(cell)
    }

    /// The prerequisite `name` as `user` needs it, with the keys it inherits.
    fn prerequisite(&self, name: &str, user: &Point) -> Result<Point> {
        let source = &self.grid.source;
        let keys = source.prerequisite(name, user.line)?;
        let mut own: Map<String, Value> = keys.literals().map(|(k, v)| (k.clone(), v.clone())).collect();
        for key in &keys.inherit {
            let Some(value) = user.config.get(key) else {
                let message =
                    format!("prerequisite `{name}` inherits `{key}`, which the cell that needs it lacks");
                return Err(source.error(user.line, message));
            };
            own.insert(key.clone(), value.clone());
        }
        Point::new(source, keys, own)
    }
}

/// Refuses prerequisites that need each other in a circle or do not exist.
fn check_prerequisites(source: &Source) -> Result<()> {
    fn visit<'a>(source: &'a Source, name: &'a str, line: usize, path: &mut Vec<&'a str>) -> Result<()> {
        let keys = source.prerequisite(name, line)?;
        if path.contains(&name) {
            let circle = format!("{} → {name}", path.join(" → "));
            return Err(
                source.error(keys.line, format!("prerequisites need each other in a circle: {circle}"))
            );
        }
        path.push(name);
        for next in &keys.needs {
            visit(source, next, keys.line, path)?;
        }
        path.pop();
        Ok(())
    }
    source.prerequisites.iter().try_for_each(|(name, keys)| visit(source, name, keys.line, &mut Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope { study: "s".into(), code: "0.1.0+r1".into(), data: String::new(), threads: 1 }
    }

    fn cells_with(text: &str, overrides: &Overrides) -> Result<Vec<Cell>> {
        Grid::parse("s.toml", text, overrides)?.cells(&scope())
    }

    fn labels(text: &str) -> Vec<String> {
        cells_with(text, &Overrides::default()).unwrap().iter().map(Cell::label).collect()
    }

    fn refusal(text: &str) -> String {
        cells_with(text, &Overrides::default()).unwrap_err().to_string()
    }

    const BASE: &str = "seeds = [0, 1]\n[defaults]\nsteps = 4\n[kinds.train]\nlr = 0.5\n\
        [prerequisites.data]\nkind = 'data'\n[[grid]]\nkind = 'train'\nmethod = ['a', 'b']\nneeds = ['data']\n";

    #[test]
    fn arrays_span_the_product_and_prerequisites_come_first() {
        insta::assert_snapshot!(labels(BASE).join("\n"), @r"
        data steps=4 seed=0
        train lr=0.5 method=a steps=4 seed=0
        data steps=4 seed=1
        train lr=0.5 method=a steps=4 seed=1
        train lr=0.5 method=b steps=4 seed=0
        train lr=0.5 method=b steps=4 seed=1
        ");
    }

    #[test]
    fn the_first_key_varies_slowest_and_literal_lists_do_not_span() {
        let text = "seeds = [7]\n[[grid]]\nkind = 'k'\nz = [1, 2]\na = ['x', 'y']\nw = { list = [1, 2] }\n";
        insta::assert_snapshot!(labels(text).join("\n"), @r"
        k a=x z=1 seed=7
        k a=y z=1 seed=7
        k a=x z=2 seed=7
        k a=y z=2 seed=7
        ");
        let cells = cells_with(text, &Overrides::default()).unwrap();
        assert_eq!(cells[0].keys()["w"], serde_json::json!([1, 2]));
    }

    #[test]
    fn a_table_may_do_with_the_first_seeds() {
        let text = "seeds = [3, 1, 2]\n[[grid]]\nkind = 'k'\nfirst_seeds = 2\n[[grid]]\nkind = 'l'\n";
        assert_eq!(labels(text), ["k seed=3", "k seed=1", "l seed=3", "l seed=1", "l seed=2"]);
        let text = "seeds = [0]\n[[grid]]\nkind = 'k'\nfirst_seeds = 0\n";
        insta::assert_snapshot!(refusal(text), @"`s.toml`: line 4: `first_seeds` must be a number of at least 1");
    }

    #[test]
    fn a_prerequisite_that_inherits_is_made_once_per_value() {
        let text = "seeds = [0]\n[prerequisites.p]\nkind = 'p'\ninherit = ['data']\n[[grid]]\nkind = 't'\n\
            data = ['x', 'y']\nlr = [1, 2]\nneeds = ['p']\n";
        let labels = labels(text);
        assert_eq!(labels.iter().filter(|l| l.starts_with("p ")).count(), 2, "{labels:?}");
        assert_eq!(labels.len(), 6);
    }

    #[test]
    fn mistakes_are_refused_with_the_line_and_a_suggestion() {
        let cases = [
            ("seds = [0]\n", "unknown top-level key"),
            ("seeds = []\n[[grid]]\nkind = 'k'\n", "no seed"),
            ("seeds = [0, 1, 0]\n[[grid]]\nkind = 'k'\n", "seed twice"),
            ("seeds = [-1]\n[[grid]]\nkind = 'k'\n", "negative seed"),
            ("seeds = 3\n[[grid]]\nkind = 'k'\n", "seeds of the wrong type"),
            ("seeds = [0]\n", "no cell"),
            ("seeds = [0]\n[[grid]]\na = 1\n", "no kind"),
            ("seeds = [0]\n[[grid]]\nkind = 3\n", "kind of the wrong type"),
            ("seeds = [0]\n[[grid]]\nkind = 'k'\na = []\n", "empty span"),
            ("seeds = [0]\n[[grid]]\nkind = 'k'\na = [1, 1]\n", "duplicate cell"),
            ("seeds = [0]\n[defaults]\na = [1]\n[[grid]]\nkind = 'k'\n", "span in the defaults"),
            ("seeds = [0]\n[[grid]]\nkind = 'k'\na = 1e400\n", "infinite number"),
            ("seeds = [0]\n[[grid]]\nkind = 'k'\na = 2020-01-01\n", "date"),
            ("seeds = [0]\n[[grid]]\nkind = 'k'\na = 99999999999999999999\n", "large integer"),
            (
                "seeds = [0]\n[[grid]]\nkind = 'k'\nneeds = ['bakcbone']\n[prerequisites.backbone]\nkind = 'b'\n",
                "unknown need",
            ),
            (
                "seeds = [0]\n[prerequisites.a]\nkind = 'k'\nneeds = ['b']\n[prerequisites.b]\nkind = 'k'\nneeds = ['a']\n[[grid]]\nkind = 'k'\n",
                "circle",
            ),
            ("seeds = [0]\n[kinds.tain]\na = 1\n[[grid]]\nkind = 'train'\n", "kind of no cell"),
            ("seeds = [0]\n[[grid]]\nkind = 'k'\nkind = 'l'\n", "key twice"),
        ];
        let shown: Vec<String> =
            cases.iter().map(|(text, what)| format!("{what}: {}", refusal(text))).collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
        unknown top-level key: `s.toml`: line 1: unknown field `seds`, expected one of `seeds`, `defaults`, `kinds`, `prerequisites`, `grid`; did you mean `seeds`?
        no seed: `s.toml`: line 1: `seeds` must list at least one seed
        seed twice: `s.toml`: line 1: `seeds` lists 0 twice
        negative seed: `s.toml`: line 1: invalid value: integer `-1`, expected u64
        seeds of the wrong type: `s.toml`: line 1: invalid type: integer `3`, expected a sequence
        no cell: `s.toml`: line 1: the grid has no cell; add a [[grid]] table
        no kind: `s.toml`: line 2: the table has no `kind`
        kind of the wrong type: `s.toml`: line 3: `kind` must be a name, but is 3
        empty span: `s.toml`: line 4: `a` must list at least one value
        duplicate cell: `s.toml`: line 2: the cell `k a=1 seed=0` is listed twice, also in line 2
        span in the defaults: `s.toml`: line 3: `a` is an array, which spans the grid only in a [[grid]] table; write `{ list = [...] }` for a literal list
        infinite number: `s.toml`: line 4: floating-point number overflowed
        date: `s.toml`: line 4: `a` is the date 2020-01-01; write it in quotes
        large integer: `s.toml`: line 4: invalid type: integer `99999999999999999999` as i128, expected any valid TOML value
        unknown need: `s.toml`: line 2: unknown prerequisite `bakcbone`; did you mean `backbone`?
        circle: `s.toml`: line 2: prerequisites need each other in a circle: a → b → a
        kind of no cell: `s.toml`: line 2: [kinds.tain] fits no cell: unknown kind `tain`; did you mean `train`?
        key twice: `s.toml`: line 4: duplicate key
        ");
    }

    #[test]
    fn a_grid_too_large_to_be_meant_is_refused_before_it_is_built() {
        let keys: String = (0..40).map(|i| format!("k{i} = [1, 2, 3, 4]\n")).collect();
        let text = format!("seeds = [0]\n[[grid]]\nkind = 'k'\n{keys}");
        insta::assert_snapshot!(refusal(&text), @"`s.toml`: line 2: the grid spans more than 100000 cells; split it into several studies");
        let deep = format!("seeds = [0]\n[[grid]]\nkind = 'k'\na = {}\n", "[".repeat(10_000));
        assert!(refusal(&deep).starts_with("`s.toml`: line 4"));
    }

    #[test]
    fn a_byte_order_mark_and_windows_line_ends_change_nothing() {
        let windows = format!("\u{feff}{}", BASE.replace('\n', "\r\n"));
        let ids = |text| -> Vec<String> {
            let cells = cells_with(text, &Overrides::default()).unwrap();
            cells.iter().map(|c| c.id().to_owned()).collect()
        };
        assert_eq!(ids(BASE), ids(&windows));
    }

    #[test]
    fn overrides_replace_values_and_filters_keep_prerequisites() {
        let overrides = Overrides {
            seeds: Some(vec![5]),
            set: vec!["steps=9".into(), "train.lr=[0.25, 1.0]".into()],
            only: vec!["method=b".into()],
        };
        let labels: Vec<_> =
            cells_with(BASE, &overrides).unwrap_or_else(|e| panic!("{e}")).iter().map(Cell::label).collect();
        insta::assert_snapshot!(labels.join("\n"), @r"
        data steps=9 seed=5
        train lr=0.25 method=b steps=9 seed=5
        train lr=1.0 method=b steps=9 seed=5
        ");
    }

    #[test]
    fn overrides_that_fit_nothing_are_refused() {
        let with = |set: &[&str], only: &[&str]| {
            let own = |items: &[&str]| items.iter().map(|&s| s.to_owned()).collect();
            cells_with(BASE, &Overrides { seeds: None, set: own(set), only: own(only) })
                .unwrap_err()
                .to_string()
        };
        let shown = [
            with(&["stesp=1"], &[]),
            with(&["steps"], &[]),
            with(&["tran.lr=1"], &[]),
            with(&["steps=[1, 2]"], &[]),
            with(&[], &["methd=b"]),
            with(&[], &["method=c"]),
            with(&[], &["kind"]),
        ];
        insta::assert_snapshot!(shown.join("\n"), @r"
        unknown key `stesp`; did you mean `steps`?
        `--set` must be of the form key=value, but is steps
        unknown kind `tran`; did you mean `train`?
        --set steps=[1, 2]: `steps` is an array, which spans the grid only in a [[grid]] table; write `{ list = [...] }` for a literal list
        unknown key `methd`; did you mean `method`?
        unknown method `c`; did you mean `a`?
        `--only` must be of the form key=value, but is kind
        ");
    }
}
