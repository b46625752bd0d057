//! Embeds every line of the standard input and says how many there were; for timing.
//!
//!     time cargo run --release -p segue-encode --example embed_lines -- f32 < titles.txt

use std::io::BufRead;
use std::path::PathBuf;

use segue_encode::text::TextEncoder;
use segue_nn::device::{DevicePreference, Precision, choose};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let precision = match std::env::args().nth(1).as_deref() {
        Some("f32") => Precision::F32,
        Some("bf16") => Precision::Bf16,
        _ => Precision::Auto,
    };
    let device = choose(DevicePreference::Auto);
    let models = std::env::var_os("SEGUE_MODELS").map_or_else(|| ".models".into(), PathBuf::from);
    let mut encoder = TextEncoder::load(&models.join("minilm"), device.device, precision)?;
    let lines = std::io::stdin()
        .lock()
        .lines()
        .collect::<Result<Vec<_>, _>>()?;
    let texts: Vec<&str> = lines.iter().map(String::as_str).collect();
    let rows = embedded(&mut encoder, &texts)?;
    println!("{} texts, {rows} values; {}", texts.len(), device.reason);
    Ok(())
}

fn embedded(encoder: &mut TextEncoder, texts: &[&str]) -> Result<usize, segue_encode::EncodeError> {
    let mut values = 0;
    for some in texts.chunks(4096) {
        values += encoder.embed(some)?.len();
    }
    Ok(values)
}
