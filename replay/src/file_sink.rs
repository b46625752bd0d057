//! A sink that is a file: JSON lines, MessagePack values end to end, or LastFM-1K's columns; plain or
//! compressed. An epoch is one whole frame, so that what is committed can always be read.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use segue_flow::{Epoch, OffsetRange, OutRecord, Sink, SinkError};
use segue_listen::wire::{self, Decoded, Format};
use segue_listen::{ListenRef, TrackKey};

use crate::torn::{Packing, whole_frames, whole_lines};

/// zstd's default level.
const ZSTD_LEVEL: i32 = 3;

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    JsonLines,
    MessagePack,
    LastFm,
}

/// A file of listens. Heartbeats are left out: the order of the listens says the same.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    file: File,
    form: Form,
    packing: Packing,
    /// The length of what is committed, in bytes.
    committed: u64,
    open: Option<Epoch>,
    pending: Vec<u8>,
}

impl FileSink {
    /// A new file. Its name says what is written: `.jsonl`, `.msgpack` or `.tsv`, and `.gz` or
    /// `.zst` after it. LastFM-1K's columns hold no lengths and no time played.
    ///
    /// # Errors
    /// [`SinkError::Refused`]: the name says nothing known, the file exists or cannot be made.
    pub fn create(path: &Path) -> Result<Self, SinkError> {
        Self::open(path, File::options().write(true).create_new(true))
    }

    /// A file that is written on, or a new one: for a replay that goes on where it stopped. An epoch
    /// that was being written when the process died is cut off first, except in a plain `.msgpack`,
    /// whose values cannot be told apart from behind.
    ///
    /// # Errors
    /// As [`FileSink::create`], but for a file that exists; a file that is damaged before its end.
    pub fn append(path: &Path) -> Result<Self, SinkError> {
        let mut options = File::options();
        let mut sink = Self::open(path, options.write(true).create(true).truncate(false))?;
        let whole = match (sink.form, sink.packing) {
            (Form::MessagePack, Packing::Plain) => Ok(sink.committed),
            (_, Packing::Plain) => whole_lines(path),
            (_, packing) => whole_frames(path, packing),
        };
        let whole = whole.map_err(|error| SinkError::Refused {
            what: path.display().to_string(),
            detail: format!("cannot be written on: {error}; name another file or remove it"),
        })?;
        if whole < sink.committed {
            let cut = sink.committed - whole;
            tracing::warn!(path = %path.display(), cut, "bytes of an unfinished epoch are cut off");
        }
        sink.committed = whole;
        sink.rewind().map_err(|e| failed(path, &e))?;
        Ok(sink)
    }

    fn open(path: &Path, options: &std::fs::OpenOptions) -> Result<Self, SinkError> {
        let (form, packing) = form_of(path).ok_or_else(|| SinkError::Refused {
            what: path.display().to_string(),
            detail: "end its name in .jsonl, .msgpack or .tsv, and .gz or .zst after it".to_owned(),
        })?;
        let mut file = options.open(path).map_err(|error| {
            let remedy = match error.kind() {
                std::io::ErrorKind::AlreadyExists => "; name another file or remove it",
                _ => "; check the folder and its permissions",
            };
            SinkError::Refused {
                what: path.display().to_string(),
                detail: format!("{error}{remedy}"),
            }
        })?;
        let committed = file.seek(SeekFrom::End(0)).map_err(|e| failed(path, &e))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            form,
            packing,
            committed,
            open: None,
            pending: Vec::new(),
        })
    }

    /// How values must be encoded for this file ([`crate::DeliverySettings::format`]).
    pub const fn format(&self) -> Format {
        match self.form {
            Form::JsonLines => Format::Json,
            Form::MessagePack | Form::LastFm => Format::MessagePack,
        }
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn check(&self, epoch: Epoch) -> Result<(), SinkError> {
        if self.open == Some(epoch) {
            return Ok(());
        }
        let (open, asked) = (self.open, epoch);
        Err(SinkError::Misuse(format!(
            "{open:?} is open, not {asked:?}"
        )))
    }

    /// Puts the file back to what is committed.
    fn rewind(&mut self) -> std::io::Result<()> {
        self.file.set_len(self.committed)?;
        self.file.seek(SeekFrom::Start(self.committed)).map(|_| ())
    }

    fn put(&mut self) -> std::io::Result<()> {
        match self.packing {
            Packing::Plain => self.file.write_all(&self.pending)?,
            Packing::Gzip => {
                let level = flate2::Compression::default();
                let mut frame = flate2::write::GzEncoder::new(&mut self.file, level);
                frame.write_all(&self.pending)?;
                frame.finish()?;
            }
            Packing::Zstd => {
                zstd::stream::copy_encode(self.pending.as_slice(), &mut self.file, ZSTD_LEVEL)?;
            }
        }
        self.file.sync_data()?;
        self.committed = self.file.stream_position()?;
        Ok(())
    }
}

