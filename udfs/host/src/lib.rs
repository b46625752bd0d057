//! Opens a plugin's dynamic library and calls it as Arroyo's worker does: one symbol, `__run`, that
//! takes columns and gives a column over the Arrow C data interface.
//!
//! For tests: `arroyo-udf-host` is not published, and its ABI types in `arroyo-udf-common` are. This
//! room does not know what any plugin computes.

use std::fmt;
use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, make_array};
use arrow::error::ArrowError;
use arrow::ffi::from_ffi;
use arroyo_udf_common::{FfiArraySchema, FfiArrays, RunResult};
use libloading::Library;

/// `arroyo-udf-host`'s `UdfDylibInterface::__run`, whose declaration this repeats.
type Run = unsafe extern "C-unwind" fn(FfiArrays) -> RunResult;

/// A loaded plugin. Its library stays mapped until the process ends: the memory of its results is
/// released by code inside it.
pub struct Plugin {
    path: PathBuf,
    run: Run,
}

/// Why a plugin gave no column.
#[derive(Debug)]
pub enum PluginError {
    /// The library could not be opened, or it has no `__run`.
    Open {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        detail: String,
    },
    /// A panic inside, caught at its boundary. Arroyo would restart the pipeline.
    Panicked {
        /// The library.
        path: PathBuf,
    },
    /// What came back is not an Arrow array.
    Result(ArrowError),
}

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PluginError::Open { path, detail } => write!(
                f,
                "cannot open plugin {}: {detail}; build it with `cargo build --workspace` in udfs",
                path.display()
            ),
            PluginError::Panicked { path } => {
                write!(f, "plugin {} panicked on this batch", path.display())
            }
            PluginError::Result(error) => write!(f, "plugin's result: {error}"),
        }
    }
}

impl std::error::Error for PluginError {}

impl Plugin {
    /// Loads the library at `path`.
    ///
    /// # Errors
    /// [`PluginError::Open`] if there is none or it is not a plugin.
    #[allow(unsafe_code)]
    pub fn open(path: &Path) -> Result<Self, PluginError> {
        let failed = |error: libloading::Error| PluginError::Open {
            path: path.to_owned(),
            detail: error.to_string(),
        };
        // SAFETY: the plugins are this workspace's own and have no initialisers of their own; `Run`
        // is what arroyo-udf-macros 0.2.0 declares `__run` to be, and the library is never unloaded
        // (forgotten below), so the copied pointer stays good.
        let (library, run) = unsafe {
            let library = Library::new(path).map_err(failed)?;
            let run = *library.get::<Run>(b"__run").map_err(failed)?;
            (library, run)
        };
        std::mem::forget(library);
        Ok(Self {
            path: path.to_owned(),
            run,
        })
    }

    /// Calls the plugin with one batch: a column per argument. A scalar function gives as many rows,
    /// an aggregate gives one.
    ///
    /// # Errors
    /// [`PluginError::Panicked`] if the function panicked (a column of the wrong type does that
    /// too), [`PluginError::Result`] if its answer cannot be read.
    #[allow(unsafe_code)]
    pub fn call(&self, columns: &[ArrayRef]) -> Result<ArrayRef, PluginError> {
        let columns = FfiArrays::from_vec(columns.iter().map(|array| array.to_data()).collect());
        // SAFETY: `columns` passes to the plugin, which frees it with the same allocator (neither
        // side sets a global one).
        match unsafe { (self.run)(columns) } {
            RunResult::Ok(FfiArraySchema(array, schema)) => {
                // SAFETY: array and schema were exported together by the plugin's arrow, of the
                // same version as ours.
                let data = unsafe { from_ffi(array, &schema) }.map_err(PluginError::Result)?;
                Ok(make_array(data))
            }
            RunResult::Err => Err(PluginError::Panicked {
                path: self.path.clone(),
            }),
        }
    }
}
