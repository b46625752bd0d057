//! Where and from which sources a figure was taken.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use segue_flow::clock::time_of_day;
use segue_listen::EventTime;
use serde::Serialize;

/// The machine, as far as it says.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: Option<String>,
    /// The GPUs' names, where the driver's own tool tells them.
    pub gpus: Vec<String>,
    /// How many cores this process may use.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: Option<u64>,
    /// Runnable processes over the last minute when the run ended: more than one says that the
    /// machine was shared.
    pub load: Option<f64>,
}

impl Machine {
    /// This machine, now.
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let cpu = read("/proc/cpuinfo").and_then(|text| field(&text, "model name"));
        let memory = read("/proc/meminfo").and_then(|text| kibibytes(&text, "MemTotal"));
        let load = read("/proc/loadavg").and_then(|t| t.split(' ').next()?.parse().ok());
        Self {
            cpu,
            gpus: gpus(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory.map(|kib| kib / 1024),
            load,
        }
    }
}

/// What `nvidia-smi` lists; nothing where it is not there.
fn gpus() -> Vec<String> {
    let asked = Command::new("nvidia-smi")
        .args(["--query-gpu=name", "--format=csv,noheader"])
        .output();
    let told = asked.ok().filter(|told| told.status.success());
    let text = told.map_or_else(String::new, |told| {
        String::from_utf8_lossy(&told.stdout).into_owned()
    });
    text.lines().map(str::to_owned).collect()
}

/// The value of `name: value` in a text of such lines.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// The value of `name: 123 kB`.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.split(' ').next()?.parse().ok()
}

/// The most memory this process has held, in KiB (`VmHWM`); `None` where the system does not say.
pub fn peak_memory_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    kibibytes(&status, "VmHWM")
}

/// The memory that a process holds now, in KiB (`VmRSS`); `None` where it is gone, or the system does
/// not say.
pub fn resident_kib(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    kibibytes(&status, "VmRSS")
}

/// How long all threads of this process have run on a core so far; `None` where the system does not
/// say. Good to a hundredth of a second.
pub fn core_time() -> Option<Duration> {
    // Linux, proc_pid_stat(5): the 14th and 15th field, in ticks, which are 10 ms for all programs.
    // The second, a name in brackets, may have blanks.
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|ticks| ticks.parse().unwrap_or(0)).sum();
    Some(Duration::from_millis(10 * ticks))
}

/// The commit of the sources; `None` outside a checkout.
pub fn commit() -> Option<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("git")
        .args(["rev-parse", "HEAD"])
        .current_dir(here)
        .output()
        .ok()?;
    let hash = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !hash.trim().is_empty()).then(|| hash.trim().to_owned())
}

/// The date and time, RFC 3339 in UTC.
pub fn date() -> String {
    let since = time_of_day().duration_since(UNIX_EPOCH).unwrap_or_default();
    EventTime::from_millis(i64::try_from(since.as_secs()).unwrap_or(0) * 1_000).to_rfc3339()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let text = "Name:\tx\nVmHWM:\t    2048 kB\nmodel name\t: A: B\n";
        assert_eq!(kibibytes(text, "VmHWM"), Some(2048));
        assert_eq!(field(text, "model name").as_deref(), Some("A: B"));
        assert_eq!(kibibytes(text, "VmPeak"), None);
        assert_eq!(date().len(), 20);
        assert!(resident_kib(std::process::id()) > Some(1_000));
    }
}
