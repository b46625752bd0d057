//! Lets a program that links libtorch find it at run time without `LD_LIBRARY_PATH`.
//!
//! Linker arguments do not travel from a library to the programs that use it, so every package
//! with a program, test or benchmark that reaches libtorch names this one file in its `Cargo.toml`:
//! `build = "../nn/build.rs"`. Without libtorch in place it does nothing there; in `segue-nn`
//! itself, which all of them stand on, it stops the build with the remedy, before the C++ of
//! torch-sys fails with pages of missing headers.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let folder = env::var_os("LIBTORCH")
        .map(PathBuf::from)
        .unwrap_or_default();
    let lib = folder.join("lib");
    println!(
        "cargo::rerun-if-changed={}",
        lib.join("libtorch_cpu.so").display()
    );
    let is_nn = env::var("CARGO_PKG_NAME").is_ok_and(|name| name == "segue-nn");
    if !lib.join("libtorch_cpu.so").exists() {
        if is_nn {
            println!(
                "cargo::error=libtorch is not in {}: run `make setup` (or `python3 \
                 config/setup/setup.py torch`), or set LIBTORCH to a libtorch 2.11.0",
                if folder.as_os_str().is_empty() {
                    ".libtorch".into()
                } else {
                    folder.display().to_string()
                },
            );
        }
        return;
    }
    // The old kind of tag (RPATH) also serves libtorch's own look-ups of libcudart and libcupti.
    println!(
        "cargo::rustc-link-arg=-Wl,--disable-new-dtags,-rpath,{}",
        lib.display()
    );
    if is_nn {
        // Where to look for the CUDA half at run time: see `device.rs`.
        println!("cargo::rustc-env=SEGUE_LIBTORCH_BUILT={}", folder.display());
    }
}
