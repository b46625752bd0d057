//! The lane over a scripted source: what comes out does not depend on where batches are cut.

use std::sync::Arc;

use super::*;
use crate::clock::MachineClock;
use crate::epoch::Epoch;
use crate::memory::{Line, ScriptedSource};
use crate::queue::{QueueSettings, WhenFull, queue};
use crate::remedy::Remedy;

/// Values are seconds in decimal; `h…` a heartbeat; anything else is malformed.
struct Seconds;

impl Decode for Seconds {
    type Item = i64;
    type News = i64;
    type Snapshot = u32;
    fn decode(&mut self, record: &RawRecord<'_>) -> Result<Decoded<i64>, String> {
        let text = std::str::from_utf8(record.value.unwrap_or_default()).unwrap();
        let at = |s: &str| {
            s.parse::<i64>()
                .map(|s| (EventTime::from_millis(s * 1_000), s))
        };
        if let Some(beat) = text.strip_prefix('h') {
            return Ok(Decoded::Heartbeat(at(beat).unwrap().0));
        }
        let (time, item) = at(text).map_err(|_| format!("`{text}` is not a number"))?;
        Ok(Decoded::Item(time, item))
    }
    fn announce(&mut self, _: &mut Vec<i64>) {}
    fn order(&self, one: &i64, other: &i64) -> Ordering {
        one.cmp(other)
    }
    fn snapshot(&self) -> u32 {
        7
    }
    fn restore(&mut self, seven: u32) -> Result<(), StageError> {
        assert_eq!(seven, 7);
        Ok(())
    }
}

/// Whoever asks is the number's hundreds.
impl crate::stage::Asks for i64 {
    fn asks_for(&self) -> Option<u32> {
        u32::try_from(*self / 100).ok().filter(|asker| *asker > 0)
    }
    fn answered_later(&mut self) {
        *self = -*self;
    }
}

const fn holds(capacity: usize) -> QueueSettings {
    QueueSettings {
        capacity,
        when_full: WhenFull::Block,
    }
}

/// Emits what it takes, and `-1000 - watermark` when time moves.
struct Echo;

impl Stage for Echo {
    type In = i64;
    type Out = i64;
    type Snapshot = ();
    fn absorb(&mut self, batch: &[i64], out: &mut Vec<i64>) -> Result<(), StageError> {
        out.extend(batch);
        Ok(())
    }
    fn advance(&mut self, to: Watermark, out: &mut Vec<i64>) -> Result<(), StageError> {
        out.push(-1_000 - to.time().millis().min(1_000_000_000) / 1_000);
        Ok(())
    }
    fn idle(&mut self, out: &mut Vec<i64>) -> Result<(), StageError> {
        out.push(-7);
        Ok(())
    }
    fn snapshot(&self, _: Epoch) {}
    fn restore(&mut self, (): ()) -> Result<(), StageError> {
        Ok(())
    }
}

/// Ten seconds of disorder, a minute of lateness, and no waiting.
fn narrow() -> LaneSettings {
    LaneSettings {
        disorder: Span::from_seconds(10),
        lateness: Span::from_seconds(60),
        tick: Span::from_seconds(30),
        patience: Duration::ZERO,
        idle_after: None,
        at_end: AtEnd::Close,
        ..LaneSettings::default()
    }
}

fn run(script: Vec<Line>, batch: usize) -> (Vec<i64>, Vec<Aside>, OffsetRange) {
    run_as(script, batch, false)
}

