//! Vectors of tracks: `features.safetensors`, a tensor per way of knowing a track, its rows in the
//! order of `tracks.parquet`.
//!
//! Beside `NAME` (f32, `[tracks, dimensions]`) stands `NAME.known` (bool, `[tracks]`): the rows of
//! tracks of which nothing is known are zeros. Rows are written as they come, so what is in memory is
//! a batch.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use segue_catalog::content::TrackContent;
use segue_catalog::encoder::{ContentError, Encoder, EncoderError};
use segue_flow::Remedy;
use segue_listen::TrackKey;
use serde::{Deserialize, Serialize};

use crate::error::ExportError;

/// A way of knowing tracks.
pub struct Feature {
    /// Its tensor's name, such as `text`.
    pub name: String,
    /// Where its vectors come from, for the card.
    pub about: String,
    /// Makes them.
    pub encoder: Box<dyn Encoder>,
    /// So many at a time.
    pub batch: usize,
}

/// What was written of a feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its tensor's name.
    pub name: String,
    /// Where its vectors come from.
    pub about: String,
    /// Numbers in a row.
    pub dimensions: usize,
    /// Tracks that have one.
    pub known: u64,
}

/// Refuses names that are none or the same twice.
///
/// # Errors
/// Which one.
pub fn check_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), ExportError> {
    let mut seen = Vec::new();
    for name in names {
        let wrong = |problem| {
            Err(ExportError::Name {
                name: name.to_owned(),
                problem,
            })
        };
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            return wrong("a name is of a-z, 0-9 and _");
        }
        if seen.contains(&name) {
            return wrong("there are two of it");
        }
        seen.push(name);
    }
    Ok(())
}

