//! `cargo metadata`, as far as the house needs it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
pub struct Metadata {
    pub packages: Vec<Package>,
    #[serde(default)]
    pub workspace_default_members: Vec<String>,
    pub workspace_members: Vec<String>,
    pub resolve: Option<Resolve>,
}

#[derive(Deserialize)]
pub struct Package {
    pub id: String,
    pub name: String,
    pub manifest_path: PathBuf,
    pub dependencies: Vec<Dependency>,
    #[serde(default)]
    pub features: std::collections::BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
pub struct Dependency {
    pub name: String,
    /// `None`: an ordinary one.
    pub kind: Option<String>,
    pub optional: bool,
    /// Where it is, if it is ours.
    pub path: Option<PathBuf>,
}

#[derive(Deserialize)]
pub struct Resolve {
    pub nodes: Vec<Node>,
}

#[derive(Deserialize)]
pub struct Node {
    pub id: String,
    pub deps: Vec<Edge>,
}

#[derive(Deserialize)]
pub struct Edge {
    pub pkg: String,
    pub dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
pub struct EdgeKind {
    pub kind: Option<String>,
}

impl Metadata {
    /// Of the workspace at `manifest`, without or with what its members stand on.
    pub fn of(manifest: &Path, only_members: bool) -> Self {
        let mut arguments = vec!["metadata", "--format-version", "1"];
        let host = host();
        if only_members {
            arguments.push("--no-deps");
        } else {
            // What other systems would link is not downloaded here.
            arguments.extend(["--filter-platform", &host]);
        }
        let json = cargo(manifest, &arguments, &["--locked", "--offline"])
            // A lock file that is being edited, or a registry that was never fetched.
            .or_else(|_| cargo(manifest, &arguments, &["--offline"]))
            .or_else(|_| cargo(manifest, &arguments, &[]))
            .unwrap_or_else(|error| panic!("cargo metadata of {}: {error}", manifest.display()));
        Self::deserialize(&json).expect("the shape of cargo metadata, format 1")
    }

    pub fn package(&self, id: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.id == id)
    }
}

fn cargo(manifest: &Path, arguments: &[&str], how: &[&str]) -> Result<Value, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .args(how)
        .arg("--manifest-path")
        .arg(manifest)
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

fn host() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().expect("rustc -vV");
    let text = String::from_utf8(output.stdout).expect("rustc speaks UTF-8");
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("a line `host: …`").to_owned()
}