fn run_as(script: Vec<Line>, batch: usize, in_order: bool) -> (Vec<i64>, Vec<Aside>, OffsetRange) {
    let wall = Arc::new(MachineClock::start());
    let (inlet, outlet) = queue("test", holds(1_000), wall.clone());
    let settings = LaneSettings {
        batch,
        in_order,
        ..narrow()
    };
    let source = ScriptedSource::new(script);
    let mut lane = Lane::new(LaneId(3), source, Seconds, Echo, inlet, settings);
    assert_eq!(lane.run(&*wall, &|| false).unwrap(), LaneState::Ended);
    drop(lane);
    let (mut outputs, mut aside) = (Vec::new(), Vec::new());
    let mut covers = OffsetRange::empty(LaneId(3), Offset(0));
    while let Some(mut received) = outlet.next() {
        outputs.append(&mut received.outputs);
        aside.append(&mut received.aside);
        if !received.covers.is_empty() {
            covers.append(received.covers).unwrap();
        }
    }
    (outputs, aside, covers)
}

fn record(value: &str) -> Line {
    Line::Record(b"key".to_vec(), value.as_bytes().to_vec())
}

#[test]
fn where_batches_are_cut_does_not_matter() {
    let values = [
        "100", "105", "h140", "131", "200", "190", "x", "h300", "235", "229", "310",
    ];
    let whole: Vec<Line> = values.iter().map(|v| record(v)).collect();
    let paused: Vec<Line> = values
        .iter()
        .flat_map(|v| [record(v), Line::Pause])
        .collect();
    let expected = run(whole.clone(), 1_000);
    assert_eq!(run(paused, 1_000), expected);
    assert_eq!(run(whole, 1), expected);
    let (outputs, aside, covers) = expected;
    assert_eq!(
        covers.len(),
        values.len() as u64,
        "every record seen counts, also those put aside"
    );
    assert!(outputs.contains(&235), "late, but let in");
    assert!(!outputs.contains(&229));
    let reasons: Vec<_> = aside.iter().map(|a| (a.reason, a.offset.0)).collect();
    assert_eq!(
        reasons,
        [(AsideReason::DeadLetter, 6), (AsideReason::TooLate, 9)]
    );
    assert!(aside[0].detail.contains("`x` is not a number"));
    assert_eq!(aside[0].value.as_deref(), Some(&b"x"[..]));
    assert_eq!(
        *outputs.last().unwrap(),
        -1_001_000,
        "the end of the log moves time to its end"
    );
}

#[test]
fn a_lane_that_keeps_order_does_not_see_the_order_of_arrival() {
    let items = |outputs: &[i64]| -> Vec<i64> {
        outputs.iter().copied().filter(|item| *item >= 0).collect()
    };
    // Nothing comes more than 70 s behind the newest: disorder and lateness together.
    let disordered = [
        "100", "160", "130", "200", "131", "130", "260", "195", "400",
    ];
    let (outputs, aside, covers) = run_as(disordered.map(record).to_vec(), 1, true);
    assert_eq!(
        items(&outputs),
        [100, 130, 130, 131, 160, 195, 200, 260, 400]
    );
    assert!(aside.is_empty());
    assert_eq!(covers.len(), disordered.len() as u64);
    let mut sorted = disordered;
    sorted.sort_unstable();
    let (ordered, _, _) = run_as(sorted.map(record).to_vec(), 100, true);
    assert_eq!(items(&ordered), items(&outputs));
    // Time follows what was released, not what was read: a timer never fires before its cause.
    let position = |wanted: i64| outputs.iter().position(|item| *item == wanted);
    let ticks: Vec<i64> = outputs.iter().copied().filter(|item| *item < 0).collect();
    assert_eq!(ticks, [-1_030, -1_090, -1_130, -1_190, -1_330, -1_001_000]);
    assert!(position(260) < position(-1_330) && position(-1_330) < position(400));
}

