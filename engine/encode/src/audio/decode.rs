//! Audio files as samples, a stretch at a time.
//!
//! Files come from anywhere: a header may promise ten hours that are not there, a name may be of
//! another format, bytes may be made to break a decoder. What a stretch takes is bounded by its own
//! length, whatever the file says, and [`fenced`] turns a panic inside the decoders (they are
//! another crate's, and index) into an error of the one file.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use symphonia::core::audio::GenericAudioBufferRef;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, SeekMode, SeekTo, Track, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Time, TimeBase};

use super::error::{AudioError, Problem};

/// Before a stretch, so much is decoded and left out: lossy formats need what came before to be
/// exact (mp3's bit reservoir, the overlap of vorbis and aac).
const RUN_UP: f64 = 0.5;
/// Nearer to the start than this there is no seeking: decoding from the start is as quick and exact
/// in every format.
const SEEK_BEYOND: f64 = 10.0;
/// No format of music has a higher rate; a header that says so would take memory for nothing.
const RATE_AT_MOST: u32 = 768_000;
/// Louder than this times full scale is no amplitude: a file of floats has something else in it.
const LOUD_AT_MOST: f32 = 1000.0;

/// Samples between -1 and 1, a row for each channel.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// Per channel, all of one length.
    pub channels: Vec<Vec<f32>>,
    /// Per second.
    pub rate: u32,
}

impl Samples {
    /// Samples of each channel.
    pub fn frames(&self) -> usize {
        self.channels.first().map_or(0, Vec::len)
    }

    /// Their length.
    pub fn seconds(&self) -> f64 {
        self.frames() as f64 / f64::from(self.rate.max(1))
    }

    /// The largest amplitude.
    pub fn peak(&self) -> f32 {
        let all = self.channels.iter().flatten();
        all.fold(0.0, |peak, sample| sample.abs().max(peak))
    }
}

/// An open file, and the one track in it that is listened to.
pub struct AudioFile {
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    time_base: Option<TimeBase>,
    claimed: Option<f64>,
    /// A file cannot have more packets than bytes: what goes on longer goes round in circles.
    packets_left: u64,
}