impl Sink for FileSink {
    fn begin(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        if let Some(open) = self.open {
            return Err(SinkError::Misuse(format!("{open:?} is still open")));
        }
        self.pending.clear();
        self.open = Some(epoch);
        Ok(())
    }

    fn write(&mut self, record: OutRecord<'_>) -> Result<(), SinkError> {
        if self.open.is_none() {
            return Err(SinkError::Misuse("no epoch is open".to_owned()));
        }
        let refused = |detail: String| SinkError::Refused {
            what: format!(
                "{}: a record of topic {}",
                self.path.display(),
                record.topic
            ),
            detail,
        };
        let (Some(value), Some(_)) = (record.value, record.key) else {
            return Ok(());
        };
        let stated = record
            .headers
            .iter()
            .find(|(name, _)| *name == "content-type")
            .and_then(|(_, value)| Format::from_content_type(value));
        if stated != Some(self.format()) {
            let wanted = self.format().content_type();
            return Err(refused(format!("is not {wanted}; set the format to it")));
        }
        match self.form {
            Form::JsonLines => {
                self.pending.extend_from_slice(value);
                self.pending.push(b'\n');
            }
            Form::MessagePack => self.pending.extend_from_slice(value),
            Form::LastFm => match wire::decode(value, Format::MessagePack) {
                Ok(Decoded::Listen(listen)) => write_row(listen.listen(), &mut self.pending),
                Ok(Decoded::Heartbeat(_)) => {}
                Err(error) => return Err(refused(error.to_string())),
            },
        }
        Ok(())
    }

    fn commit(&mut self, epoch: Epoch, _: &[OffsetRange]) -> Result<(), SinkError> {
        self.check(epoch)?;
        if !self.pending.is_empty()
            && let Err(error) = self.put()
        {
            // Nothing of it may stay, or the file would hold half a frame.
            let second = self.rewind().err();
            let second = second.map_or(String::new(), |second| format!("; then {second}"));
            return Err(failed_with(&self.path, format!("{error}{second}")));
        }
        self.open = None;
        self.pending.clear();
        Ok(())
    }

    fn abort(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.check(epoch)?;
        self.open = None;
        self.pending.clear();
        self.rewind().map_err(|e| failed(&self.path, &e))
    }
}

fn failed(path: &Path, error: &std::io::Error) -> SinkError {
    failed_with(path, error.to_string())
}

fn failed_with(path: &Path, detail: String) -> SinkError {
    SinkError::Refused {
        what: path.display().to_string(),
        detail: format!("cannot be written: {detail}; check its free space and permissions"),
    }
}

fn form_of(path: &Path) -> Option<(Form, Packing)> {
    let name = path.file_name()?.to_str()?;
    let (name, packing) = match name.rsplit_once('.')? {
        (rest, "gz") => (rest, Packing::Gzip),
        (rest, "zst") => (rest, Packing::Zstd),
        _ => (name, Packing::Plain),
    };
    let form = match name.rsplit_once('.')?.1 {
        "jsonl" => Form::JsonLines,
        "msgpack" => Form::MessagePack,
        "tsv" => Form::LastFm,
        _ => return None,
    };
    Some((form, packing))
}

/// A row as LastFM-1K has it. Tabs and line ends inside names become spaces: the columns know no
/// escape.
pub fn write_row(listen: ListenRef<'_>, out: &mut Vec<u8>) {
    let mut text = |text: &str| {
        let plain = |byte| match byte {
            b'\t' | b'\n' | b'\r' => b' ',
            other => other,
        };
        out.extend(text.bytes().map(plain));
        out.push(b'\t');
    };
    text(listen.user);
    text(&listen.at.to_rfc3339());
    text("");
    text(listen.artist);
    if TrackKey::from_names(listen.artist, listen.title) == listen.track {
        text("");
    } else {
        text(&listen.track.to_string());
    }
    text(listen.title);
    if let Some(last) = out.last_mut() {
        *last = b'\n';
    }
}
