use segue_flow::{Epoch, OffsetRange, OutRecord, Sink, SinkError};

/// Partition, key and value of a record.
pub type Written = (Option<u32>, Option<Vec<u8>>, Vec<u8>);

/// Keeps what is committed; fails where it is told to.
#[derive(Default)]
pub struct Kept {
    pub committed: Vec<Written>,
    pub covers: Vec<OffsetRange>,
    pub open: Vec<Written>,
    /// Calls of `commit` that fail, counted from 0, and whether for good.
    pub failures: Vec<(u64, bool)>,
    pub commits: u64,
    /// Values longer than this are too large.
    pub limit: Option<usize>,
    /// Called after each commit.
    pub after_commit: Option<Box<dyn FnMut(u64) + Send>>,
}

impl Sink for Kept {
    fn begin(&mut self, _: Epoch) -> Result<(), SinkError> {
        assert!(self.open.is_empty());
        Ok(())
    }

    fn write(&mut self, record: OutRecord<'_>) -> Result<(), SinkError> {
        let value = record.value.unwrap();
        if let Some(limit) = self.limit.filter(|limit| value.len() > *limit) {
            return Err(SinkError::TooLarge {
                topic: record.topic.to_owned(),
                size: value.len(),
                limit,
            });
        }
        self.open.push((
            record.partition,
            record.key.map(<[u8]>::to_vec),
            value.to_vec(),
        ));
        Ok(())
    }

    fn commit(&mut self, _: Epoch, inputs: &[OffsetRange]) -> Result<(), SinkError> {
        let call = self.commits;
        self.commits += 1;
        if let Some((_, for_good)) = self.failures.iter().find(|(at, _)| *at == call) {
            return Err(match for_good {
                true => SinkError::Refused {
                    what: "topic listens".to_owned(),
                    detail: "was deleted".to_owned(),
                },
                false => SinkError::Unreachable {
                    address: "localhost:1".to_owned(),
                    detail: "connection refused".to_owned(),
                },
            });
        }
        self.committed.append(&mut self.open);
        self.covers.extend_from_slice(inputs);
        if let Some(after) = &mut self.after_commit {
            after(call);
        }
        Ok(())
    }

    fn abort(&mut self, _: Epoch) -> Result<(), SinkError> {
        self.open.clear();
        Ok(())
    }
}
