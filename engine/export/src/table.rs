//! One Parquet file, a group of rows at a time: what waits for its group is all that is in memory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type;

use crate::error::ExportError;

/// Rows in a group: some megabytes of a column that is read at once.
const GROUP: usize = 65_536;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// A whole number of 64 bits.
    Long,
    /// A whole number of 32 bits.
    Int,
    /// A number of 32 bits.
    Real,
    /// An instant in UTC, by milliseconds.
    Time,
}

/// A column: its name, what it holds, whether it may be empty, and what that means.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    pub nullable: bool,
    /// For the card.
    pub meaning: &'static str,
}

/// A column that every row has.
pub const fn column(name: &'static str, kind: Kind, meaning: &'static str) -> Column {
    Column {
        name,
        kind,
        nullable: false,
        meaning,
    }
}

/// A column that a row may lack.
pub const fn maybe(name: &'static str, kind: Kind, meaning: &'static str) -> Column {
    Column {
        nullable: true,
        ..column(name, kind, meaning)
    }
}

/// One value of a row.
#[derive(Clone, Copy, Debug)]
pub enum Cell<'a> {
    Text(&'a str),
    Long(i64),
    Int(i32),
    Real(f32),
    /// Milliseconds since 1970.
    Time(i64),
    Nothing,
}

impl Cell<'_> {
    /// The value, or nothing.
    pub fn maybe<T>(value: Option<T>, cell: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Cell::Nothing, cell)
    }
}

/// The values of a column that wait for their group, those that are there.
enum Values {
    Text(Vec<ByteArray>),
    Long(Vec<i64>),
    Int(Vec<i32>),
    Real(Vec<f32>),
}

/// A column as it fills up.
struct Filling {
    values: Values,
    /// By row, 1: there is a value. Empty where every row has one.
    levels: Vec<i16>,
    nullable: bool,
}

/// A file that is being written.
pub struct Table {
    path: PathBuf,
    writer: SerializedFileWriter<File>,
    columns: Vec<Filling>,
    waiting: usize,
    rows: u64,
}

