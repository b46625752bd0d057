//! A plugin's source file is what Arroyo is given: it must be one that Arroyo can take, and the
//! manifest in its comment must be its package's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arroyo_udf_common::parse::ParsedUdf;
use toml::Table;

use crate::{PLUGINS, source, workspace};

/// A dependency, as far as two manifests can disagree on it.
#[derive(Debug, PartialEq)]
struct Dependency {
    path: Option<PathBuf>,
    version: Option<String>,
    features: Vec<String>,
    default_features: bool,
}

fn dependency(value: &toml::Value, relative_to: &Path) -> Dependency {
    let text = |key: &str| Some(value.get(key)?.as_str()?.to_owned());
    let features = value.get("features").and_then(toml::Value::as_array);
    Dependency {
        path: text("path").map(|path| relative_to.join(path).canonicalize().unwrap()),
        version: value.as_str().map(str::to_owned).or(text("version")),
        features: features
            .into_iter()
            .flatten()
            .map(|feature| feature.as_str().unwrap().to_owned())
            .collect(),
        default_features: value
            .get("default-features")
            .is_none_or(|on| on.as_bool().unwrap()),
    }
}

/// The comment that Arroyo takes for a manifest: `/*`, a line break, `[dependencies]`, up to `*/`
/// (the expression in arroyo-udf-host's `parse_dependencies`).
fn manifest_in_comment(source: &str) -> Table {
    let mut comments = source.match_indices("/*\n[dependencies]\n");
    let (begin, _) = comments.next().expect("a manifest comment");
    assert!(comments.next().is_none(), "Arroyo takes one manifest");
    let (manifest, _) = source[begin + 3..].split_once("*/").unwrap();
    let home = workspace().parent().unwrap().to_owned();
    let manifest = manifest.replace("{{ SEGUE_HOME }}", home.to_str().unwrap());
    assert!(!manifest.contains("{{"), "an unknown variable: {manifest}");
    toml::from_str::<Table>(&manifest).unwrap()
}

fn dependencies(manifest: &Table, relative_to: &Path) -> BTreeMap<String, Dependency> {
    let table = manifest["dependencies"].as_table().unwrap();
    table
        .iter()
        .map(|(name, value)| (name.clone(), dependency(value, relative_to)))
        .collect()
}

/// The package's own dependencies, those with `workspace = true` looked up.
fn dependencies_of_package(name: &str) -> BTreeMap<String, Dependency> {
    let read =
        |path: PathBuf| toml::from_str::<Table>(&std::fs::read_to_string(path).unwrap()).unwrap();
    let shared = read(workspace().join("Cargo.toml"));
    let shared = dependencies(shared["workspace"].as_table().unwrap(), &workspace());
    let package = read(workspace().join(name).join("Cargo.toml"));
    let table = package["dependencies"].as_table().unwrap();
    let mut own = dependencies(&package, &workspace().join(name));
    for (name, from_workspace) in shared {
        if table
            .get(&name)
            .and_then(|value| value.get("workspace"))
            .is_some()
        {
            own.insert(name, from_workspace);
        }
    }
    own
}

#[test]
fn the_manifest_in_the_comment_is_the_packages() {
    for name in PLUGINS {
        let mut package = dependencies_of_package(name);
        // Arroyo adds the plugin crate itself.
        assert!(package.remove("arroyo-udf-plugin").is_some());
        let comment = dependencies(&manifest_in_comment(&source(name)), &workspace());
        assert_eq!(comment, package, "{name}");
    }
}

#[test]
fn the_comparison_sees_a_difference() {
    let here = workspace();
    let one = |text: &str| dependencies(&toml::from_str(text).unwrap(), &here);
    let base = one("[dependencies]\nserde_json = \"1\"");
    for other in [
        "[dependencies]\nserde_json = \"2\"",
        "[dependencies]\nserde_json = { path = \".\" }",
        "[dependencies]\nserde_json = { version = \"1\", features = [\"std\"] }",
        "[dependencies]\nserde_json = { version = \"1\", default-features = false }",
        "[dependencies]\nserde = \"1\"",
    ] {
        assert_ne!(base, one(other), "{other}");
    }
    assert_eq!(
        base,
        one("[dependencies]\nserde_json = { version = \"1\" }")
    );
}

/// The function of a source file that Arroyo registers.
pub fn registered(plugin: &str) -> ParsedUdf {
    let file = syn::parse_file(&source(plugin)).unwrap();
    let functions: Vec<_> = file
        .items
        .iter()
        .filter_map(|item| match item {
            syn::Item::Fn(function) => Some(function),
            _ => None,
        })
        .filter(|function| {
            let mut names = function
                .attrs
                .iter()
                .filter_map(|a| a.path().segments.last());
            names.any(|name| name.ident == "udf")
        })
        .collect();
    assert_eq!(functions.len(), 1, "{plugin}: one #[udf] per library");
    ParsedUdf::try_parse(functions[0]).unwrap()
}

#[test]
fn arroyo_can_take_each_source() {
    for name in PLUGINS {
        let udf = registered(name);
        assert_eq!(udf.name, name);
        assert!(!udf.udf_type.is_async());
        // All arguments of an aggregate are columns, none of a scalar function is.
        assert!(
            udf.vec_arguments == 0 || udf.vec_arguments == udf.args.len(),
            "{name}"
        );
        // Arroyo compiles one file: a module in another would be missing.
        let file = syn::parse_file(&source(name)).unwrap();
        for item in file.items {
            if let syn::Item::Mod(module) = item {
                assert!(module.content.is_some(), "{name}: mod {}", module.ident);
            }
        }
    }
}