impl AudioFile {
    /// Opens a file. Its bytes decide what it is; its name only says what to try first.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        let file = File::open(path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(Problem::Unknown("not a plain file".into()));
        }
        if about.len() == 0 {
            return Err(Problem::Unknown("empty".into()));
        }
        let mut hint = Hint::new();
        if let Some(extension) = path.extension().and_then(|e| e.to_str()) {
            hint.with_extension(extension);
        }
        let stream = MediaSourceStream::new(Box::new(file), Default::default());
        let unknown = |error: Error| match error {
            Error::IoError(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
                Problem::Read(error)
            }
            error => Problem::Unknown(error.to_string()),
        };
        let format = symphonia::default::get_probe()
            .probe(
                &hint,
                stream,
                FormatOptions::default(),
                MetadataOptions::default(),
            )
            .map_err(unknown)?;
        let track = format
            .default_track(TrackType::Audio)
            .ok_or_else(|| Problem::Unknown("no audio track in it".into()))?;
        let Some(CodecParameters::Audio(parameters)) = &track.codec_params else {
            return Err(Problem::Unknown("an audio track of no known codec".into()));
        };
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(parameters, &AudioDecoderOptions::default())
            .map_err(unknown)?;
        Ok(Self {
            decoder,
            track: track.id,
            time_base: track.time_base,
            claimed: claimed(track, parameters.sample_rate),
            packets_left: about.len().saturating_add(1024),
            format,
        })
    }

    /// How long the file says it is, in seconds. Some do not say, and some are wrong.
    pub fn claimed_seconds(&self) -> Option<f64> {
        self.claimed
    }

    /// How long the file is, in seconds: all of it is read, nothing decoded.
    pub fn measured_seconds(mut self) -> Result<f64, Problem> {
        let mut ticks = 0u64;
        while let Some(packet) = self.next_packet() {
            ticks = ticks.saturating_add(packet.dur.get());
        }
        let seconds = seconds_of(self.time_base, Duration::new(ticks));
        seconds.ok_or_else(|| Problem::Damaged("its packets have no length".into()))
    }

    /// The samples from a second on, for so many seconds, or to the end. One channel is the mean of
    /// all; of two, a file of one has twice the same.
    pub fn read(&mut self, from: f64, seconds: f64, channels: usize) -> Result<Samples, Problem> {
        let sought = from - RUN_UP > SEEK_BEYOND;
        if sought {
            self.seek(from - RUN_UP)?;
        }
        let mut stretch = Stretch {
            samples: Samples {
                channels: vec![Vec::new(); channels.max(1)],
                rate: 0,
            },
            planes: Vec::new(),
            from,
            seconds,
            at: 0.0,
            place: None,
            strange: 0,
        };
        let (mut good, mut bad) = (0usize, 0usize);
        while !stretch.is_whole() {
            let Some(packet) = self.next_packet() else {
                break;
            };
            // After a seek the packets say where they are; once it has begun, the samples do.
            if sought && stretch.samples.frames() == 0 {
                let time = self.time_base.and_then(|base| base.calc_time(packet.pts));
                stretch.at = time.map_or(stretch.at, |time| time.as_secs_f64());
                stretch.place = None;
            }
            match self.decoder.decode(&packet) {
                Ok(decoded) => {
                    good += 1;
                    if !stretch.take(&decoded)? {
                        break;
                    }
                }
                Err(Error::DecodeError(_) | Error::IoError(_)) => {
                    bad += 1;
                    stretch.miss(seconds_of(self.time_base, packet.dur).unwrap_or(0.0));
                }
                Err(error) => return Err(Problem::Damaged(error.to_string())),
            }
        }
        if bad > good {
            let all = good + bad;
            return Err(Problem::Damaged(format!(
                "{bad} of {all} packets cannot be decoded"
            )));
        }
        stretch.checked()
    }

    /// Goes to a packet at or before a second.
    fn seek(&mut self, to: f64) -> Result<(), Problem> {
        let damaged =
            |what: String| Problem::Damaged(format!("cannot go to second {to:.1}: {what}"));
        let time = Time::try_from_secs_f64(to).ok_or_else(|| damaged("no such time".into()))?;
        let target = SeekTo::Time {
            time,
            track_id: Some(self.track),
        };
        self.format
            .seek(SeekMode::Accurate, target)
            .map_err(|error| damaged(error.to_string()))?;
        self.decoder.reset();
        Ok(())
    }

    /// The next packet of the track; none at the end, which a damaged file has early.
    fn next_packet(&mut self) -> Option<Packet> {
        while self.packets_left > 0 {
            self.packets_left -= 1;
            let packet = self.format.next_packet().ok()??;
            if packet.track_id == self.track {
                return Some(packet);
            }
        }
        None
    }
}

/// What a track's header says of its length, in seconds.
fn claimed(track: &Track, rate: Option<u32>) -> Option<f64> {
    let by_time = track
        .duration
        .and_then(|duration| seconds_of(track.time_base, duration));
    let by_frames = || Some(track.num_frames? as f64 / f64::from(rate.filter(|&r| r > 0)?));
    by_time.or_else(by_frames).filter(|&seconds| seconds > 0.0)
}

fn seconds_of(base: Option<TimeBase>, duration: Duration) -> Option<f64> {
    base?.calc_duration(duration).map(|time| time.as_secs_f64())
}

/// A stretch of a track while it is decoded.
struct Stretch {
    samples: Samples,
    /// One packet, reused.
    planes: Vec<Vec<f32>>,
    from: f64,
    seconds: f64,
    /// Where the next packet begins, in seconds; until a rate is known and `place` says it.
    at: f64,
    /// The same in samples after the beginning of the stretch.
    place: Option<i64>,
    strange: usize,
}