/// A tensor in the file's head.
#[derive(Serialize)]
struct Tensor {
    dtype: &'static str,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// Writes all features of the tracks, which are in the order of `tracks.parquet`; `progress` is told
/// of each batch.
pub(crate) fn write(
    path: &Path,
    features: &mut [Feature],
    tracks: &[TrackContent],
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<Written>, ExportError> {
    let file = File::create(path).map_err(ExportError::io("make", path))?;
    let mut file = BufWriter::new(file);
    let io = || ExportError::io("write", path);
    file.write_all(&head(features, tracks.len()))
        .map_err(io())?;
    let mut written = Vec::new();
    let mut masks: Vec<Vec<u8>> = Vec::new();
    for feature in features {
        let mut mask = Vec::with_capacity(tracks.len());
        for some in tracks.chunks(feature.batch.max(1)) {
            if progress(some.len()).is_break() {
                return Err(ExportError::Stopped);
            }
            let mut rows = Vec::new();
            let outcomes = feature.encoder.encode(some, &mut rows)?;
            mask.extend(outcomes.iter().map(|outcome| u8::from(outcome.is_ok())));
            for value in rows {
                file.write_all(&value.to_le_bytes()).map_err(io())?;
            }
        }
        let known = mask.iter().map(|known| u64::from(*known)).sum();
        if known == 0 {
            return Err(ExportError::Vectors {
                path: PathBuf::from(&feature.about),
                problem: format!("none of the log's {} tracks has one", tracks.len()),
            });
        }
        written.push(Written {
            name: feature.name.clone(),
            about: feature.about.clone(),
            dimensions: feature.encoder.dimensions(),
            known,
        });
        masks.push(mask);
    }
    for mask in masks {
        file.write_all(&mask).map_err(io())?;
    }
    let file = file.into_inner().map_err(|e| io()(e.into_error()))?;
    file.sync_all().map_err(io())?;
    Ok(written)
}

/// The file's head: its length in eight bytes, then JSON, filled up with spaces to a multiple of
/// eight (<https://github.com/huggingface/safetensors>, format).
fn head(features: &[Feature], tracks: usize) -> Vec<u8> {
    let mut tensors = BTreeMap::new();
    let mut at = 0;
    let mut put = |name: String, dtype, shape: Vec<usize>, width: usize| {
        let bytes = shape.iter().product::<usize>() * width;
        let data_offsets = [at, at + bytes];
        at += bytes;
        tensors.insert(
            name,
            Tensor {
                dtype,
                shape,
                data_offsets,
            },
        );
    };
    for feature in features {
        let shape = vec![tracks, feature.encoder.dimensions()];
        put(feature.name.clone(), "F32", shape, 4);
    }
    for feature in features {
        put(format!("{}.known", feature.name), "BOOL", vec![tracks], 1);
    }
    // Text and numbers alone: encoding does not fail.
    let mut json = serde_json::to_vec(&tensors).unwrap_or_default();
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut head = (json.len() as u64).to_le_bytes().to_vec();
    head.extend(json);
    head
}

/// Vectors that `segue encode` has made of a library: read a row at a time.
pub struct Vectors {
    file: File,
    path: PathBuf,
    /// Where the rows begin.
    begin: u64,
    dimensions: usize,
    rows: HashMap<TrackKey, u64>,
}

/// A line of the list beside the vectors.
#[derive(Deserialize)]
struct Line {
    track: String,
    #[serde(default)]
    row: Option<u64>,
}

/// The longest head that is read: that of a file of two tensors has some hundred bytes.
const LONGEST_HEAD: u64 = 1 << 20;

impl Vectors {
    /// Opens a file and the list of rows beside it.
    ///
    /// # Errors
    /// They are not there, or not what `segue encode` writes of tracks that have keys.
    pub fn open(path: &Path) -> Result<Self, ExportError> {
        let wrong = |problem: String| ExportError::Vectors {
            path: path.to_path_buf(),
            problem,
        };
        let io = || ExportError::io("read", path);
        let mut file = File::open(path).map_err(io())?;
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(io())?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST_HEAD {
            return Err(wrong("it is no safetensors file".to_owned()));
        }
        let mut head = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact(&mut head).map_err(io())?;
        let metadata: Metadata =
            serde_json::from_slice(&head).map_err(|error| wrong(error.to_string()))?;
        let vectors = metadata.info("vectors");
        let (shape, begin) = match vectors {
            Some(info) if info.dtype == Dtype::F32 => (&info.shape, info.data_offsets.0),
            _ => return Err(wrong("it has no f32 tensor `vectors`".to_owned())),
        };
        let &[count, dimensions] = shape.as_slice() else {
            return Err(wrong(format!("`vectors` has shape {shape:?}")));
        };
        let list = path.with_extension("jsonl");
        let lines = File::open(&list).map_err(ExportError::io("read", &list))?;
        let mut rows = HashMap::new();
        for line in BufReader::new(lines).lines() {
            let line = line.map_err(ExportError::io("read", &list))?;
            let line: Line = serde_json::from_str(&line)
                .map_err(|error| wrong(format!("its list {}: {error}", list.display())))?;
            let Some(row) = line.row else { continue };
            let key = TrackKey::from_mbid(&line.track).ok_or_else(|| {
                wrong(format!(
                    "{:?} is a file and no track: encode from a library, which says whose it is",
                    line.track
                ))
            })?;
            if row >= count as u64 {
                return Err(wrong(format!("there is no row {row} of {count}")));
            }
            rows.insert(key, row);
        }
        Ok(Self {
            file,
            path: path.to_path_buf(),
            begin: 8 + length + begin as u64,
            dimensions,
            rows,
        })
    }

    fn row(&mut self, row: u64, bytes: &mut [u8]) -> std::io::Result<()> {
        let at = self.begin + row * bytes.len() as u64;
        self.file.seek(SeekFrom::Start(at))?;
        self.file.read_exact(bytes)
    }
}

impl Encoder for Vectors {
    fn name(&self) -> &'static str {
        "vectors"
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn encode(
        &mut self,
        tracks: &[TrackContent],
        rows: &mut Vec<f32>,
    ) -> Result<Vec<Result<(), ContentError>>, EncoderError> {
        let mut bytes = vec![0; 4 * self.dimensions];
        let mut outcomes = Vec::with_capacity(tracks.len());
        for track in tracks {
            // The library may know it by its names where the log has its id.
            let names = || TrackKey::from_names(&track.artist, &track.title);
            let row = self.rows.get(&track.key);
            let Some(row) = row.or_else(|| self.rows.get(&names())).copied() else {
                rows.resize(rows.len() + self.dimensions, 0.0);
                outcomes.push(Err(ContentError {
                    track: track.key.to_string(),
                    detail: format!("{} has no vector of it", self.path.display()),
                }));
                continue;
            };
            self.row(row, &mut bytes).map_err(|error| EncoderError {
                encoder: "vectors",
                detail: format!("{}, row {row}: {error}", self.path.display()),
                remedy: Remedy::Configure,
            })?;
            let values = bytes.chunks_exact(4);
            rows.extend(values.map(|four| four.try_into().map_or(0.0, f32::from_le_bytes)));
            outcomes.push(Ok(()));
        }
        Ok(outcomes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;
    use segue_listen::TrackId;

    fn track(title: &str) -> TrackContent {
        TrackContent {
            track: TrackId(0),
            key: TrackKey::from_names("a", title),
            artist: "a".into(),
            title: title.into(),
        }
    }

    /// A file as `segue encode` writes it, with the vectors of `b` and `c`.
    fn encoded(folder: &Path) -> PathBuf {
        let path = folder.join("sound.safetensors");
        let values: Vec<u8> = [1f32, 2.0, 3.0, 4.0]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![2, 2], &values).unwrap();
        safetensors::serialize_to_file([("vectors", view)], None, &path).unwrap();
        let line = |title: &str, rest: &str| {
            let key = TrackKey::from_names("a", title);
            format!("{{\"track\": \"{key}\", {rest}}}\n")
        };
        let list = [
            line("c", "\"row\": 1"),
            line("b", "\"row\": 0"),
            line("a", "\"problem\": \"silence\""),
        ];
        std::fs::write(path.with_extension("jsonl"), list.concat()).unwrap();
        path
    }

    fn feature(path: &Path, name: &str) -> Feature {
        Feature {
            name: name.to_owned(),
            about: path.display().to_string(),
            encoder: Box::new(Vectors::open(path).unwrap()),
            batch: 2,
        }
    }

    #[test]
    fn rows_stand_in_the_order_of_tracks_and_what_is_not_known_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = encoded(folder.path());
        let tracks = [track("a"), track("c"), track("b")];
        let out = folder.path().join("features.safetensors");
        let mut features = [feature(&path, "sound"), feature(&path, "again")];
        let mut told = 0;
        let mut progress = |n: usize| {
            told += n;
            ControlFlow::Continue(())
        };
        let written = write(&out, &mut features, &tracks, &mut progress).unwrap();
        assert_eq!(told, 6);
        assert_eq!((written[0].known, written[0].dimensions), (2, 2));

        let bytes = std::fs::read(&out).unwrap();
        let read = SafeTensors::deserialize(&bytes).unwrap();
        for name in ["sound", "again"] {
            let vectors = read.tensor(name).unwrap();
            assert_eq!(vectors.shape(), [3, 2]);
            let values: Vec<f32> = vectors
                .data()
                .chunks_exact(4)
                .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
                .collect();
            assert_eq!(values, [0.0, 0.0, 3.0, 4.0, 1.0, 2.0]);
            let known = read.tensor(&format!("{name}.known")).unwrap();
            assert_eq!((known.dtype(), known.data()), (Dtype::BOOL, &[0, 1, 1][..]));
        }
    }

    #[test]
    fn vectors_of_other_tracks_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = encoded(folder.path());
        let out = folder.path().join("features.safetensors");
        let mut features = [feature(&path, "sound")];
        let error = write(&out, &mut features, &[track("z")], &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap_err();
        assert!(error.to_string().contains("none of the log's 1 tracks"));
    }

    #[test]
    fn what_is_no_file_of_vectors_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = encoded(folder.path());
        let open = |path: &Path| Vectors::open(path).err().unwrap().to_string();
        std::fs::write(
            path.with_extension("jsonl"),
            "{\"track\": \"songs/a.ogg\", \"row\": 0}\n",
        )
        .unwrap();
        assert!(open(&path).contains("encode from a library"));
        std::fs::write(&path, [0xff; 64]).unwrap();
        assert!(open(&path).contains("no safetensors file"));
        assert!(open(Path::new("nowhere")).contains("cannot read nowhere"));
    }

    #[test]
    fn names_are_plain_and_differ() {
        assert!(check_names(["text", "audio_2"]).is_ok());
        for (names, problem) in [
            (vec!["text", "text"], "two of it"),
            (vec!["Text"], "a-z"),
            (vec![""], "a-z"),
            (vec!["a.known"], "a-z"),
        ] {
            let error = check_names(names).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
