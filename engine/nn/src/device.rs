//! Which device and precision to compute with, and the reason, fit for the first log line.
//!
//! The binary links only the CPU half of libtorch, so that it starts on any machine. Where a CUDA
//! build of the same libtorch is at hand, its `libtorch_cuda.so` is opened at run time and
//! registers itself. That must happen before the first tensor is made: call [`choose`] first.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

/// What the user asked for. Written `auto`, `cpu`, `cuda` or `cuda:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DevicePreference {
    /// CUDA if there is any, else the CPU.
    #[default]
    Auto,
    /// The CPU, whatever else there is.
    Cpu,
    /// The CUDA device of this number; the CPU if there is none.
    Cuda(usize),
}

/// The device that was chosen.
#[derive(Debug, Clone)]
pub struct DeviceChoice {
    /// Where tensors should live.
    pub device: Device,
    /// Why, in one line for people.
    pub reason: String,
}

/// The number format that models compute in. Weights are read as `f32` in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// `bf16` where the device multiplies it natively, else `f32`.
    #[default]
    Auto,
    /// 32 bits: what golden values are compared in.
    F32,
    /// 16 bits with the range of `f32`: about twice as fast where it is native.
    Bf16,
    /// 16 bits with more digits and less range: for GPUs without `bf16`, and for checkpoints such as
    /// LLaMA 2's that are published in it.
    F16,
}

impl Precision {
    /// The kind of tensor to compute with on a device.
    pub fn kind(self, device: Device) -> Kind {
        match self {
            Precision::F32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
            Precision::F16 => Kind::Half,
            Precision::Auto if bf16_is_native(device) => Kind::BFloat16,
            Precision::Auto => Kind::Float,
        }
    }
}

/// Whether a device multiplies `bf16` matrices in hardware.
///
/// On CPUs this asks for `avx512_bf16`; emulated `bf16` is slower than `f32`. CUDA devices since
/// Ampere have it, and older ones are not what one runs a model on.
pub fn bf16_is_native(device: Device) -> bool {
    match device {
        Device::Cpu => cpu_has_bf16(),
        Device::Cuda(_) => true,
        _ => false,
    }
}

#[cfg(target_arch = "x86_64")]
fn cpu_has_bf16() -> bool {
    std::arch::is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_has_bf16() -> bool {
    false
}

/// Limits the threads that one CPU operation is spread over; returns how many it will be.
///
/// `None` leaves libtorch's own choice, one per core.
pub fn limit_threads(threads: Option<usize>) -> usize {
    if let Some(threads) = threads {
        tch::set_num_threads(i32::try_from(threads.max(1)).unwrap_or(i32::MAX));
    }
    usize::try_from(tch::get_num_threads()).unwrap_or(1)
}

/// Chooses the device, opening the CUDA half of libtorch if it may be used and is there.
pub fn choose(preference: DevicePreference) -> DeviceChoice {
    let wanted = match preference {
        DevicePreference::Cpu => {
            return DeviceChoice {
                device: Device::Cpu,
                reason: "cpu, as configured".into(),
            };
        }
        DevicePreference::Auto => 0,
        DevicePreference::Cuda(number) => number,
    };
    let cpu = |why: String| DeviceChoice {
        device: Device::Cpu,
        reason: format!("cpu: {why}"),
    };
    let library = match CUDA_HALF.get_or_init(open_cuda_half) {
        Ok(library) => library,
        Err(why) => return cpu(why.clone()),
    };
    let count = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
    if !tch::Cuda::is_available() || count == 0 {
        return cpu(format!(
            "{} is loaded but sees no GPU (is the NVIDIA driver running?)",
            library.display()
        ));
    }
    if wanted >= count {
        return cpu(format!(
            "cuda:{wanted} was asked for, there are {count} CUDA devices"
        ));
    }
    DeviceChoice {
        device: Device::Cuda(wanted),
        reason: format!("cuda:{wanted} of {count}, through {}", library.display()),
    }
}

/// Opened once per process: libtorch cannot be unloaded.
static CUDA_HALF: OnceLock<Result<PathBuf, String>> = OnceLock::new();
const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// The folders that may hold the CUDA half, first the one the user names.
fn cuda_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(torch) = env::var_os("SEGUE_TORCH") {
        folders.push(Path::new(&torch).join("lib"));
    }
    // Where this program runs, and where it was built: set-up leaves a link named `cuda` there.
    let built = option_env!("SEGUE_LIBTORCH_BUILT").map(PathBuf::from);
    for libtorch in env::var_os("LIBTORCH")
        .map(PathBuf::from)
        .into_iter()
        .chain(built)
    {
        folders.push(libtorch.join("cuda"));
        folders.push(libtorch.join("lib"));
    }
    folders
}

