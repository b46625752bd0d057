//! Where the broker listens, and how it speaks there: its configuration.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::Path;

use super::certificates::Certificates;
use super::{BrokerError, PASSWORD, USER};

/// A way to speak to the broker. The names are those in its configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listener {
    Plaintext,
    Controller,
    /// SASL PLAIN in the clear.
    Auth,
    Tls,
    AuthTls,
    Mutual,
    Elsewhere,
}

use Listener::{Auth, AuthTls, Controller, Elsewhere, Mutual, Plaintext, Tls};

impl Listener {
    const fn name(self) -> &'static str {
        match self {
            Plaintext => "PLAINTEXT",
            Controller => "CONTROLLER",
            Auth => "AUTH",
            Tls => "TLS",
            AuthTls => "AUTHTLS",
            Mutual => "MUTUAL",
            Elsewhere => "ELSEWHERE",
        }
    }

    const fn protocol(self) -> &'static str {
        match self {
            Plaintext | Controller => "PLAINTEXT",
            Auth => "SASL_PLAINTEXT",
            AuthTls => "SASL_SSL",
            Tls | Mutual | Elsewhere => "SSL",
        }
    }
}

/// A broker's listeners with their ports on loopback.
pub struct Listeners(Vec<(Listener, u16)>);

impl Listeners {
    /// On ports that are free now. Another process may take one before the broker binds it.
    pub fn free(secured: bool) -> Result<Self, BrokerError> {
        let mut kinds = vec![Plaintext, Auth, Controller];
        if secured {
            kinds.extend([Tls, AuthTls, Mutual, Elsewhere]);
        }
        let bind = |kind| {
            TcpListener::bind("127.0.0.1:0")
                .and_then(|held| Ok((kind, held.local_addr()?.port(), held)))
                .map_err(|cause| BrokerError::Folder {
                    path: "127.0.0.1:0".into(),
                    cause,
                })
        };
        // All held until all are known, or the system could name one of them twice.
        let held: Vec<_> = kinds.into_iter().map(bind).collect::<Result<_, _>>()?;
        let ports = held.iter().map(|(kind, port, _)| (*kind, *port));
        Ok(Self(ports.collect()))
    }

    /// `host:port`; port 0 of one that is not there, which nobody reaches.
    pub fn address(&self, listener: Listener) -> String {
        let found = self.0.iter().find(|(kind, _)| *kind == listener);
        format!("127.0.0.1:{}", found.map_or(0, |(_, port)| *port))
    }

    pub fn secured(&self) -> bool {
        self.0.iter().any(|(kind, _)| *kind == AuthTls)
    }

    /// What the storage tool is told of users: SCRAM's are kept in the cluster's metadata.
    pub fn users(&self) -> Vec<String> {
        if !self.secured() {
            return Vec::new();
        }
        let user = |mechanism: &str| {
            let scram = format!("{mechanism}=[name={USER},password={PASSWORD}]");
            ["--add-scram".to_owned(), scram]
        };
        ["SCRAM-SHA-256", "SCRAM-SHA-512"]
            .into_iter()
            .flat_map(user)
            .collect()
    }

    /// The broker's configuration: nothing replicated, nothing waited for, nothing thrown away but what
    /// a topic's own settings say, and that at once.
    pub fn properties(&self, folder: &Path, certificates: Option<&Certificates>) -> String {
        let at = |kinds: &mut dyn Iterator<Item = &(Listener, u16)>| {
            let each = kinds.map(|(kind, port)| format!("{}://127.0.0.1:{port}", kind.name()));
            each.collect::<Vec<_>>().join(",")
        };
        let protocols = self.0.iter();
        let protocols = protocols.map(|(kind, _)| format!("{}:{}", kind.name(), kind.protocol()));
        let mut text = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.bootstrap.servers={controller}\n\
             listeners={listeners}\n\
             advertised.listeners={advertised}\n\
             listener.security.protocol.map={protocols}\n\
             controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=PLAINTEXT\n\
             listener.name.auth.sasl.enabled.mechanisms=PLAIN\n\
             listener.name.auth.plain.sasl.jaas.config={users}\n\
             log.dirs={data}\n\
             auto.create.topics.enable=false\n\
             default.replication.factor=1\n\
             offsets.topic.replication.factor=1\n\
             offsets.topic.num.partitions=1\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=1\n\
             share.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\n\
             log.retention.check.interval.ms=5000\n\
             group.initial.rebalance.delay.ms=0\n\
             group.min.session.timeout.ms=1000\n",
            controller = self.address(Controller),
            listeners = at(&mut self.0.iter()),
            advertised = at(&mut self.0.iter().filter(|(kind, _)| *kind != Controller)),
            protocols = protocols.collect::<Vec<_>>().join(","),
            data = folder.join("data").display(),
            users = plain_users(),
        );
        if let Some(certificates) = certificates {
            encrypted(&mut text, certificates);
        }
        text
    }
}

fn plain_users() -> String {
    format!(
        "org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";"
    )
}

/// Adds what the encrypted listeners need.
fn encrypted(text: &mut String, certificates: &Certificates) {
    let own = certificates.broker.display();
    let other = certificates.elsewhere.display();
    let authority = certificates.authority.display();
    for (listener, file) in [
        ("tls", &own),
        ("authtls", &own),
        ("mutual", &own),
        ("elsewhere", &other),
    ] {
        let _ = write!(
            text,
            "listener.name.{listener}.ssl.keystore.type=PEM\n\
             listener.name.{listener}.ssl.keystore.location={file}\n"
        );
    }
    let users = plain_users();
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let _ = write!(
        text,
        "listener.name.mutual.ssl.client.auth=required\n\
         listener.name.mutual.ssl.truststore.type=PEM\n\
         listener.name.mutual.ssl.truststore.location={authority}\n\
         listener.name.authtls.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
         listener.name.authtls.plain.sasl.jaas.config={users}\n\
         listener.name.authtls.scram-sha-256.sasl.jaas.config={scram}\n\
         listener.name.authtls.scram-sha-512.sasl.jaas.config={scram}\n"
    );
}

impl std::fmt::Display for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ports: Vec<_> = self.0.iter().map(|(_, port)| port.to_string()).collect();
        write!(f, "127.0.0.1:{}", ports.join(", "))
    }
}