impl Stretch {
    fn wanted(&self) -> usize {
        (self.seconds * f64::from(self.samples.rate)).round() as usize
    }

    fn is_whole(&self) -> bool {
        self.samples.rate > 0 && self.samples.frames() >= self.wanted()
    }

    /// Adds a packet; `false` if the track goes on at another rate, as only files glued together
    /// do: it ends there.
    fn take(&mut self, decoded: &GenericAudioBufferRef<'_>) -> Result<bool, Problem> {
        let (rate, frames) = (decoded.spec().rate(), decoded.frames());
        if frames == 0 {
            return Ok(true);
        }
        if rate == 0 || rate > RATE_AT_MOST || decoded.num_planes() == 0 {
            return Err(Problem::Damaged(format!(
                "{} channels at {rate} samples a second",
                decoded.num_planes()
            )));
        }
        if self.samples.rate == 0 {
            self.samples.rate = rate;
        }
        if self.samples.rate != rate {
            return Ok(false);
        }
        let place = self.place();
        self.place = Some(place.saturating_add(frames as i64));
        // What was missed is silence, so that what follows keeps its place.
        let have = self.samples.frames();
        let missed = usize::try_from(place).map_or(0, |place| place.saturating_sub(have));
        let missed = missed.min(self.wanted().saturating_sub(have));
        for row in &mut self.samples.channels {
            row.resize(have + missed, 0.0);
        }
        let skip = usize::try_from(place.saturating_neg()).unwrap_or(0);
        let take = self.wanted().saturating_sub(have + missed);
        let take = take.min(frames.saturating_sub(skip));
        if take == 0 {
            return Ok(true);
        }
        decoded.copy_to_vecs_planar::<f32>(&mut self.planes);
        for plane in &mut self.planes {
            for sample in plane.iter_mut() {
                // Whatever is not a sound is silence, and counted.
                if sample.is_nan() || sample.abs() > LOUD_AT_MOST {
                    *sample = 0.0;
                    self.strange += 1;
                }
            }
        }
        let one = self.samples.channels.len() == 1;
        let share = 1.0 / self.planes.len() as f32;
        for (number, row) in self.samples.channels.iter_mut().enumerate() {
            let plane = self.planes.get(number).or(self.planes.last());
            match plane {
                Some(_) if one => row.extend((skip..skip + take).map(|frame| {
                    let all = self.planes.iter().filter_map(|plane| plane.get(frame));
                    all.sum::<f32>() * share
                })),
                Some(plane) => row.extend(plane.iter().skip(skip).take(take)),
                None => {}
            }
        }
        Ok(true)
    }

    /// Leaves out a packet that is not readable.
    fn miss(&mut self, seconds: f64) {
        match self.place {
            Some(place) => {
                let frames = (seconds * f64::from(self.samples.rate)).round() as i64;
                self.place = Some(place.saturating_add(frames));
            }
            None => self.at += seconds,
        }
    }

    fn place(&self) -> i64 {
        let at = (self.at - self.from) * f64::from(self.samples.rate);
        self.place.unwrap_or(at.round() as i64)
    }

    fn checked(self) -> Result<Samples, Problem> {
        let all = self.samples.frames() * self.planes.len().max(1);
        // A few broken samples are a scratch; more, and it is not sound.
        if self.strange * 100 > all {
            return Err(Problem::NotSound {
                strange: self.strange,
                all,
            });
        }
        Ok(self.samples)
    }
}

/// Runs what reads one file, and gives its failure that file's name, be it a panic.
pub fn fenced<T>(
    path: &Path,
    read: impl FnOnce(&Path) -> Result<T, Problem>,
) -> Result<T, AudioError> {
    let done = catch_unwind(AssertUnwindSafe(|| read(path))).unwrap_or_else(|payload| {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Err(Problem::Broken(text.unwrap_or_default()))
    });
    done.map_err(|problem| AudioError {
        path: PathBuf::from(path),
        problem,
    })
}
