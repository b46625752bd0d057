//! Ratings of tracks from 0 to 5 by the attributes of MGPHot: what is rated, by what words it is asked
//! for, and how far two raters agree. Numbers and texts only; who rates is elsewhere.
//!
//! 1. [`schema`]: the 58 attributes in seven categories.
//! 2. [`table`]: a file of ratings.
//! 3. [`prompt`]: what a language model is told, with tracks of known ratings as anchors.
//! 4. [`answer`]: what it answers, read strictly.
//! 5. [`agreement`]: rank correlation with true ratings, by category;
//! 6. [`segment`]: a track's ratings as a part of its content vector.

pub mod agreement;
pub mod answer;
pub mod prompt;
pub mod schema;
pub mod segment;
pub mod table;

/// The most that a rating can be; the least is 0.
pub const MOST: f32 = 5.0;
