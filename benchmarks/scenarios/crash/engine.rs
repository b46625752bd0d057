//! The binary under its configuration file, started again and again, and its checkpoints on disk.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use rand::Rng;
use segue_flow::clock::{MachineClock, WallClock};

use super::{LANES, LISTENS};

/// How often one who waits looks.
const LOOK: Duration = Duration::from_millis(50);

/// How checkpoints are laid out.
const MANIFEST: &str = "manifest.json";

/// What a run writes, by the keys of `[recommend.topics]`.
const OUTPUTS: [&str; 4] = ["predictions", "sessions", "late", "dead_letters"];

/// The engine of one name: its group, its output topics and its checkpoints are its own.
pub struct Engine {
    binary: PathBuf,
    name: &'static str,
    brokers: String,
    folder: PathBuf,
    /// How often the checkpoints were moved to another folder.
    moved: u32,
}

impl Engine {
    /// An engine that keeps its files under `folder`.
    pub fn new(
        binary: &Path,
        name: &'static str,
        brokers: String,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let engine = Self {
            binary: binary.to_owned(),
            name,
            brokers,
            folder: folder.to_owned(),
            moved: 0,
        };
        engine.configure()?;
        Ok(engine)
    }

    /// An output topic.
    pub fn topic(&self, output: &str) -> String {
        format!("{}-{output}", self.name)
    }

    /// Where checkpoints are.
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints(self.folder.join(format!("{}-{}", self.name, self.moved)))
    }

    /// From now on checkpoints lie in a copy of what they are now: those of another machine.
    pub fn move_checkpoints(&mut self) -> anyhow::Result<()> {
        let from = self.checkpoints();
        self.moved += 1;
        copy(&from.0, &self.checkpoints().0)?;
        self.configure()
    }

    fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.toml", self.name))
    }

    fn configure(&self) -> anyhow::Result<()> {
        let topics = OUTPUTS.map(|output| format!("{output} = {:?}\n", self.topic(output)));
        let text = format!(
            "[stream]\ntopic = {LISTENS:?}\nlanes = {LANES}\n\
             [recommend]\nexact = true\n[recommend.topics]\n{}\
             [checkpoint]\nurl = {:?}\nevery = \"150ms\"\n\
             [kafka]\nbrokers = {:?}\ngroup = {:?}\n",
            topics.concat(),
            self.checkpoints().0,
            self.brokers,
            self.name,
        );
        std::fs::write(self.file(), text).context("the engine's configuration")
    }

    /// Starts it; what it says goes into a file that `log` names.
    pub fn start(&self, log: &str, arguments: &[&str]) -> anyhow::Result<Running> {
        let log = self.folder.join(format!("{}-{log}.log", self.name));
        // It lives with the signal of a file that may not grow, and sees the error: see `leave_room`.
        let child = Command::new("/bin/sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(&self.binary)
            .arg("--config")
            .arg(self.file())
            .args(["run", "--on", "kafka"])
            .args(arguments)
            .env("SEGUE_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| self.binary.display().to_string())?;
        Ok(Running { child, log })
    }
}

impl Engine {
    /// Reads every part of every checkpoint, as a user does who wants to know.
    pub fn verify(&self) -> anyhow::Result<()> {
        let output = Command::new(&self.binary)
            .arg("--config")
            .arg(self.file())
            .args(["checkpoint", "verify"])
            .output()
            .with_context(|| self.binary.display().to_string())?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        ensure!(output.status.success(), "a checkpoint is not whole: {said}");
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to)?,
            false => drop(std::fs::copy(entry.path(), to)?),
        }
    }
    Ok(())
}

