//! How far a replay has come, for a bar, a log line or a dashboard.

use std::time::Duration;

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use segue_listen::EventTime;

use crate::ordered::ReadProgress;

/// How far a replay has come.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Progress {
    /// The logs are read and sorted.
    Reading(ReadProgress),
    /// Listens go to the sink.
    Sending(SendProgress),
}

/// How far the sending has come. Given after each epoch.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SendProgress {
    /// Listens written, those of earlier runs included.
    pub position: u64,
    /// Listens in all, if known.
    pub total: Option<u64>,
    /// Listens per second in this run.
    pub rate: f64,
    /// The last listen's time.
    pub event_time: EventTime,
    /// How far behind its pace the replay is; `None` without a pace.
    pub lag: Option<Duration>,
    /// How long the rest will take, if that can be said.
    pub left: Option<Duration>,
}

/// A progress bar in the terminal; draws nothing where there is none.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    sending: bool,
}

impl Bar {
    /// A bar on standard error.
    pub fn on_terminal() -> Self {
        Self::on(ProgressDrawTarget::stderr_with_hz(8))
    }

    /// A bar on another target.
    pub fn on(target: ProgressDrawTarget) -> Self {
        Self {
            bar: ProgressBar::with_draw_target(Some(0), target)
                .with_style(style("{bytes}/{total_bytes}")),
            sending: false,
        }
    }

    /// Shows `progress`.
    pub fn show(&mut self, progress: &Progress) {
        match progress {
            Progress::Reading(read) => {
                self.bar.set_length(read.total_bytes);
                self.bar.set_position(read.bytes);
                self.bar
                    .set_message(format!("reading: {} listens", HumanCount(read.listens)));
            }
            Progress::Sending(send) => {
                if !self.sending {
                    self.sending = true;
                    self.bar.set_style(style("{human_pos}/{human_len}"));
                }
                match send.total {
                    Some(total) => self.bar.set_length(total),
                    None => self.bar.unset_length(),
                }
                self.bar.set_position(send.position);
                self.bar.set_message(line(send));
            }
        }
    }

    /// Leaves the bar as it stands.
    pub fn finish(&self) {
        self.bar.abandon();
    }
}

/// Rate, position in event time, lag and time left in words.
pub fn line(send: &SendProgress) -> String {
    let mut line = format!(
        "{}/s, at {}",
        HumanCount(send.rate as u64),
        send.event_time.to_rfc3339()
    );
    if let Some(lag) = send.lag {
        line.push_str(&format!(", {:.1} s behind", lag.as_secs_f64()));
    }
    if let Some(left) = send.left {
        line.push_str(&format!(", {} left", HumanDuration(left)));
    }
    line
}

fn style(figures: &str) -> ProgressStyle {
    ProgressStyle::with_template(&format!("{{bar:30}} {figures} {{msg}}"))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_rate_place_lag_and_rest() {
        let send = SendProgress {
            position: 10,
            total: Some(20),
            rate: 12_345.6,
            event_time: EventTime::from_millis(1_241_478_537_000),
            lag: Some(Duration::from_millis(1_500)),
            left: Some(Duration::from_secs(90)),
        };
        let said = line(&send);
        assert_eq!(
            said,
            "12,345/s, at 2009-05-04T23:08:57Z, 1.5 s behind, 2 minutes left"
        );
        let mut bar = Bar::on(ProgressDrawTarget::hidden());
        bar.show(&Progress::Reading(ReadProgress {
            bytes: 5,
            total_bytes: 10,
            listens: 1,
        }));
        assert_eq!((bar.bar.position(), bar.bar.length()), (5, Some(10)));
        bar.show(&Progress::Sending(send));
        assert_eq!((bar.bar.position(), bar.bar.length()), (10, Some(20)));
        assert_eq!(bar.bar.message(), said);
    }
}
