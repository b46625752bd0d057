//! A partition's own queue inside librdkafka, read many messages at a time: the wall around the native
//! calls that rdkafka has no safe name for.
//!
//! A consumer's `poll` takes one message from the queue of all partitions, with several looks at the
//! clock and a search for events each time. Here a whole run of messages is taken with one call; what
//! is no message (errors of the client, of authentication) stays in the consumer's queue, which its
//! owner goes on polling.

#![allow(unsafe_code)]

use std::ffi::{CString, c_void};
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{IsError, KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use segue_flow::AskHeader;

/// Messages taken with one call.
const TAKEN: usize = 1024;

/// The queue. Declare it before its consumer: librdkafka waits for it when the consumer goes.
pub struct PartitionQueue {
    queue: NonNull<bindings::rd_kafka_queue_t>,
    run: Vec<*mut bindings::rd_kafka_message_t>,
}

// SAFETY: librdkafka's queues are locked inside and belong to no thread (INTRODUCTION.md, "Thread
// safety"); `run` is empty between two calls.
unsafe impl Send for PartitionQueue {}

impl PartitionQueue {
    /// Takes a partition's messages out of the consumer's own queue; before it is assigned, so that
    /// none is there yet. `None` if librdkafka does not know what we mean.
    pub fn split<C: ConsumerContext>(
        consumer: &BaseConsumer<C>,
        topic: &str,
        partition: u32,
    ) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        let client = consumer.client().native_ptr();
        // SAFETY: the client lives as long as `consumer`; the topic's name is copied. The queue that
        // comes back is ours to destroy.
        let queue = unsafe {
            let partition = partition.cast_signed();
            let queue = bindings::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition);
            let queue = NonNull::new(queue)?;
            bindings::rd_kafka_queue_forward(queue.as_ptr(), ptr::null_mut());
            queue
        };
        Some(Self {
            queue,
            run: Vec::with_capacity(TAKEN),
        })
    }

    /// The messages that are ready, up to a thousand; waits for the first one, not for more.
    pub fn next_run(&mut self, patience: Duration) -> Run<'_> {
        self.take(Duration::ZERO, TAKEN);
        if self.run.is_empty() && !patience.is_zero() {
            // With more room it would wait for the room to be filled.
            self.take(patience, 1);
        }
        Run {
            messages: &mut self.run,
            lent: 0..0,
        }
    }

    fn take(&mut self, patience: Duration, limit: usize) {
        let patience = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `run` is empty and has room for `TAKEN >= limit` pointers; librdkafka writes as many
        // as it says it did, each of a message that is ours to destroy.
        unsafe {
            let (queue, room) = (self.queue.as_ptr(), self.run.as_mut_ptr());
            let taken = bindings::rd_kafka_consume_batch_queue(queue, patience, room, limit);
            // -1 for a queue that is being closed: nothing was taken.
            self.run.set_len(usize::try_from(taken).unwrap_or(0));
        }
    }
}

impl Drop for PartitionQueue {
    fn drop(&mut self) {
        // SAFETY: it was given to us, and nobody else has it.
        unsafe { bindings::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// The end of a partition as the last answer to a fetch had it: librdkafka is not made to ask. `None`
/// if there was no answer yet.
pub fn known_end<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: u32,
) -> Option<u64> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client outlives the call, the name ends in a zero byte, and librdkafka only writes
    // the two numbers.
    let error = unsafe {
        bindings::rd_kafka_get_watermark_offsets(
            consumer.client().native_ptr(),
            topic.as_ptr(),
            partition.cast_signed(),
            &raw mut low,
            &raw mut high,
        )
    };
    u64::try_from(high).ok().filter(|_| !error.is_error())
}

/// Messages taken together, lent a few at a time.
pub struct Run<'q> {
    messages: &'q mut Vec<*mut bindings::rd_kafka_message_t>,
    /// Which are lent; those before are destroyed.
    lent: Range<usize>,
}

