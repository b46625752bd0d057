//! Segue's own JSON lines: the wire records that [`crate::FileSink`] writes. Heartbeats are passed
//! over, the order of the listens says the same.

use std::io::Read;
use std::ops::ControlFlow;

use segue_listen::wire::{self, Decoded, WireError};

use super::{Reading, Visit};
use crate::error::ReplayError;
use crate::lines::{Line, Lines};
use crate::open::input_error;
use crate::rejects::Reason;

/// Visits the listens of `input` in its own order.
///
/// # Errors
/// What the input or the visitor says. Bad rows go to the rejects.
pub fn read<R: Read>(
    input: R,
    reading: &mut Reading<'_>,
    mut visit: impl Visit,
) -> Result<ControlFlow<()>, ReplayError> {
    let mut lines = Lines::new(input, reading.settings.max_row_bytes);
    loop {
        let line = lines
            .next_line()
            .map_err(|e| input_error(reading.path, e))?;
        let (reason, row) = match line {
            None => return Ok(ControlFlow::Continue(())),
            Some(Line::TooLong { head, .. }) => (Reason::TooLong, head),
            Some(Line::Whole(row)) => match wire::decode(row, wire::Format::Json) {
                Ok(Decoded::Heartbeat(_)) => continue,
                Ok(Decoded::Listen(listen)) => match visit(listen.listen())? {
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(()) => return Ok(ControlFlow::Break(())),
                },
                Err(error) => (reason(row, &error), row),
            },
        };
        let row = row.to_vec();
        reading.reject(lines.number(), reason, &row)?;
    }
}

fn reason(row: &[u8], error: &WireError) -> Reason {
    match error {
        _ if std::str::from_utf8(row).is_err() => Reason::InvalidUtf8,
        WireError::Time(_) => Reason::ImplausibleTime,
        WireError::Missing { field: "user" } => Reason::NoUser,
        WireError::Missing { field: "at_ms" } => Reason::BadTime,
        WireError::Missing { .. } => Reason::NoTrack,
        WireError::Malformed { .. }
        | WireError::UnknownVersion { .. }
        | WireError::Length { .. } => Reason::BadJson,
    }
}
