//! Records of the listens topic.

use segue_listen::wire::{self, Decoded, Format};
use segue_listen::{EventTime, Listen, Span};

use super::within;

/// What a record costs beside its own length: a message of the decoder.
const MESSAGE: usize = 16 << 10;

/// A record in MessagePack.
pub fn wire_msgpack(bytes: &[u8]) -> bool {
    record(bytes, Format::MessagePack)
}

/// A record in JSON.
pub fn wire_json(bytes: &[u8]) -> bool {
    record(bytes, Format::Json)
}

fn record(bytes: &[u8], format: Format) -> bool {
    let decoded = within(MESSAGE + 16 * bytes.len(), || wire::decode(bytes, format));
    match decoded {
        Ok(Decoded::Listen(listen)) => {
            travels(&listen.listen().to_owned());
            true
        }
        Ok(Decoded::Heartbeat(at)) => {
            assert_eq!(EventTime::plausible(at.millis()), Ok(at));
            let mut again = Vec::new();
            wire::encode_heartbeat(at, format, &mut again).unwrap();
            let read = wire::decode(&again, format);
            assert!(matches!(read, Ok(Decoded::Heartbeat(same)) if same == at));
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty(), "a dead letter has a reason");
            false
        }
    }
}

/// A play that was let in is a play, and is read as the same however it is sent on.
pub(super) fn travels(listen: &Listen) {
    assert!(!listen.user.is_empty());
    assert_eq!(EventTime::plausible(listen.at.millis()), Ok(listen.at));
    for length in [listen.duration, listen.played].into_iter().flatten() {
        assert!((Span::ZERO..=Span::from_minutes(24 * 60)).contains(&length));
    }
    for format in [Format::MessagePack, Format::Json] {
        let mut bytes = Vec::new();
        wire::encode(listen.borrowed(), format, &mut bytes).unwrap();
        match wire::decode(&bytes, format).unwrap() {
            Decoded::Listen(read) => assert_eq!(&read.listen().to_owned(), listen),
            Decoded::Heartbeat(at) => unreachable!("a play was read as a heartbeat at {at:?}"),
        }
    }
}
