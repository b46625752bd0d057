//! The arrows between rooms, and the wall before libtorch, librdkafka, Arrow and Parquet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use segue_tests::checkout;

use super::metadata::{Edge, Metadata, Package};
use super::none_of;

/// Each room and the rooms it may stand on, in whatever way (ordinary, for builds, for tests).
const ROOMS: &[(&str, &[&str])] = &[
    ("engine/listen", &[]),
    ("engine/nn", &[]),
    ("engine/memory", &[]),
    ("engine/flow", &["engine/listen"]),
    ("engine/recall", &["engine/listen", "engine/memory"]),
    ("engine/catalog", &["engine/listen", "engine/flow"]),
    ("connectors/fetch", &["engine/flow"]),
    ("connectors/chat", &["engine/flow", "connectors/fetch"]),
    ("connectors/kafka", &["engine/listen", "engine/flow"]),
    ("connectors/log", &["engine/listen", "engine/flow"]),
    (
        "replay",
        &["engine/listen", "engine/flow", "connectors/fetch"],
    ),
    (
        "engine/sessions",
        &[
            "engine/listen",
            "engine/memory",
            "engine/flow",
            "engine/catalog",
        ],
    ),
    (
        "engine/encode",
        &[
            "engine/catalog",
            "engine/nn",
            "engine/flow",
            "engine/listen",
        ],
    ),
    (
        "engine/recommend",
        &[
            "engine/listen",
            "engine/flow",
            "engine/catalog",
            "engine/sessions",
            "engine/recall",
        ],
    ),
    (
        "engine/e4srec",
        &[
            "engine/recommend",
            "engine/recall",
            "engine/catalog",
            "engine/listen",
            "engine/flow",
            "engine/nn",
        ],
    ),
    (
        "engine/export",
        &[
            "engine/listen",
            "engine/flow",
            "engine/catalog",
            "engine/sessions",
        ],
    ),
    ("engine/segue", ALL),
    ("benchmarks", WITH_THE_BINARY),
    ("tests", ALL),
];

/// The rooms that the binary and these tests may know: all but those three.
const ALL: &[&str] = &[
    "engine/listen",
    "engine/nn",
    "engine/flow",
    "engine/recall",
    "engine/catalog",
    "connectors/chat",
    "connectors/fetch",
    "connectors/kafka",
    "connectors/log",
    "replay",
    "engine/sessions",
    "engine/encode",
    "engine/recommend",
    "engine/e4srec",
    "engine/export",
];

/// The binary's wiring, and what a figure is taken of by itself: what is measured end to end is what
/// people run.
const WITH_THE_BINARY: &[&str] = &[
    "engine/segue",
    "engine/listen",
    "engine/nn",
    "engine/flow",
    "engine/catalog",
    "engine/recall",
    "connectors/kafka",
    "connectors/log",
    "replay",
    "engine/sessions",
    "engine/encode",
    "engine/recommend",
    "engine/e4srec",
];

/// Arrows that only a room's own tests have: real vectors, another connector to compare with.
const FOR_TESTS: &[(&str, &str)] = &[("engine/e4srec", "engine/encode")];

/// What a plain `cargo build` or `cargo test` may not link, and what it would cost.
const HEAVY: &[(&str, &str)] = &[
    ("torch-sys", "libtorch"),
    ("rdkafka-sys", "librdkafka"),
    ("arrow", "Arrow"),
    ("arrow-array", "Arrow"),
    ("parquet", "Parquet"),
];

/// A member of a workspace as the table sees it: its folder, and the folders of ours it stands on.
struct Member {
    room: String,
    stands_on: Vec<Arrow>,
}

struct Arrow {
    to: String,
    for_tests: bool,
}

fn members(metadata: &Metadata) -> Vec<Member> {
    let member = |package: &Package| Member {
        room: room(package.manifest_path.parent().unwrap_or(Path::new(""))),
        stands_on: package
            .dependencies
            .iter()
            .filter_map(|dependency| {
                Some(Arrow {
                    to: room(dependency.path.as_deref()?),
                    for_tests: dependency.kind.as_deref() == Some("dev"),
                })
            })
            .collect(),
    };
    metadata
        .workspace_members
        .iter()
        .filter_map(|id| metadata.package(id))
        .map(member)
        .collect()
}

