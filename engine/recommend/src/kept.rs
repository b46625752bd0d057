//! Recommenders' states as the bytes of a checkpoint's parts.

use segue_flow::checkpoint::{decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::recommender::RecommendError;

/// The version of all states in this room: they change together.
const VERSION: u16 = 1;

/// A recommender's state, written under its name.
pub(crate) fn state<T: Serialize>(
    recommender: &'static str,
    state: &T,
) -> Result<Vec<u8>, RecommendError> {
    encode(recommender, VERSION, state).map_err(|error| RecommendError {
        recommender,
        detail: error.to_string(),
        remedy: error.remedy(),
    })
}

/// The state that was written under this recommender's name.
pub(crate) fn taken_up<T: DeserializeOwned>(
    recommender: &'static str,
    state: &[u8],
) -> Result<T, RecommendError> {
    decode(recommender, VERSION, state).map_err(|error| RecommendError {
        recommender,
        detail: error.to_string(),
        remedy: error.remedy(),
    })
}
