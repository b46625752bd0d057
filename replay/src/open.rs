//! A file as a stream of its unpacked bytes: plain, gzip or zstd by its first bytes, never unpacked
//! to disk.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::ReplayError;
use crate::lines::read_some;

/// How many bytes of the file (packed, as on disk) were read so far; shared with a progress bar.
pub type BytesRead = Arc<AtomicU64>;

const BUFFER_BYTES: usize = 256 * 1024;

/// Opens `path` and unpacks it on the way.
///
/// # Errors
/// [`ReplayError::Read`], [`ReplayError::Empty`].
pub fn open(path: &Path, counter: &BytesRead) -> Result<Box<dyn Read + Send>, ReplayError> {
    let fail = |error| ReplayError::read(path, error);
    let mut file = File::open(path).map_err(fail)?;
    let mut magic = [0u8; 4];
    let mut known = 0;
    while known < magic.len() {
        match read_some(&mut file, magic.get_mut(known..).unwrap_or(&mut [])).map_err(fail)? {
            0 => break,
            read => known += read,
        }
    }
    if known == 0 {
        return Err(ReplayError::Empty {
            path: path.to_owned(),
        });
    }
    let start = io::Cursor::new(magic).take(known as u64);
    let counted = Counted {
        input: start.chain(file),
        counter: counter.clone(),
    };
    let buffered = BufReader::with_capacity(BUFFER_BYTES, counted);
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(Unpacked {
            input: flate2::bufread::MultiGzDecoder::new(buffered),
            form: "gzip",
        }),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(Unpacked {
            input: zstd::Decoder::with_buffer(buffered).map_err(fail)?,
            form: "zstd",
        }),
        _ => Box::new(buffered),
    })
}

/// The error of a stream that [`open`] made, with the file's name.
pub(crate) fn input_error(path: &Path, error: io::Error) -> ReplayError {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(Damage { form, detail }) => ReplayError::Damaged {
            path: path.to_owned(),
            form,
            detail: detail.clone(),
        },
        None => ReplayError::read(path, error),
    }
}

/// Says of a stream that ended too early.
pub(crate) fn damage(form: &'static str, detail: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Damage { form, detail })
}

#[derive(Debug)]
struct Damage {
    form: &'static str,
    detail: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "damaged {} data: {}", self.form, self.detail)
    }
}

impl std::error::Error for Damage {}

struct Counted<R> {
    input: R,
    counter: BytesRead,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        self.counter.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// A decoder whose errors say which form was damaged.
struct Unpacked<R> {
    input: R,
    form: &'static str,
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.input.read(into).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            io::ErrorKind::UnexpectedEof => damage(self.form, "it ends in the middle".to_owned()),
            _ => damage(self.form, error.to_string()),
        })
    }
}
