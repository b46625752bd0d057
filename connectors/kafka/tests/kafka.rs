use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseProducer, BaseRecord, Producer},
};
use segue_kafka::broker::Broker;
use std::time::Duration;
#[test]
fn early() {
    let b = Broker::start().unwrap_or_else(|e| panic!("{e}"));
    let admin: rdkafka::admin::AdminClient<_> = ClientConfig::new()
        .set("bootstrap.servers", b.address())
        .create()
        .unwrap();
    let rt = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let r = rt.block_on(admin.create_topics(
        &[rdkafka::admin::NewTopic::new(
            "t",
            2,
            rdkafka::admin::TopicReplication::Fixed(1),
        )],
        &Default::default(),
    ));
    println!("{r:?}");
    let p: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", b.address())
        .set("enable.idempotence", "true")
        .create()
        .unwrap();
    for i in 0..10 {
        p.send(
            BaseRecord::to("t")
                .partition(0)
                .payload(&format!("v{i}"))
                .key("k"),
        )
        .unwrap();
    }
    p.flush(Duration::from_secs(10)).unwrap();
    let c: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", b.address())
        .set("group.id", "g")
        .create()
        .unwrap();
    {
        let mut l = TopicPartitionList::new();
        l.add_partition_offset("t", 0, Offset::Beginning).unwrap();
        c.assign(&l).unwrap();
    }
    let mut n = 0;
    while n < 10 {
        if let Some(m) = c.poll(Duration::from_secs(5)) {
            let m = m.unwrap();
            println!("{:?} {:?}", m.offset(), m.payload());
            n += 1;
        }
    }
}