#[test]
fn a_source_out_of_reach_is_named_and_tried_again() {
    let wall = Arc::new(MachineClock::start());
    let (inlet, outlet) = queue("test", holds(10), wall.clone());
    let source = ScriptedSource::new(vec![record("1"), Line::Crash, record("2")]);
    let settings = LaneSettings::default();
    let mut lane = Lane::new(LaneId(7), source, Seconds, Echo, inlet, settings);
    let error = lane.step(&*wall, Duration::ZERO).unwrap_err().to_string();
    assert!(
        error.starts_with("lane 7: the script cannot be reached"),
        "{error}"
    );
    let first = outlet.next().unwrap();
    assert_eq!(first.covers.to, Offset(1), "what was read is handed over");
    let script = vec![record("1"), Line::Crash, record("2"), Line::Crash];
    let (outputs, _, covers) = run(script, 10);
    assert_eq!(outputs[..3], [-991, 1, 2]);
    assert_eq!(covers.len(), 2);
}

#[test]
fn lanes_on_one_thread_say_what_each_says_alone() {
    let scripts = || {
        [
            vec![record("1"), record("50"), Line::Pause, record("100")],
            // Out of reach in between, and the others go on meanwhile.
            vec![record("7"), Line::Crash, record("40"), record("95")],
            vec![record("3"), record("h80"), record("x"), record("90")],
        ]
    };
    let wall = Arc::new(MachineClock::start());
    let (inlet, outlet) = queue("test", holds(1_000), wall.clone());
    let settings = LaneSettings {
        patience: Duration::from_millis(3),
        ..narrow()
    };
    let mut lanes: Vec<_> = (0..)
        .zip(scripts())
        .map(|(id, script)| {
            let source = ScriptedSource::new(script);
            Lane::new(LaneId(id), source, Seconds, Echo, inlet.another(), settings)
        })
        .collect();
    drop(inlet);
    let states = run_together(&mut lanes, &*wall, &|| false).unwrap();
    assert_eq!(states, [LaneState::Ended; 3]);
    drop(lanes);
    let (mut said, mut aside) = ([vec![], vec![], vec![]], 0);
    while let Some(mut batch) = outlet.next() {
        said[batch.covers.lane.0 as usize].append(&mut batch.outputs);
        aside += batch.aside.len();
    }
    assert_eq!(aside, 1);
    for (said, script) in said.iter().zip(scripts()) {
        assert_eq!(*said, run(script, 512).0);
    }
}

#[test]
fn a_receiver_that_goes_is_how_shutdown_looks() {
    let wall = Arc::new(MachineClock::start());
    let (inlet, outlet) = queue("test", holds(1), wall.clone());
    drop(outlet);
    let source = ScriptedSource::new(vec![record("1"), Line::Pause, record("2")]);
    let mut lane = Lane::new(
        LaneId(0),
        source,
        Seconds,
        Echo,
        inlet,
        LaneSettings::default(),
    );
    assert_eq!(
        lane.run(&*wall, &|| false).unwrap(),
        LaneState::Disconnected
    );
}

/// Runs the script with a barrier after every record, and again from each of them.
#[test]
fn a_lane_goes_on_from_any_of_its_states() {
    let values = ["100", "105", "131", "200", "190", "x", "h300", "235", "310"];
    for in_order in [false, true] {
        let script: Vec<Line> = values
            .iter()
            .flat_map(|v| [record(v), Line::Pause])
            .collect();
        let (whole, _, _) = run_as(script.clone(), 1_000, in_order);
        let settings = LaneSettings {
            disorder: Span::from_seconds(10),
            lateness: Span::from_seconds(60),
            tick: Span::from_seconds(30),
            in_order,
            ..LaneSettings::default()
        };
        let lane = |inlet| {
            let source = ScriptedSource::new(script.clone());
            Lane::new(LaneId(3), source, Seconds, Echo, inlet, settings)
        };
        let wall = Arc::new(MachineClock::start());
        let call = BarrierCall::default();
        let (inlet, outlet) = queue("test", holds(1_000), wall.clone());
        let mut first = lane(inlet).answering(call.clone());
        let calling = || {
            call.call();
            false
        };
        assert_eq!(first.run(&*wall, &calling).unwrap(), LaneState::Ended);
        drop(first);
        let mut before: Vec<i64> = Vec::new();
        let mut states = 0;
        while let Some(batch) = outlet.next() {
            before.extend(&batch.outputs);
            let Some(barrier) = batch.barrier.filter(|b| b.number != LAST) else {
                continue;
            };
            states += 1;
            let (inlet, again) = queue("test", holds(1_000), wall.clone());
            let mut second = lane(inlet);
            second.restore(&barrier.state).unwrap();
            assert_eq!(second.run(&*wall, &|| false).unwrap(), LaneState::Ended);
            drop(second);
            let mut outputs = before.clone();
            while let Some(batch) = again.next() {
                outputs.extend(&batch.outputs);
            }
            assert_eq!(outputs, whole, "from offset {}", batch.covers.to.0);
        }
        assert!(states >= values.len());
    }
}

