//! The plugins as Arroyo meets them: their dynamic libraries, called over the C ABI, against
//! `segue_listen`'s own functions; and their sources, read as Arroyo reads them.
//!
//! - `completion`: one row in, one ratio out
//! - `sessions`: a listener's rows in any order against the lanes' incremental rule
//! - `track`: keys in halves
//! - `source`: each source file is one Arroyo can take, and agrees with its package's manifest
//! - `sql`: the pipelines in `config/arroyo` call what there is

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod completion;
mod sessions;
mod source;
mod sql;
mod track;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use segue_udf_host::Plugin;

/// The plugins, each a package of its own: one `#[udf]` per library.
const PLUGINS: [&str; 3] = ["completion_ratio", "listening_sessions", "track_half"];

/// Opens a plugin that Cargo built beside this test.
fn plugin(name: &str) -> Plugin {
    let test = std::env::current_exe().unwrap();
    let file = format!(
        "{}{name}{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    );
    Plugin::open(&test.with_file_name(file)).unwrap()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn source(plugin: &str) -> String {
    std::fs::read_to_string(workspace().join(plugin).join("src/lib.rs")).unwrap()
}

fn numbers(column: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(column.into_iter().collect::<Int64Array>())
}

fn texts<'a>(column: impl IntoIterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(column.into_iter().collect::<StringArray>())
}

#[test]
fn a_missing_library_is_named() {
    let Err(error) = Plugin::open(Path::new("nowhere/libnothing.so")) else {
        panic!("opened nothing");
    };
    let error = error.to_string();
    assert!(error.contains("nowhere/libnothing.so"), "{error}");
    assert!(error.contains("cargo build"), "{error}");
}

/// A panic inside does not unwind into the host: what `panic = "unwind"` is for.
#[test]
fn a_batch_of_the_wrong_type_is_an_error_and_the_plugin_lives_on() {
    let plugin = plugin("completion_ratio");
    let wrong = texts([Some("not a number")]);
    let row = [wrong, numbers([None]), numbers([None]), numbers([None])];
    let error = plugin.call(&row).unwrap_err().to_string();
    assert!(error.contains("panicked"), "{error}");
    let right = [Some(0), Some(1), None, Some(2)].map(|cell| numbers([cell]));
    assert_eq!(plugin.call(&right).unwrap().len(), 1);
}
