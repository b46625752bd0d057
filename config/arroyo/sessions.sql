-- Live sessions: Kafka listens (JSON) in, every listener's sessions with completion ratios out, over
-- our plugins. Register them first: udfs/README.md.
--
-- What was run and what was not. The shape of this query (a non-windowed GROUP BY over one aggregate
-- plugin, with the event time and watermark as written here) was run on Arroyo 0.15.0 with a file
-- source and a file sink in debezium_json: right for 200 of 200 listeners. A Kafka source and sink
-- with these options passed 0.15.0's planner and were not run. The columns of this file, its views
-- and the debezium_json Kafka sink have been through neither. What the plugins compute is tested
-- through their C ABI (udfs/host); that each call here has the arguments its plugin takes is too.
--
-- Arroyo's own session window is not used: with rows of two sessions of one listener in one batch
-- (catch-up), 0.15.0 counts the first row of the later session in the earlier one. listening_sessions
-- splits with the engine's own rule, whatever the order of the rows.
--
-- Arroyo keeps all of a listener's rows for updating_ttl; a session older than that is cut. The
-- longest pause inside a session (20 minutes) is the plugin's default; put gap_ms there to change it.
SET updating_ttl = INTERVAL '1 day';

-- The record of engine/listen/src/wire.rs as JSON, version 1. Heartbeats, which name no user, lack a
-- NOT NULL column and are dropped with other bad data. at_ms must be plausible: Segue writes only
-- instants in [1970, 2100) to the topic; the plugin passes over others, the watermark cannot.
CREATE TABLE listens (
  "user" TEXT NOT NULL,
  at_ms BIGINT NOT NULL,
  mbid TEXT,
  artist TEXT,
  title TEXT,
  duration_ms BIGINT,
  played_ms BIGINT,
  event_time TIMESTAMP NOT NULL GENERATED ALWAYS AS (arrow_cast(at_ms * 1000000, 'Timestamp(Nanosecond, None)')),
  WATERMARK FOR event_time AS arrow_cast(at_ms * 1000000, 'Timestamp(Nanosecond, None)') - INTERVAL '30 seconds'
) WITH (
  connector = 'kafka', bootstrap_servers = '127.0.0.1:9092', topic = 'listens', type = 'source',
  format = 'json', bad_data = 'drop',
  'source.offset' = 'earliest', 'source.read_mode' = 'read_committed', 'source.group_id' = 'segue-sessions'
);

-- One record per change of a listener's sessions; the newest holds the last 50 plays, which is all a
-- recommender needs of them.
CREATE TABLE sessions WITH (
  connector = 'kafka', bootstrap_servers = '127.0.0.1:9092', topic = 'sessions', type = 'sink',
  format = 'debezium_json'
);

CREATE VIEW plays AS
SELECT
  "user" AS user_id, at_ms, duration_ms, played_ms,
  track_half(mbid, artist, title, 1) AS track_upper,
  track_half(mbid, artist, title, 0) AS track_lower,
  CAST(NULL AS BIGINT) AS gap_ms,
  CAST(50 AS BIGINT) AS keep_plays
FROM listens;

INSERT INTO sessions
SELECT
  user_id,
  count(*) AS listens,
  listening_sessions(at_ms, duration_ms, played_ms, track_upper, track_lower, gap_ms, keep_plays) AS sessions
FROM plays
GROUP BY user_id;
