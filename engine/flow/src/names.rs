//! The names of all metrics, with unit and help text. Raw metric macros are used nowhere else.

use std::time::Duration;

use crate::epoch::LaneId;

macro_rules! names {
    ($($(#[doc = $help:literal])+ $variant:ident = $name:literal, $kind:ident;)+) => {
        /// A metric. Counters end in `_total`, durations are histograms in seconds.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Name { $($(#[doc = $help])+ $variant,)+ }

        impl Name {
            /// All of them, in the order of the README's table.
            pub const ALL: &'static [Name] = &[$(Name::$variant,)+];

            /// The name on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Name::$variant => $name,)+ }
            }

            /// What it counts or measures.
            pub const fn help(self) -> &'static str {
                match self { $(Name::$variant => concat!($($help),+),)+ }
            }

            /// Counter, gauge or histogram.
            pub const fn kind(self) -> Kind {
                match self { $(Name::$variant => Kind::$kind,)+ }
            }
        }
    };
}

/// What a metric is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

names! {
    /// Records read by the lanes.
    RecordsRead = "segue_records_read_total", Counter;
    /// Times that a source out of reach was asked again.
    SourceRetries = "segue_source_retries_total", Counter;
    /// Plays that changed a listener's state.
    PlaysAbsorbed = "segue_plays_absorbed_total", Counter;
    /// Exact duplicates that were dropped.
    DuplicatesDropped = "segue_duplicates_dropped_total", Counter;
    /// Plays before the watermark, within the allowed lateness.
    LatePlays = "segue_late_plays_total", Counter;
    /// Plays beyond the allowed lateness, written to the late topic.
    TooLatePlays = "segue_too_late_plays_total", Counter;
    /// Records that could not be decoded, written to the dead-letter topic.
    DeadLetters = "segue_dead_letters_total", Counter;
    /// Records whose key does not belong to their partition.
    Misrouted = "segue_misrouted_records_total", Counter;
    /// Sessions that were closed.
    SessionsClosed = "segue_sessions_closed_total", Counter;
    /// Closed sessions that a late play re-opened.
    SessionsRetracted = "segue_sessions_retracted_total", Counter;
    /// Listeners held in memory.
    Listeners = "segue_listeners", Gauge;
    /// Tracks in the catalogue.
    Tracks = "segue_tracks", Gauge;
    /// Tracks whose content was encoded.
    TracksEncoded = "segue_tracks_encoded_total", Counter;
    /// Tracks whose content could not be encoded.
    TracksFailed = "segue_tracks_failed_total", Counter;
    /// Parts of a track's content that could not be encoded, though others could (label `modality`).
    SegmentsFailed = "segue_segments_failed_total", Counter;
    /// Times that a library which has changed was read anew while a run went on (label `outcome`: taken, refused).
    LibraryReadings = "segue_library_readings_total", Counter;
    /// From the first play of a new track to the first prediction that could contain it, in seconds.
    Freshness = "segue_freshness_seconds", Histogram;
    /// Batches put into a queue (label `queue`).
    QueueIn = "segue_queue_in_total", Counter;
    /// Batches taken out of a queue (label `queue`).
    QueueOut = "segue_queue_out_total", Counter;
    /// Time a sender was blocked by a full queue, in seconds (label `queue`).
    QueueBlocked = "segue_queue_blocked_seconds", Histogram;
    /// Batches in a queue (label `queue`; kafka-producer: records); what comes and goes between two looks is in the counters.
    QueueDepth = "segue_queue_depth", Gauge;
    /// Batches that a queue holds at most (label `queue`).
    QueueCapacity = "segue_queue_capacity", Gauge;
    /// From reading a play to the prediction that follows it, in seconds.
    EventToPrediction = "segue_event_to_prediction_seconds", Histogram;
    /// Predictions made (label `recommender`).
    Predictions = "segue_predictions_total", Counter;
    /// Predictions that a newer play of the listener made stale before they were made.
    PredictionsCoalesced = "segue_predictions_coalesced_total", Counter;
    /// Plays that were learnt from and not measured, for want of time.
    PlaysNotMeasured = "segue_plays_not_measured_total", Counter;
    /// Recall@20 on a sample of old plays, ranked again (label `recommender`).
    OldPlaysRecall = "segue_old_plays_recall_20", Gauge;
    /// By how much it has changed since these plays were new (label `recommender`); what learning costs
    /// is how much more it falls for one that learns than for one that does not.
    OldPlaysRecallChange = "segue_old_plays_recall_20_change", Gauge;
    /// NDCG@20 on a sample of old plays, ranked again (label `recommender`).
    OldPlaysNdcg = "segue_old_plays_ndcg_20", Gauge;
    /// By how much it has changed since these plays were new (label `recommender`).
    OldPlaysNdcgChange = "segue_old_plays_ndcg_20_change", Gauge;
    /// Rounds of measuring, learning and answering.
    Rounds = "segue_rounds_total", Counter;
    /// Epochs committed.
    Epochs = "segue_epochs_total", Counter;
    /// How far event time has come, in ms since 1970 (label `lane`).
    WatermarkMillis = "segue_watermark_milliseconds", Gauge;
    /// From the watermark up to which sessions were settled to the newest play seen, in seconds of
    /// event time (label `lane`).
    WatermarkDelay = "segue_watermark_delay_seconds", Gauge;
    /// From the newest play seen to now, by the machine's time of day: for live feeds (label `lane`).
    EventTimeDelay = "segue_event_time_delay_seconds", Gauge;
    /// Records from a lane's position to the end of its partition (label `lane`).
    Lag = "segue_lag_records", Gauge;
    /// Age of the newest checkpoint, in seconds.
    CheckpointAge = "segue_checkpoint_age_seconds", Gauge;
    /// Size of the newest checkpoint, in bytes.
    CheckpointBytes = "segue_checkpoint_bytes", Gauge;
    /// Time it took to write a checkpoint, in seconds.
    CheckpointTaken = "segue_checkpoint_seconds", Histogram;
    /// Checkpoints that could not be taken.
    CheckpointFailures = "segue_checkpoint_failures_total", Counter;
    /// Times that the group shared its lanes out and this instance got its share.
    Rebalances = "segue_rebalances_total", Counter;
    /// Shares that this instance lost before it could commit its last results; others did them again.
    SharesLost = "segue_shares_lost_total", Counter;
    /// Lanes of the group that this instance holds.
    LanesHeld = "segue_lanes_held", Gauge;
}

