//! Where the whole part of a file ends, after a process died while it wrote the last frame.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// How the bytes of a file are packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Packing {
    /// Not at all.
    Plain,
    /// gzip members, end to end.
    Gzip,
    /// zstd frames, end to end.
    Zstd,
}

/// The length of `path` up to its last whole frame.
///
/// # Errors
/// What the system says; `InvalidData` if a frame is damaged that is not merely cut short, since
/// what follows it may be of worth.
pub(crate) fn whole_frames(path: &Path, packing: Packing) -> io::Result<u64> {
    let mut input = Consumed {
        input: BufReader::new(File::open(path)?),
        bytes: 0,
    };
    loop {
        let start = input.bytes;
        if input.fill_buf()?.is_empty() {
            return Ok(start);
        }
        let unpacked = match packing {
            Packing::Plain => io::copy(&mut input, &mut io::sink()),
            Packing::Gzip => {
                let mut member = flate2::bufread::GzDecoder::new(&mut input);
                io::copy(&mut member, &mut io::sink())
            }
            Packing::Zstd => {
                let mut frame = zstd::Decoder::with_buffer(&mut input)?.single_frame();
                io::copy(&mut frame, &mut io::sink())
            }
        };
        match unpacked {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(start),
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
}

/// The length of a text file up to its last line feed.
///
/// # Errors
/// What the system says.
pub(crate) fn whole_lines(path: &Path) -> io::Result<u64> {
    const BLOCK: u64 = 64 * 1024;
    let mut file = File::open(path)?;
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        Read::by_ref(&mut file)
            .take(end - start)
            .read_to_end(&mut block)?;
        if let Some(at) = memchr::memrchr(b'\n', &block) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Counts what a decoder takes, which is less than what is read ahead.
struct Consumed {
    input: BufReader<File>,
    bytes: u64,
}

impl Read for Consumed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

impl BufRead for Consumed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.input.consume(bytes);
    }
}