/// A folder relative to the checkout, with `/` between names.
fn room(folder: &Path) -> String {
    let inside = folder.strip_prefix(checkout()).unwrap_or(folder);
    let names = inside.components().map(|c| c.as_os_str().to_string_lossy());
    names.collect::<Vec<_>>().join("/")
}

fn against_the_table(members: &[Member]) -> Vec<String> {
    let table: BTreeMap<&str, &[&str]> = ROOMS.iter().copied().collect();
    let mut faults = Vec::new();
    for member in members {
        let Some(allowed) = table.get(member.room.as_str()) else {
            faults.push(format!(
                "{} is a member of the workspace and not in the table of rooms",
                member.room
            ));
            continue;
        };
        for Arrow {
            to: other,
            for_tests,
        } in &member.stands_on
        {
            let for_its_tests =
                *for_tests && FOR_TESTS.contains(&(member.room.as_str(), other.as_str()));
            if *other != member.room && !allowed.contains(&other.as_str()) && !for_its_tests {
                faults.push(format!(
                    "{} → {other}: not allowed (it may stand on: {})",
                    member.room,
                    if allowed.is_empty() {
                        "nothing".to_owned()
                    } else {
                        allowed.join(", ")
                    },
                ));
            }
        }
    }
    let there: BTreeSet<&str> = members.iter().map(|member| member.room.as_str()).collect();
    let gone = table.keys().filter(|room| !there.contains(*room));
    faults.extend(gone.map(|room| format!("{room} is in the table of rooms and no member")));
    faults
}

/// For each heavy package that is reached from the default members: the way there.
fn ways_to_heavy(metadata: &Metadata) -> Vec<String> {
    let nodes: BTreeMap<&str, &[Edge]> = metadata
        .resolve
        .iter()
        .flat_map(|resolve| &resolve.nodes)
        .map(|node| (node.id.as_str(), node.deps.as_slice()))
        .collect();
    let names: BTreeMap<&str, &str> = metadata
        .packages
        .iter()
        .map(|package| (package.id.as_str(), package.name.as_str()))
        .collect();
    let roots = &metadata.workspace_default_members;
    let mut came_from: BTreeMap<&str, &str> =
        roots.iter().map(|root| (root.as_str(), "")).collect();
    let mut queue: VecDeque<&str> = roots.iter().map(String::as_str).collect();
    let mut faults = Vec::new();
    while let Some(at) = queue.pop_front() {
        let name = names.get(at).copied().unwrap_or(at);
        if let Some((_, what)) = HEAVY.iter().find(|(heavy, _)| *heavy == name) {
            let mut way = vec![name];
            let mut step = at;
            while let Some(before) = came_from.get(step).filter(|before| !before.is_empty()) {
                way.push(names.get(before).copied().unwrap_or(before));
                step = before;
            }
            way.reverse();
            faults.push(format!("{what} is linked: {}", way.join(" → ")));
        }
        let root = roots.iter().any(|root| root == at);
        for edge in nodes.get(at).copied().unwrap_or(&[]) {
            // What a dependency needs for its own tests is never built here.
            let built = edge
                .dep_kinds
                .iter()
                .any(|k| root || k.kind.as_deref() != Some("dev"));
            if built && !came_from.contains_key(edge.pkg.as_str()) {
                came_from.insert(&edge.pkg, at);
                queue.push_back(&edge.pkg);
            }
        }
    }
    faults
}

fn workspace(only_members: bool) -> Metadata {
    Metadata::of(&checkout().join("Cargo.toml"), only_members)
}

#[test]
fn rooms_stand_only_on_what_the_table_allows() {
    none_of(
        &against_the_table(&members(&workspace(true))),
        "the table of rooms (tests/house/rooms.rs, design section 2):",
    );
}

#[test]
fn arroyo_plugins_stand_on_listen_alone() {
    let manifest = checkout().join("udfs/Cargo.toml");
    let strangers: Vec<String> = members(&Metadata::of(&manifest, true))
        .iter()
        .flat_map(|member| {
            member
                .stands_on
                .iter()
                .map(|arrow| &arrow.to)
                .filter(|other| *other != "engine/listen" && !other.starts_with("udfs/"))
                .map(|other| format!("{} → {other}: not allowed", member.room))
        })
        .collect();
    none_of(&strangers, "udfs/* may stand on engine/listen only:");
}