impl Table {
    /// A new file.
    pub fn create(path: &Path, columns: &[Column]) -> Result<Self, ExportError> {
        let wrong = |cause| wrong(path, cause);
        let file = File::create(path).map_err(ExportError::io("make", path))?;
        let fields: Result<Vec<_>, ParquetError> =
            columns.iter().map(|c| Ok(Arc::new(field(c)?))).collect();
        let schema = Type::group_type_builder("schema")
            .with_fields(fields.map_err(wrong)?)
            .build()
            .map_err(wrong)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("segue ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties));
        Ok(Self {
            path: path.to_path_buf(),
            writer: writer.map_err(wrong)?,
            columns: columns.iter().map(Filling::of).collect(),
            waiting: 0,
            rows: 0,
        })
    }

    /// Adds a row: a cell for each column, in their order.
    pub fn push(&mut self, row: &[Cell<'_>]) -> Result<(), ExportError> {
        let fits = row.len() == self.columns.len();
        if !fits
            || !self
                .columns
                .iter_mut()
                .zip(row)
                .all(|(c, cell)| c.push(*cell))
        {
            let cause = ParquetError::General(format!("a row that does not fit: {row:?}"));
            return Err(wrong(&self.path, cause));
        }
        self.waiting += 1;
        self.rows += 1;
        if self.waiting >= GROUP {
            self.write_group()?;
        }
        Ok(())
    }

    /// Writes what waits and the file's end, and makes sure that it is on the disk.
    pub fn finish(mut self) -> Result<u64, ExportError> {
        if self.waiting > 0 {
            self.write_group()?;
        }
        self.writer
            .finish()
            .map_err(|cause| wrong(&self.path, cause))?;
        let synced = self.writer.inner().sync_all();
        synced.map_err(ExportError::io("write", &self.path))?;
        Ok(self.rows)
    }

    fn write_group(&mut self) -> Result<(), ExportError> {
        let (writer, columns) = (&mut self.writer, &mut self.columns);
        let mut write = || -> Result<(), ParquetError> {
            let mut group = writer.next_row_group()?;
            for column in columns.iter_mut() {
                if let Some(mut writer) = group.next_column()? {
                    column.write(&mut writer)?;
                    writer.close()?;
                }
            }
            group.close()?;
            Ok(())
        };
        write().map_err(|cause| wrong(&self.path, cause))?;
        self.waiting = 0;
        Ok(())
    }
}

impl Filling {
    fn of(column: &Column) -> Self {
        Self {
            values: match column.kind {
                Kind::Text => Values::Text(Vec::new()),
                Kind::Long | Kind::Time => Values::Long(Vec::new()),
                Kind::Int => Values::Int(Vec::new()),
                Kind::Real => Values::Real(Vec::new()),
            },
            levels: Vec::new(),
            nullable: column.nullable,
        }
    }

    /// Whether the cell is of the column's kind.
    fn push(&mut self, cell: Cell<'_>) -> bool {
        let there = !matches!(cell, Cell::Nothing);
        match (&mut self.values, cell) {
            (_, Cell::Nothing) if self.nullable => {}
            (Values::Text(values), Cell::Text(text)) => {
                values.push(ByteArray::from(text.as_bytes().to_vec()));
            }
            (Values::Long(values), Cell::Long(value) | Cell::Time(value)) => values.push(value),
            (Values::Int(values), Cell::Int(value)) => values.push(value),
            (Values::Real(values), Cell::Real(value)) => values.push(value),
            _ => return false,
        }
        if self.nullable {
            self.levels.push(i16::from(there));
        }
        true
    }

    /// Writes the values and forgets them.
    fn write(&mut self, writer: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let levels = self.nullable.then_some(self.levels.as_slice());
        match &mut self.values {
            Values::Text(values) => {
                writer
                    .typed::<ByteArrayType>()
                    .write_batch(values, levels, None)?;
                values.clear();
            }
            Values::Long(values) => {
                writer
                    .typed::<Int64Type>()
                    .write_batch(values, levels, None)?;
                values.clear();
            }
            Values::Int(values) => {
                writer
                    .typed::<Int32Type>()
                    .write_batch(values, levels, None)?;
                values.clear();
            }
            Values::Real(values) => {
                writer
                    .typed::<FloatType>()
                    .write_batch(values, levels, None)?;
                values.clear();
            }
        }
        self.levels.clear();
        Ok(())
    }
}

fn field(column: &Column) -> Result<Type, ParquetError> {
    let (physical, logical) = match column.kind {
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Long => (Physical::INT64, None),
        Kind::Int => (Physical::INT32, None),
        Kind::Real => (Physical::FLOAT, None),
        Kind::Time => (
            Physical::INT64,
            Some(LogicalType::timestamp(true, TimeUnit::MILLIS)),
        ),
    };
    let repetition = match column.nullable {
        true => Repetition::OPTIONAL,
        false => Repetition::REQUIRED,
    };
    Type::primitive_type_builder(column.name, physical)
        .with_repetition(repetition)
        .with_logical_type(logical)
        .build()
}

fn wrong(path: &Path, cause: ParquetError) -> ExportError {
    ExportError::Table {
        path: path.to_path_buf(),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    #[test]
    fn rows_come_back_in_groups_with_what_they_lack() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let columns = [
            column("name", Kind::Text, ""),
            maybe("ratio", Kind::Real, ""),
            column("at", Kind::Time, ""),
        ];
        let mut table = Table::create(&path, &columns).unwrap();
        let rows = GROUP as i64 + 3;
        for at in 0..rows {
            let ratio = Cell::maybe((at % 3 > 0).then_some(0.5), Cell::Real);
            let row = [Cell::Text("Sigur Rós"), ratio, Cell::Time(at)];
            table.push(&row).unwrap();
        }
        assert_eq!(table.finish().unwrap(), rows as u64);

        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let groups = reader.metadata().row_groups();
        assert_eq!(
            groups.iter().map(|g| g.num_rows()).collect::<Vec<_>>(),
            [GROUP as i64, 3]
        );
        let read: Vec<_> = reader.into_iter().map(|row| row.unwrap()).collect();
        assert_eq!(read.len() as i64, rows);
        let json = read[1].to_json_value_of();
        assert!(json.contains("Sigur Rós") && json.contains("0.5"), "{json}");
        assert!(read[3].to_json_value_of().contains("ratio: null"));
    }

    trait Said {
        fn to_json_value_of(&self) -> String;
    }

    impl Said for parquet::record::Row {
        fn to_json_value_of(&self) -> String {
            self.to_string()
        }
    }

    #[test]
    fn a_row_that_does_not_fit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let columns = [column("name", Kind::Text, "")];
        let mut table = Table::create(&folder.path().join("a"), &columns).unwrap();
        for row in [&[Cell::Long(1)][..], &[Cell::Nothing], &[]] {
            let error = table.push(row).unwrap_err().to_string();
            assert!(error.contains("does not fit"), "{error}");
        }
    }
}