fn open_cuda_half() -> Result<PathBuf, String> {
    let found = cuda_folders()
        .into_iter()
        .map(|f| f.join(CUDA_LIBRARY))
        .find(|p| p.exists());
    let Some(path) = found else {
        return Err(format!(
            "no {CUDA_LIBRARY} beside libtorch; for a GPU, pip install torch==2.11.0 and set \
             SEGUE_TORCH to its folder"
        ));
    };
    // It looks for its own parts relative to where it really is, so links are followed first.
    let path = path
        .canonicalize()
        .map_err(|e| format!("{}: {e}", path.display()))?;
    open_globally(&path).map_err(|e| {
        format!(
            "{} cannot be opened (is it of libtorch 2.11.0?): {e}",
            path.display()
        )
    })?;
    Ok(path)
}

#[cfg(unix)]
#[allow(unsafe_code)]
fn open_globally(path: &Path) -> Result<(), libloading::Error> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: loading runs the library's initialisers. It is libtorch's own CUDA half, from a
    // folder that the user or the build named; its initialisers register a backend and are meant
    // to be run by loading. It happens once, under a `OnceLock`, and it is never unloaded.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }?;
    std::mem::forget(library);
    Ok(())
}

#[cfg(not(unix))]
fn open_globally(_path: &Path) -> Result<(), String> {
    Err("only supported on Linux".into())
}

impl FromStr for DevicePreference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("device `{text}`: expected auto, cpu, cuda or cuda:N")),
        }
    }
}

impl TryFrom<String> for DevicePreference {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DevicePreference> for String {
    fn from(preference: DevicePreference) -> String {
        preference.to_string()
    }
}

impl fmt::Display for DevicePreference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_read_as_they_are_written() {
        for text in ["auto", "cpu", "cuda:0", "cuda:3"] {
            assert_eq!(text.parse::<DevicePreference>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DevicePreference::Cuda(0)));
        for text in ["", "gpu", "cuda:", "cuda:-1", "CPU"] {
            assert!(text.parse::<DevicePreference>().is_err(), "{text}");
        }
        let read: Result<DevicePreference, _> = serde_json::from_str("\"tpu\"");
        assert!(
            read.unwrap_err()
                .to_string()
                .contains("expected auto, cpu, cuda or cuda:N")
        );
    }

    #[test]
    fn every_choice_says_why() {
        assert_eq!(choose(DevicePreference::Cpu).device, Device::Cpu);
        for preference in [DevicePreference::Auto, DevicePreference::Cuda(7_000)] {
            let choice = choose(preference);
            let named = if choice.device.is_cuda() {
                "cuda:"
            } else {
                "cpu: "
            };
            assert!(choice.reason.starts_with(named), "{}", choice.reason);
        }
        assert_eq!(choose(DevicePreference::Cuda(7_000)).device, Device::Cpu);
    }

    #[test]
    fn an_explicit_precision_is_what_it_says() {
        assert_eq!(Precision::F32.kind(Device::Cpu), Kind::Float);
        assert_eq!(Precision::Bf16.kind(Device::Cpu), Kind::BFloat16);
        assert_eq!(Precision::F16.kind(Device::Cpu), Kind::Half);
    }
}