impl Run<'_> {
    /// The next few messages, up to `limit`, or what came instead of one. Those before are destroyed. (A
    /// lending iterator.)
    pub fn next(&mut self, limit: usize) -> Option<Result<Few<'_>, KafkaError>> {
        for before in self.lent.clone() {
            self.destroy(before);
        }
        let from = self.lent.end;
        let whole = |at: &usize| self.message(*at).is_some_and(|it| it.error().is_none());
        let count = (from..from + limit).take_while(whole).count();
        self.lent = from..from + count.max(1);
        let run = &*self;
        if count > 0 {
            return Some(Ok(Few(run)));
        }
        run.message(from)?.error().map(Err)
    }

    /// What stands there and is not destroyed.
    fn message(&self, at: usize) -> Option<FetchedMessage<'_>> {
        // SAFETY: librdkafka gave the pointer. It is destroyed, and null in this list, only when `next`
        // is called again or `self` goes; both need `self`, which what is returned borrows.
        let native = unsafe { self.messages.get(at)?.as_ref() }?;
        Some(FetchedMessage { native })
    }

    fn destroy(&mut self, at: usize) {
        if let Some(message) = self.messages.get_mut(at) {
            let message = std::mem::replace(message, ptr::null_mut());
            if !message.is_null() {
                // SAFETY: it came from `rd_kafka_consume_batch_queue`, and the null in its place
                // keeps it from being destroyed twice.
                unsafe { bindings::rd_kafka_message_destroy(message) }
            }
        }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        for at in self.lent.start..self.messages.len() {
            self.destroy(at);
        }
        self.messages.clear();
    }
}

/// Messages that are lent together.
pub struct Few<'r>(&'r Run<'r>);

impl<'r> Few<'r> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.lent.len()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = FetchedMessage<'r>> {
        let run = self.0;
        run.lent.clone().filter_map(|at| run.message(at))
    }
}

/// A message in librdkafka's buffer.
#[derive(Clone, Copy)]
pub struct FetchedMessage<'m> {
    native: &'m bindings::rd_kafka_message_t,
}

impl<'m> FetchedMessage<'m> {
    /// What it says where it is no message.
    fn error(self) -> Option<KafkaError> {
        Some(match self.native.err {
            error if !error.is_error() => return None,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                KafkaError::PartitionEOF(self.native.partition)
            }
            other => KafkaError::MessageConsumption(RDKafkaErrorCode::from(other)),
        })
    }

    /// Its offset.
    pub fn offset(self) -> u64 {
        u64::try_from(self.native.offset).unwrap_or_default()
    }

    /// Its key.
    pub fn key(self) -> Option<&'m [u8]> {
        self.bytes(self.native.key, self.native.key_len)
    }

    /// Its value; `None` is a tombstone.
    pub fn value(self) -> Option<&'m [u8]> {
        self.bytes(self.native.payload, self.native.len)
    }

    /// The log's or the producer's time stamp: milliseconds since 1970.
    pub fn timestamp(self) -> Option<i64> {
        let mut kind = bindings::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive; both pointers are to what we own.
        let at = unsafe { bindings::rd_kafka_message_timestamp(self.native, &raw mut kind) };
        (at >= 0).then_some(at)
    }

    /// Value of its last header of that name, whatever the names of the others are made of. The first
    /// question takes all headers apart.
    pub fn header(self, name: &std::ffi::CStr) -> Option<&'m [u8]> {
        let mut headers = ptr::null_mut();
        let mut value: *const c_void = ptr::null();
        let mut size = 0;
        // SAFETY: the message is alive, and the header list and the values in it live as long as it
        // does. librdkafka keeps what it took apart inside the message, hence the pointer that is not
        // const there; nobody else has the message.
        unsafe {
            let message = ptr::from_ref(self.native);
            if bindings::rd_kafka_message_headers(message, &raw mut headers).is_error() {
                return None;
            }
            let (value, size) = (&raw mut value, &raw mut size);
            if bindings::rd_kafka_header_get_last(headers, name.as_ptr(), value, size).is_error() {
                return None;
            }
        }
        if value.is_null() {
            return None;
        }
        self.bytes(value.cast_mut(), size)
    }

    fn bytes(self, start: *mut c_void, length: usize) -> Option<&'m [u8]> {
        if start.is_null() {
            return None;
        }
        // SAFETY: librdkafka says that so many bytes begin there, inside the message.
        Some(unsafe { std::slice::from_raw_parts(start.cast(), length) })
    }
}

impl AskHeader for FetchedMessage<'_> {
    fn content_type(&self) -> Option<&[u8]> {
        self.header(c"content-type")
    }
}
