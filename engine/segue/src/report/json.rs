//! The report for machines.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::data::Report;
use super::file::write_whole;

/// Which shape the file has; raised when a field is removed or changes its meaning.
const SCHEMA: u32 = 1;

/// Writes `report.json`, whole or not at all. Figures that are not numbers are `null`.
///
/// # Errors
/// The file cannot be written.
pub fn write(report: &Report, path: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(&value(report)?).context("cannot encode the report")?;
    write_whole(path, text.as_bytes())
}

/// The report as a value: [`Report`]'s own fields, `schema`, and, where the log is simulated, the
/// word on every section and on every row of a section.
pub(super) fn value(report: &Report) -> Result<Value> {
    let mut value = serde_json::to_value(report).context("cannot encode the report")?;
    if let Value::Object(fields) = &mut value {
        fields.insert("schema".to_owned(), SCHEMA.into());
        if report.input.simulated {
            for field in fields.values_mut() {
                label(field);
            }
            fields.insert("simulated".to_owned(), true.into());
        }
    }
    Ok(value)
}

fn label(section: &mut Value) {
    let mark = |object: &mut Map<String, Value>| {
        object.insert("simulated".to_owned(), true.into());
    };
    match section {
        Value::Object(object) => {
            mark(object);
            for rows in object.values_mut() {
                if let Value::Array(rows) = rows {
                    rows.iter_mut()
                        .filter_map(Value::as_object_mut)
                        .for_each(mark);
                }
            }
        }
        Value::Array(rows) => rows
            .iter_mut()
            .filter_map(Value::as_object_mut)
            .for_each(mark),
        _ => {}
    }
}
