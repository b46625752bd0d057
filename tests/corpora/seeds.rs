//! What the corpora begin with: good inputs of every kind, and the bad ones that are known by name.

use segue_flow::Offset;
use segue_flow::checkpoint::{ManifestBody, PartEntry, Position, encode};
use segue_flow::epoch::{Epoch, LaneId};
use segue_flow::lane::Decode;
use segue_flow::stage::Stage;
use segue_listen::wire::{self, Format};
use segue_listen::{EventTime, ListenRef, SessionGap, Span, TrackKey};
use segue_sessions::{ListenDecoder, ListeningStage, SessionSettings};
use segue_tests::fuzz::{framed, in_envelope};
use serde_json::json;

type Seeds = Vec<(&'static str, Vec<u8>)>;

const MBID: &str = "f1b1cf71-bd35-4e99-8624-24a6e15f133a";

/// The seeds of a target, by file name.
pub fn of(target: &str) -> Seeds {
    match target {
        "wire_msgpack" => wire_msgpack(),
        "wire_json" => wire_json(),
        "lastfm" => lastfm(),
        "spotify" => spotify(),
        "listenbrainz" => listenbrainz(),
        "part" => part(),
        "manifest" => manifest(),
        "frames" => frames(),
        "commit" => commit(),
        other => panic!("no seeds of {other}"),
    }
}

fn text(seeds: &[(&'static str, &str)]) -> Seeds {
    let seed = |(name, text): &(&'static str, &str)| (*name, text.as_bytes().to_vec());
    seeds.iter().map(seed).collect()
}

fn listen(title: &str, at: i64) -> ListenRef<'_> {
    ListenRef {
        user: "user_000001",
        track: TrackKey::from_names("Björk", title),
        artist: "Björk",
        title,
        at: EventTime::from_millis(at),
        duration: Some(Span::from_seconds(257)),
        played: None,
    }
}

fn wire_msgpack() -> Seeds {
    let record = |listen: ListenRef<'_>| {
        let mut bytes = Vec::new();
        wire::encode(listen, Format::MessagePack, &mut bytes).unwrap();
        bytes
    };
    let mut heartbeat = Vec::new();
    let noon = EventTime::from_millis(1_234_567_890_000);
    wire::encode_heartbeat(noon, Format::MessagePack, &mut heartbeat).unwrap();
    let mut by_mbid = listen("Jóga", 1_234_567_890_000);
    by_mbid.track = TrackKey::from_mbid(MBID).unwrap();
    by_mbid.played = Some(Span::from_seconds(61));
    let mut nested = vec![0x91; 4_000];
    nested.push(0xc0);
    vec![
        ("listen", record(listen("Jóga", 1_234_567_890_000))),
        ("listen-by-mbid", record(by_mbid)),
        ("heartbeat", heartbeat),
        ("after-2099", record(listen("Jóga", 4_102_444_800_000))),
        (
            "claims-4-billion-fields",
            b"\xdf\xff\xff\xff\xff\xa1v\x01".to_vec(),
        ),
        (
            "claims-4-gigabytes-of-user",
            b"\x82\xa1v\x01\xa4user\xdb\xff\xff\xff\xffu".to_vec(),
        ),
        ("nested", nested),
        (
            "not-a-number",
            b"\x82\xa1v\x01\xa9played_ms\xcb\x7f\xf8\0\0\0\0\0\0".to_vec(),
        ),
        ("version-2", b"\x81\xa1v\x02".to_vec()),
        ("empty", Vec::new()),
    ]
}

fn wire_json() -> Seeds {
    let mut seeds = text(&[
        (
            "listen",
            r#"{"v":1,"user":"u","artist":"a","title":"t","at_ms":1234567890000}"#,
        ),
        (
            "listen-with-lengths",
            r#"{"v":1,"user":"\u00fc","mbid":"f1b1cf71-bd35-4e99-8624-24a6e15f133a","at_ms":0,"duration_ms":86400000,"played_ms":0,"mood":{"x":[1,2]}}"#,
        ),
        ("heartbeat", r#"{"v":1,"heartbeat_ms":1234567890000}"#),
        (
            "after-2099",
            r#"{"v":1,"user":"u","title":"t","at_ms":4102444800000}"#,
        ),
        (
            "huge-played",
            r#"{"v":1,"user":"u","title":"t","at_ms":1,"played_ms":9e999}"#,
        ),
        (
            "half-a-surrogate",
            r#"{"v":1,"user":"\ud800","title":"t","at_ms":1}"#,
        ),
        ("twice", r#"{"v":1,"v":2,"user":"u"}"#),
        ("version-65536", r#"{"v":65536}"#),
        ("cut", r#"{"v":1,"user":"#),
    ]);
    seeds.push(("nested", b"[".repeat(4_000)));
    seeds
}

fn lastfm() -> Seeds {
    let row = format!("user_000001\t2009-05-04T23:08:57Z\t{MBID}\tBjörk\t\tJóga\n");
    let by_mbid = format!("u\t2009-05-04T23:08:57Z\t\t\"a\t{MBID}\t\r\n");
    let mut long = b"u\t2009-05-04T23:08:57Z\t\t".to_vec();
    long.resize(3_000, b'a');
    // At the limit, with a mark that does not count.
    let marked = format!("\u{feff}{}\n", "a".repeat(2_048)).into_bytes();
    vec![
        ("mark-at-the-limit", marked),
        ("row", row.clone().into_bytes()),
        (
            "rows",
            [row.as_str(), by_mbid.as_str(), "\n", row.trim_end()]
                .concat()
                .into_bytes(),
        ),
        ("mark", format!("\u{feff}{by_mbid}").into_bytes()),
        ("odd-time", b"u\t2009-05-04 23:08\t\ta\t\tt".to_vec()),
        (
            "columns",
            b"u\t2009-05-04T23:08:57Z\t\ta\tt\n\t\t\t\t\t\n".to_vec(),
        ),
        ("day-31", b"u\t2009-02-31T23:08:57Z\t\ta\t\tt\n".to_vec()),
        (
            "not-utf-8",
            b"u\t2009-05-04T23:08:57Z\t\ta\t\t\xff\n".to_vec(),
        ),
        ("too-long", long),
    ]
}

fn spotify() -> Seeds {
    let mut seeds = text(&[
        (
            "play",
            r#"[{"ts":"2020-05-04T23:08:57Z","username":"u","ms_played":61000,"master_metadata_track_name":"t","master_metadata_album_artist_name":"a"}]"#,
        ),
        (
            "short-form",
            r#"[{"endTime":"2020-05-04 23:08","msPlayed":"61000","trackName":"t","artistName":"a"},
            {"endTime":"2020-05-04 23:12","msPlayed":1e99,"trackName":["t"],"artistName":"\"]}"}] []"#,
        ),
        (
            "podcast",
            r#"[{"ts":"2020-05-04T23:08:57Z","master_metadata_track_name":null}]"#,
        ),
        (
            "before-1970",
            r#"[{"ts":"1970-01-01T00:00:01Z","ms_played":61000,"master_metadata_track_name":"t"}]"#,
        ),
        ("no-array", r#"{"ts":"2020-05-04T23:08:57Z"}"#),
        ("cut", r#"[{"ts":"2020-05-04T23:08:57Z","username":"#),
        ("bracket-in-text", r#"[{"ts":"\\\"}]"#),
    ]);
    seeds.push(("nested", [b"[".repeat(3_000), b"]".repeat(3_000)].concat()));
    seeds
}

fn listenbrainz() -> Seeds {
    let mut seeds = text(&[
        (
            "export",
            r#"{"listened_at":1234567890,"track_metadata":{"artist_name":"a","track_name":"t"}}
{"listened_at":"1234567890","user_name":"\n","track_metadata":{"track_name":"t","additional_info":{"duration":3e2,"duration_played":61}}}"#,
        ),
        (
            "dump",
            r#"{"timestamp":1234567890.5,"user_id":7,"track_metadata":{"artist_name":"a","mbid_mapping":{"recording_mbid":"f1b1cf71-bd35-4e99-8624-24a6e15f133a"},"additional_info":null}}"#,
        ),
        (
            "far-future",
            r#"{"listened_at":1e300,"track_metadata":{"track_name":"t"}}"#,
        ),
        (
            "negative",
            r#"{"listened_at":-1,"track_metadata":{"track_name":"t"}}"#,
        ),
        (
            "no-track",
            r#"{"listened_at":1,"track_metadata":{"artist_name":{"a":[]}}}"#,
        ),
        (
            "odd-user",
            r#"{"listened_at":1,"user_id":-1e308,"track_metadata":{"track_name":"t"}}"#,
        ),
        ("cut", r#"{"listened_at":1,"track_metadata":{"track_"#),
    ]);
    seeds.push((
        "nested",
        [&b"{\"track_metadata\":"[..], &b"[".repeat(2_000)].concat(),
    ));
    seeds
}

/// The state of a lane after a few plays, written as the lane writes it.
fn lane_state(plays: i64) -> Vec<u8> {
    let mut decoder = ListenDecoder::new(LaneId(0), 1);
    let mut stage = ListeningStage::new(SessionSettings {
        gap: SessionGap::default(),
        lateness: Span::from_minutes(60),
    });
    let start = 1_234_567_890_000;
    let arrivals: Vec<_> = (0..plays)
        .map(|n| {
            listen(
                if n % 3 == 0 { "Jóga" } else { "Hunter" },
                start + n * 1_000_000,
            )
        })
        .map(|play| decoder.intern(&play).unwrap())
        .collect();
    stage.absorb(&arrivals, &mut Vec::new()).unwrap();
    let at = EventTime::from_millis(start);
    let held: Vec<_> = arrivals
        .iter()
        .take(1)
        .map(|arrival| (at, *arrival))
        .collect();
    let (names, listening) = (Decode::snapshot(&decoder), stage.snapshot(Epoch(3)));
    let state = (
        Offset(42),
        Some(at),
        Some(at),
        Some(7),
        held,
        names,
        listening,
    );
    encode("lane", 1, &state).unwrap()
}

fn part() -> Seeds {
    let whole = lane_state(5);
    // Length and name, version, length: what stands before the body.
    let body = whole[4 + 1 + 4 + 2 + 8..].to_vec();
    let mut claims = whole[..whole.len() - 8].to_vec();
    claims.extend_from_slice(b"\xdd\xff\xff\xff\xff");
    vec![
        ("lane", whole.clone()),
        ("lane-before-the-first-play", lane_state(0)),
        ("body", body.clone()),
        ("body-of-sixty-plays", lane_state(60)[19..].to_vec()),
        (
            "claims-4-billion-listeners",
            b"\x97\x00\xc0\xc0\xc0\x90\x92\xdd\xff\xff\xff\xff".to_vec(),
        ),
        (
            "claims-4-billion-held",
            b"\x97\x00\xc0\xc0\xc0\xdd\xff\xff\xff\xff".to_vec(),
        ),
        ("bytes-after-its-end", [body.as_slice(), b"\0"].concat()),
        ("another-room", encode("directory", 1, &7).unwrap()),
        ("newer", encode("lane", 2, &7).unwrap()),
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("claims", claims),
    ]
}

fn manifest() -> Seeds {
    let position = Position {
        topic: "listens".to_owned(),
        partition: 0,
        offset: Offset(42),
    };
    let body = ManifestBody {
        positions: vec![position],
        partitions: 1,
        ..ManifestBody::default()
    };
    let part = |bytes: u64| PartEntry {
        name: "lane-0".to_owned(),
        bytes,
        xxh3: format!("{:032x}", 7),
    };
    let of = |number: u64, parts: &[PartEntry]| {
        let manifest = json!({
            "number": number, "epoch": 3, "created_by": "segue", "body": body, "parts": parts,
        });
        manifest.to_string()
    };
    let (bare, whole) = (of(7, &[]), of(7, &[part(3)]));
    let largest = of(7, &[part(u64::MAX), part(u64::MAX)]);
    let outside = whole.replace("lane-0", "../lane-0");
    let newer = in_envelope(&bare).replace("\"v\": 1", "\"v\": 2");
    let mut seeds = text(&[
        ("bare", &bare),
        ("whole", &whole),
        ("sealed", &in_envelope(&whole)),
        ("another-number", &of(8, &[])),
        ("parts-of-all-bytes", &largest),
        ("a-part-outside", &outside),
        ("newer-with-a-wrong-checksum", &newer),
        ("cut", &whole[..whole.len() / 2]),
        ("empty", ""),
    ]);
    seeds.push(("nested", b"[".repeat(2_000)));
    seeds
}

fn frames() -> Seeds {
    let body = |offset: u64, key: i32, value: i32, rest: &[u8]| {
        let fixed = [
            &offset.to_le_bytes()[..],
            &1_234_567_890_000_i64.to_le_bytes(),
        ];
        [
            &fixed.concat()[..],
            &key.to_le_bytes(),
            &value.to_le_bytes(),
            rest,
        ]
        .concat()
    };
    let header = b"\x01\0\x0c\0\x10\0\0\0content-typeapplication/json";
    let with_header = body(0, 1, 2, &[&header[..], b"k{}"].concat());
    let tombstone = body(1, 1, -1, b"\0\0k");
    let two = [framed(&with_header), framed(&tombstone)].concat();
    let mut claims = framed(&tombstone);
    claims[..4].copy_from_slice(&60_000_u32.to_le_bytes());
    vec![
        ("two", two.clone()),
        ("cut", two[..two.len() - 3].to_vec()),
        ("body", with_header),
        ("body-of-nothing", body(0, -1, -1, b"\0\0")),
        ("body-of-another-offset", tombstone),
        (
            "body-with-a-key-of-2-gigabytes",
            body(0, i32::MAX, 0, b"\0\0"),
        ),
        ("body-with-a-key-below-none", body(0, -2, 0, b"\0\0")),
        ("body-with-65535-headers", body(0, 0, 0, b"\xff\xff")),
        ("claims-60-kilobytes", claims),
        ("claims-4-gigabytes", vec![0xff; 12]),
        ("empty", Vec::new()),
    ]
}

fn commit() -> Seeds {
    let of = |ends: &str| {
        format!(
            r#"{{"version":1,"epoch":1,"inputs":[],"topics":{{"t":{{"generation":1,"sealed":true,"partitions":{ends}}}}}}}"#
        )
    };
    text(&[
        (
            "none",
            r#"{"version":1,"epoch":null,"inputs":[],"topics":{}}"#,
        ),
        ("two", &of(r#"[{"offset":2,"segment":0,"bytes":94}]"#)),
        (
            "fewer-bytes",
            &of(r#"[{"offset":2,"segment":0,"bytes":50}]"#),
        ),
        ("no-bytes", &of(r#"[{"offset":2,"segment":0,"bytes":0}]"#)),
        (
            "all-there-can-be",
            &of(
                r#"[{"offset":18446744073709551615,"segment":18446744073709551615,"bytes":18446744073709551615}]"#,
            ),
        ),
        (
            "many-partitions",
            &of(r#"[{"offset":0,"segment":0,"bytes":0},{"offset":9,"segment":9,"bytes":9}]"#),
        ),
        (
            "a-topic-outside",
            r#"{"version":1,"epoch":1,"inputs":[],"topics":{"../x":{"generation":1,"sealed":false,"partitions":[]}}}"#,
        ),
        (
            "newer",
            r#"{"version":2,"epoch":null,"inputs":[],"topics":{}}"#,
        ),
        ("cut", r#"{"version":1,"epoch":"#),
    ])
}
