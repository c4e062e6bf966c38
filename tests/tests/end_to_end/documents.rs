//! Documents that name tests name those that there are.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Where tests are, and what stands before their paths there.
const PLACES: [(&str, &str); 7] = [
    ("repo-server/src", ""),
    ("client/src", ""),
    ("client/disks/src", ""),
    ("client/disks/tests", ""),
    ("tests/tests/end_to_end", ""),
    ("tests/tests/fuzz", "fuzz"),
    ("tests/reclamation-model/tests", ""),
];
/// Modules that `…` may stand before, whatever was named before.
const EMBEDDED: [&str; 3] = ["recovery", "stop", "doubt"];

/// Functions by their paths, `catalog::journal::tests::faults::a_failed_sync_is_final`, and what stands above each.
type Functions = BTreeMap<String, String>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn functions() -> Functions {
    let mut functions = Functions::new();
    for (place, path) in PLACES {
        let path = path.split("::").filter(|module| !module.is_empty()).map(str::to_owned);
        in_directory(&root().join(place), &path.collect::<Vec<_>>(), &mut functions);
    }
    assert!(functions.len() > 1000, "{} functions", functions.len());
    functions
}

fn in_directory(directory: &Path, path: &[String], functions: &mut Functions) {
    for entry in fs::read_dir(directory).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let below = || [path, std::slice::from_ref(&name)].concat();
        if file.is_dir() {
            in_directory(&file, &below(), functions);
        } else if file.extension().is_some_and(|extension| extension == "rs") {
            let modules = if matches!(name.as_str(), "mod" | "main" | "lib") { path.to_vec() } else { below() };
            in_file(&fs::read_to_string(&file).unwrap(), &modules, functions);
        }
    }
}

/// By the indentation that rustfmt gives it.
fn in_file(text: &str, modules: &[String], functions: &mut Functions) {
    let mut inner: Vec<(usize, String)> = Vec::new();
    let mut above = String::new();
    for line in text.lines() {
        let code = line.trim_start();
        let indentation = line.len() - code.len();
        if code.starts_with('#') || code.starts_with("//") {
            above += code;
            continue;
        }
        if inner.last().is_some_and(|(at, _)| *at == indentation && code == "}") {
            inner.pop();
        }
        if let Some(name) = code.split_once("mod ").and_then(|(_, rest)| rest.strip_suffix(" {")) {
            inner.push((indentation, name.to_owned()));
        }
        if let Some((_, rest)) = code.split_once("fn ") {
            let name = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
            let inner = inner.iter().map(|(_, name)| name.as_str());
            let path: Vec<&str> = modules.iter().map(String::as_str).chain(inner).chain([name]).collect();
            functions.insert(path.join("::"), above.clone());
        }
        above.clear();
    }
}

/// The rows of the table below `heading`, as cells.
fn rows(document: &str, heading: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("docs").join(document)).unwrap();
    let section = text.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no {heading}")).1;
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with("|--")).skip(1);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" | ").map(str::to_owned).collect())
        .collect()
}

/// What stands in backquotes, but for paths and names of packages.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    let quoted = cell.split('`').skip(1).step_by(2);
    quoted.filter(|name| !name.contains(['/', '-', ' ', '.']))
}

/// What is wrong with a name, if it is none of a test that `make test` runs.
fn wrong(functions: &Functions, name: &str) -> Option<&'static str> {
    if let Some(module) = name.strip_suffix('*') {
        return functions.keys().all(|path| !path.starts_with(module)).then_some("there is no such module");
    }
    let laws = ["storage::laws::", "catalog::laws::"];
    if !name.contains("::") {
        let is_law =
            |path: &String| laws.iter().any(|laws| path.starts_with(laws)) && path.ends_with(&format!("::{name}"));
        return (!functions.keys().any(is_law)).then_some("there is no such law");
    }
    match functions.get(name) {
        None => Some("there is no such test"),
        Some(above) if above.contains("#[ignore") => Some("it is ignored"),
        Some(above) if !above.contains("test") && !name.contains("laws::") => Some("it is no test"),
        Some(_) => None,
    }
}

fn assert_all_right(found: &[String]) {
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_test_that_durability_names_is_there() {
    let functions = functions();
    let (mut found, mut count) = (Vec::new(), 0);
    for row in rows("durability.md", "What holds") {
        let [promise, _, tests] = &row[..] else { panic!("{} cells in {row:?}", row.len()) };
        let mut path = String::new();
        let mut is_tested = false;
        for name in names(tests) {
            let name = match name.strip_prefix("…::") {
                Some(rest) if EMBEDDED.iter().any(|module| rest.starts_with(&format!("{module}::"))) => {
                    format!("catalog::embedded::tests::{rest}")
                }
                Some(rest) => format!("{path}::{rest}"),
                None => name.to_owned(),
            };
            found.extend(wrong(&functions, &name).map(|why| format!("{promise}: {name}: {why}")));
            path = name.rsplit_once("::").map_or_else(String::new, |(path, _)| path.to_owned());
            is_tested = true;
            count += 1;
        }
        if !is_tested {
            found.push(format!("{promise}: no test"));
        }
    }
    assert!(count > 150, "{count} names");
    assert_all_right(&found);
}

#[test]
fn every_test_that_finds_a_planted_bug_is_there() {
    let functions = functions();
    let mut found = Vec::new();
    for row in rows("testing.md", "Planted bugs") {
        for name in names(&row[2]) {
            let is_module = functions.keys().any(|path| path.starts_with(&format!("{name}::")));
            let why = wrong(&functions, name).filter(|_| !is_module);
            found.extend(why.map(|why| format!("{}: {name}: {why}", row[0])));
        }
    }
    assert_all_right(&found);
}