#[test]
fn a_plain_build_links_nothing_heavy() {
    let metadata = workspace(false);
    assert!(
        metadata.workspace_default_members.len() > 3 && metadata.resolve.is_some(),
        "cargo metadata tells no default members, so there is nothing to check"
    );
    none_of(
        &ways_to_heavy(&metadata),
        "default members of Cargo.toml build and test without C++ (features make the rest optional):",
    );
}

#[test]
fn listen_has_no_dependency_unless_asked() {
    let metadata = workspace(true);
    let listen = metadata
        .packages
        .iter()
        .find(|package| package.name == "segue-listen")
        .expect("engine/listen");
    let mut faults: Vec<String> = listen
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind.as_deref() != Some("dev") && !dependency.optional)
        .map(|dependency| format!("segue-listen → {}: make it optional", dependency.name))
        .collect();
    let default = listen.features.get("default").into_iter().flatten();
    faults.extend(default.map(|feature| format!("segue-listen has a default feature: {feature}")));
    none_of(
        &faults,
        "engine/listen is compiled by others (Arroyo plugins) and stands on nothing:",
    );
}

#[test]
fn every_member_keeps_the_lints_of_the_workspace() {
    let mut faults = Vec::new();
    let metadata = workspace(true);
    for id in &metadata.workspace_members {
        let package = metadata.package(id).expect("a member is a package");
        let text = std::fs::read_to_string(&package.manifest_path).expect("a manifest");
        let manifest: toml::Table = text.parse().expect("cargo has read it already");
        let kept = manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"));
        if kept.and_then(toml::Value::as_bool) != Some(true) {
            let path = package.manifest_path.display();
            faults.push(format!("{path}: lacks [lints] workspace = true"));
        }
    }
    none_of(&faults, "clippy's bans hold everywhere:");
}

#[test]
fn a_forbidden_arrow_and_a_stranger_are_named() {
    let member = |room: &str, stands_on: &[&str]| Member {
        room: room.to_owned(),
        stands_on: stands_on
            .iter()
            .map(|other| Arrow {
                to: (*other).to_owned(),
                for_tests: false,
            })
            .collect(),
    };
    let mut house: Vec<Member> = ROOMS.iter().map(|(room, on)| member(room, on)).collect();
    assert_eq!(against_the_table(&house), Vec::<String>::new());
    house.push(member("engine/sessions", &["engine/nn"]));
    house.push(member("engine/e4srec", &["engine/encode"]));
    house.push(member("engine/attic", &[]));
    house.remove(0);
    let faults = against_the_table(&house).join("\n");
    assert!(
        faults.contains("engine/sessions → engine/nn: not allowed"),
        "{faults}"
    );
    assert!(
        faults.contains("engine/e4srec → engine/encode: not allowed"),
        "for tests only: {faults}"
    );
    assert!(faults.contains("engine/attic is a member"), "{faults}");
    assert!(faults.contains("engine/listen is in the table"), "{faults}");
}

#[test]
fn the_way_to_libtorch_is_told() {
    let json = serde_json::json!({
        "packages": [
            {"id": "a", "name": "segue-a", "manifest_path": "a", "dependencies": []},
            {"id": "b", "name": "b", "manifest_path": "b", "dependencies": []},
            {"id": "t", "name": "torch-sys", "manifest_path": "t", "dependencies": []},
            {"id": "k", "name": "rdkafka-sys", "manifest_path": "k", "dependencies": []},
        ],
        "workspace_default_members": ["a"],
        "workspace_members": ["a"],
        "resolve": {"nodes": [
            {"id": "a", "deps": [{"pkg": "b", "dep_kinds": [{"kind": "dev"}]}]},
            {"id": "b", "deps": [
                {"pkg": "t", "dep_kinds": [{"kind": null}]},
                {"pkg": "k", "dep_kinds": [{"kind": "dev"}]},
            ]},
        ]},
    });
    let metadata: Metadata = serde_json::from_value(json).unwrap();
    assert_eq!(
        ways_to_heavy(&metadata),
        ["libtorch is linked: segue-a → b → torch-sys"]
    );
}