#[test]
fn a_state_that_is_none_is_refused() {
    let wall = Arc::new(MachineClock::start());
    let (inlet, _outlet) = queue("test", holds(1), wall);
    let source = ScriptedSource::new(vec![]);
    let mut lane = Lane::new(
        LaneId(2),
        source,
        Seconds,
        Echo,
        inlet,
        LaneSettings::default(),
    );
    let error = lane.restore(b"rubbish").unwrap_err();
    assert_eq!(error.remedy, Remedy::Restore);
    assert!(error.to_string().contains("lane 2"), "{error}");
}

/// Time that goes on by a second whenever somebody asks.
struct Hasty(std::sync::atomic::AtomicU64);

impl WallClock for Hasty {
    fn now(&self) -> Duration {
        Duration::from_secs(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }
    fn sleep(&self, _: Duration) {}
}

#[test]
fn a_lane_without_records_is_idle_once_until_the_next_one() {
    let clock = Arc::new(Hasty(0.into()));
    let (inlet, outlet) = queue("test", holds(100), clock.clone());
    let mut script = vec![record("1")];
    script.extend(vec![Line::Pause; 20]);
    script.push(record("2"));
    script.extend(vec![Line::Pause; 20]);
    let settings = LaneSettings {
        idle_after: Some(Duration::from_secs(5)),
        ..LaneSettings::default()
    };
    let mut lane = Lane::new(
        LaneId(0),
        ScriptedSource::new(script),
        Seconds,
        Echo,
        inlet,
        settings,
    );
    assert_eq!(lane.run(&*clock, &|| false).unwrap(), LaneState::Ended);
    drop(lane);
    let mut outputs = Vec::new();
    while let Some(batch) = outlet.next() {
        outputs.extend(batch.outputs);
    }
    let told: Vec<i64> = outputs.into_iter().filter(|o| *o > -100).collect();
    assert_eq!(told, [1, -7, 2, -7]);
}

#[test]
fn of_merged_batches_only_the_newest_ask_of_each_is_answered_and_everything_stays() {
    use crate::queue::Coalesce;
    let batch = |from: u64, outputs: &[i64]| Batch {
        covers: OffsetRange {
            lane: LaneId(0),
            from: Offset(from),
            to: Offset(from + outputs.len() as u64),
        },
        watermark: None,
        outputs: outputs.to_vec(),
        aside: Vec::new(),
        counts: Counts {
            read: outputs.len() as u64,
            ..Counts::default()
        },
        read_at: Duration::ZERO,
        barrier: None,
    };
    let mut held = batch(0, &[101, 5, 201]);
    assert!(held.takes_more());
    let mut last = batch(3, &[102, 301, 103]);
    last.barrier = Some(Barrier {
        number: 1,
        state: Vec::new(),
    });
    held.coalesce(last);
    held.settle();
    assert_eq!(held.outputs, [-101, 5, 201, -102, 301, 103]);
    assert_eq!((held.counts.read, held.counts.answered_later), (6, 2));
    assert_eq!(held.covers.to, Offset(6));
    assert!(!held.takes_more(), "a state is that of what is before it");
}