/// A process of the engine; killed when dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// `kill -9`.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Stops it where it is, by a signal that it cannot see.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal("STOP")
    }

    /// Lets it go on.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal("CONT")
    }

    fn signal(&self, name: &str) -> anyhow::Result<()> {
        let signal = format!("kill -{name} {}", self.child.id());
        let status = Command::new("/bin/sh").args(["-c", &signal]).status()?;
        ensure!(status.success(), "{signal}: {status}");
        Ok(())
    }

    /// Lets it write so many bytes into one file at most, from now on: a disk that fills up, and has
    /// room again. It writes no files but checkpoints.
    pub fn leave_room(&self, bytes: &str) -> anyhow::Result<()> {
        let status = Command::new("prlimit")
            .args(["--pid", &self.child.id().to_string()])
            .arg(format!("--fsize={bytes}:"))
            .status()
            .context("prlimit (of util-linux)")?;
        ensure!(status.success(), "prlimit --fsize={bytes}: {status}");
        Ok(())
    }

    /// Waits until it has said something so often.
    pub fn says(&self, what: &str, times: usize, within: Duration) -> anyhow::Result<()> {
        let clock = MachineClock::start();
        while self.said().matches(what).count() < times {
            ensure!(
                clock.now() < within,
                "{what:?} not said {times} times within {within:?}: {}",
                self.said()
            );
            clock.sleep(LOOK);
        }
        Ok(())
    }

    /// How it ended, if it did so by itself within a time.
    pub fn ended_within(&mut self, within: Duration) -> anyhow::Result<Option<ExitStatus>> {
        let clock = MachineClock::start();
        loop {
            let ended = self.child.try_wait()?;
            let left = within.saturating_sub(clock.now());
            if ended.is_some() || left.is_zero() {
                return Ok(ended);
            }
            clock.sleep(left.min(LOOK));
        }
    }

    /// What it said.
    pub fn said(&self) -> String {
        let said = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&said).trim().to_owned()
    }

    /// Waits for its good end.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let status = self.child.wait()?;
        ensure!(status.success(), "ended with {status}: {}", self.said());
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // In vain where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder of checkpoints.
pub struct Checkpoints(PathBuf);

impl Checkpoints {
    /// The newest sealed one's number and folder.
    fn newest(&self) -> Option<(u64, PathBuf)> {
        let folders = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let sealed = folders.filter(|entry| entry.path().join(MANIFEST).is_file());
        let numbered = sealed.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
            Some((digits.parse().ok()?, entry.path()))
        });
        numbered.max()
    }

    /// The newest sealed one's number; 0 before the first.
    pub fn last(&self) -> u64 {
        self.newest().map_or(0, |(number, _)| number)
    }

    /// Waits until so many more are sealed.
    pub fn wait_for(&self, more: u64, within: Duration) -> anyhow::Result<()> {
        let (clock, before) = (MachineClock::start(), self.last());
        while self.last() < before + more {
            ensure!(clock.now() < within, "no checkpoints within {within:?}");
            clock.sleep(LOOK);
        }
        Ok(())
    }

    /// Damages the newest one: one byte of one part, both by chance, is another.
    pub fn damage(&self, rng: &mut impl Rng) -> anyhow::Result<Damage> {
        let (_, folder) = self.newest().context("no checkpoint to damage")?;
        let mut parts = Vec::new();
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if !path.ends_with(MANIFEST) && std::fs::metadata(&path)?.len() > 0 {
                parts.push(path);
            }
        }
        parts.sort();
        ensure!(!parts.is_empty(), "{} has no parts", folder.display());
        let part = parts.swap_remove(rng.random_range(0..parts.len()));
        let whole = std::fs::read(&part)?;
        let mut bytes = whole.clone();
        let place = rng.random_range(0..bytes.len());
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= 0x10;
        }
        std::fs::write(&part, bytes)?;
        Ok(Damage { part, whole })
    }
}

/// What was damaged, and what it was.
pub struct Damage {
    part: PathBuf,
    whole: Vec<u8>,
}

impl Damage {
    /// Brings the part back, as from a copy.
    pub fn mend(self) -> anyhow::Result<()> {
        std::fs::write(&self.part, self.whole).with_context(|| self.part.display().to_string())
    }
}
