//! LastFM-1K: `user \t time \t artist MBID \t artist \t track MBID \t track`, without a header.
//! Quotation marks are ordinary characters. O. Celma, Music Recommendation and Discovery in the Long
//! Tail (Springer 2010), <http://ocelma.net/MusicRecommendationDataset/lastfm-1K.html>.

use std::io::Read;
use std::ops::ControlFlow;

use segue_listen::ListenRef;

use super::{Reading, Visit};
use crate::error::ReplayError;
use crate::iso::{self, BadTime};
use crate::keys;
use crate::lines::{Line, Lines};
use crate::open::input_error;
use crate::rejects::Reason;

/// The log's name inside the published archive.
pub const FILE_NAME: &str = "userid-timestamp-artid-artname-traid-traname.tsv";

/// One row as a listen that borrows it.
///
/// # Errors
/// Why it is none.
pub fn parse(row: &[u8]) -> Result<ListenRef<'_>, Reason> {
    let row = std::str::from_utf8(row).map_err(|_| Reason::InvalidUtf8)?;
    let [user, time, _, artist, mbid, title] = columns(row).ok_or(Reason::WrongColumns)?;
    if user.is_empty() {
        return Err(Reason::NoUser);
    }
    let at = iso::parse(time).map_err(|bad| match bad {
        BadTime::Unreadable => Reason::BadTime,
        BadTime::Implausible => Reason::ImplausibleTime,
    })?;
    let track = keys::of(mbid, artist, title).ok_or(Reason::NoTrack)?;
    Ok(ListenRef {
        user,
        track,
        artist,
        title,
        at,
        duration: None,
        played: None,
    })
}

/// The columns of a row that has exactly `N`.
pub(crate) fn columns<const N: usize>(row: &str) -> Option<[&str; N]> {
    let mut columns = [""; N];
    let mut from = 0;
    let (last, others) = columns.split_last_mut()?;
    let mut tabs = memchr::memchr_iter(b'\t', row.as_bytes());
    for column in others {
        let tab = tabs.next()?;
        *column = row.get(from..tab)?;
        from = tab + 1;
    }
    if tabs.next().is_some() {
        return None;
    }
    *last = row.get(from..)?;
    Some(columns)
}

/// Visits the listens of `input` in its own order, without allocating per row.
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
            Some(Line::Whole(row)) => match parse(row) {
                Ok(listen) => match visit(listen)? {
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(()) => return Ok(ControlFlow::Break(())),
                },
                Err(reason) => (reason, row),
            },
        };
        // `row` borrows the lines, whose number is read first for the same reason.
        let row = row.to_vec();
        reading.reject(lines.number(), reason, &row)?;
    }
}

#[cfg(test)]
mod tests {
    use segue_listen::TrackKey;

    use super::*;
    use proptest::prelude::*;

    const MBID: &str = "f1b1cf71-bd35-4e99-8624-24a6e15f133a";

    #[test]
    fn a_row_as_published() {
        let row = format!("user_000001\t2009-05-04T23:08:57Z\t{MBID}\tDeep \"Dish\t\tFuck Me");
        let listen = parse(row.as_bytes()).unwrap();
        assert_eq!((listen.user, listen.artist), ("user_000001", "Deep \"Dish"));
        assert_eq!(listen.at.to_rfc3339(), "2009-05-04T23:08:57Z");
        assert_eq!(listen.track, TrackKey::from_names("Deep \"Dish", "Fuck Me"));
        let row = format!("u\t2009-05-04T23:08:57Z\t\t\t{MBID}\t");
        assert_eq!(parse(row.as_bytes()).unwrap().track.to_string(), MBID);
    }

    #[test]
    fn each_way_to_be_wrong_has_its_name() {
        let table: [(&[u8], Reason); 10] = [
            (b"", Reason::WrongColumns),
            (b"u\t2009-05-04T23:08:57Z\t\ta\t", Reason::WrongColumns),
            (b"u\t2009-05-04T23:08:57Z\t\ta\t\tt\t", Reason::WrongColumns),
            (b"u\t2009-05-04T23:08:57Z\t\ta\t\t\xff", Reason::InvalidUtf8),
            (b"\t2009-05-04T23:08:57Z\t\ta\t\tt", Reason::NoUser),
            (b"u\t2009-05-04T25:08:57Z\t\ta\t\tt", Reason::BadTime),
            (b"u\t\t\ta\t\tt", Reason::BadTime),
            (
                b"u\t1966-05-04T23:08:57Z\t\ta\t\tt",
                Reason::ImplausibleTime,
            ),
            (
                b"u\t2166-05-04T23:08:57Z\t\ta\t\tt",
                Reason::ImplausibleTime,
            ),
            (b"u\t2009-05-04T23:08:57Z\t\t\tno-mbid\t", Reason::NoTrack),
        ];
        for (row, reason) in table {
            assert_eq!(
                parse(row).unwrap_err(),
                reason,
                "{:?}",
                row.escape_ascii().to_string()
            );
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(row in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = parse(&row);
        }
    }
}