/// Adds to a counter. Once per batch, not per event.
pub fn count(name: Name, by: u64) {
    if by > 0 {
        metrics::counter!(name.as_str()).increment(by);
    }
}

/// Adds to a counter with one label.
pub fn count_for(name: Name, label: &'static str, value: &'static str, by: u64) {
    metrics::counter!(name.as_str(), label => value).increment(by);
}

/// Sets a gauge.
pub fn gauge(name: Name, value: f64) {
    metrics::gauge!(name.as_str()).set(value);
}

/// Sets a gauge with one label.
pub fn gauge_for(name: Name, label: &'static str, value: &'static str, to: f64) {
    metrics::gauge!(name.as_str(), label => value).set(to);
}

/// A lane's gauge, to be set often: its label is made once.
pub fn gauge_of_lane(name: Name, lane: LaneId) -> metrics::Gauge {
    metrics::gauge!(name.as_str(), "lane" => lane.0.to_string())
}

/// Notes a duration.
pub fn observe(name: Name, duration: Duration) {
    metrics::histogram!(name.as_str()).record(duration.as_secs_f64());
}

/// Notes a duration with one label.
pub fn observe_for(name: Name, label: &'static str, value: &'static str, duration: Duration) {
    metrics::histogram!(name.as_str(), label => value).record(duration.as_secs_f64());
}

/// Tells the installed recorder each metric's help text.
pub fn describe() {
    for name in Name::ALL {
        match name.kind() {
            Kind::Counter => metrics::describe_counter!(name.as_str(), name.help().trim()),
            Kind::Gauge => metrics::describe_gauge!(name.as_str(), name.help().trim()),
            Kind::Histogram => metrics::describe_histogram!(name.as_str(), name.help().trim()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_its_own_and_says_what_it_is() {
        let mut seen = std::collections::HashSet::new();
        for name in Name::ALL {
            assert!(seen.insert(name.as_str()), "{} twice", name.as_str());
            assert!(!name.help().trim().is_empty());
            assert_eq!(
                name.kind() == Kind::Counter,
                name.as_str().ends_with("_total")
            );
        }
    }
}
