//! A consumer's numbers in the text format that Prometheus reads.

use super::metrics::{FRESHNESS_BOUNDS_S, StreamStats};
use std::fmt::Write as _;

/// What the names of all numbers begin with.
const PREFIX: &str = "recommender_stream";

impl StreamStats {
    /// The numbers as they are at `now_ms` (milliseconds since the Unix epoch), every line ended. The only
    /// label is the partition.
    pub fn exposition(&self, now_ms: i64) -> String {
        let mut out = String::with_capacity(4096);
        let counters = [
            ("messages", "Messages read, replays included.", self.messages),
            ("applied", "Interactions that are now in a history.", self.applied),
            ("users_deleted", "Users forgotten.", self.users_deleted),
            ("items_changed", "Changes of items.", self.items_changed),
            ("duplicates", "Interactions dropped because their event id was there.", self.duplicates),
            ("replayed", "Messages skipped because their effects were there.", self.replayed),
            ("invalid", "Messages that no decoder took.", self.invalid),
            ("dead_letters", "Messages that the dead letters acknowledged.", self.dead_letters),
            ("batches", "Durable writes.", self.batches),
            ("rebalances", "Times that partitions came or went.", self.rebalances),
            ("lost", "Offsets whose messages were gone before they were applied.", self.lost),
        ];
        for (name, help, value) in counters {
            head(&mut out, &format!("{name}_total"), "counter", help);
            line(&mut out, &format!("{name}_total"), "", value as f64);
        }
        head(&mut out, "lag_messages", "gauge", "Messages not yet read, by partition, as far as known.");
        for (partition, lag) in &self.lag {
            line(&mut out, "lag_messages", &format!("{{partition=\"{partition}\"}}"), *lag as f64);
        }
        let running = f64::from(u8::from(self.started_at_ms.is_some() && self.ended.is_none()));
        head(&mut out, "running", "gauge", "1 while the consumer runs, 0 before and after.");
        line(&mut out, "running", "", running);
        head(&mut out, "connected", "gauge", "1 while the broker or log answers.");
        line(&mut out, "connected", "", f64::from(u8::from(self.connected)));
        let age = "Since the last durable write, or the last look that found nothing to write.";
        head(&mut out, "checkpoint_age_seconds", "gauge", age);
        line(&mut out, "checkpoint_age_seconds", "", self.checkpoint_age_ms(now_ms) as f64 / 1e3);
        self.freshness_lines(&mut out);
        out
    }

    fn freshness_lines(&self, out: &mut String) {
        let help = "From the broker or log taking a message to its effects being durable and visible.";
        head(out, "freshness_seconds", "histogram", help);
        let mut count = 0;
        let bounds = FRESHNESS_BOUNDS_S.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, messages) in bounds.zip(self.freshness) {
            count += messages;
            line(out, "freshness_seconds_bucket", &format!("{{le=\"{bound}\"}}"), count as f64);
        }
        line(out, "freshness_seconds_sum", "", self.freshness_sum_ms as f64 / 1e3);
        line(out, "freshness_seconds_count", "", count as f64);
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = write!(out, "# HELP {PREFIX}_{name} {help}\n# TYPE {PREFIX}_{name} {kind}\n");
}

fn line(out: &mut String, name: &str, labels: &str, value: f64) {
    let _ = writeln!(out, "{PREFIX}_{name}{labels} {value}");
}

#[cfg(test)]
mod tests {
    use super::StreamStats;

    #[test]
    fn every_number_has_a_line_and_a_histogram_adds_up() {
        let mut stats = StreamStats { invalid: 3, lost: 7, started_at_ms: Some(1_000), ..StreamStats::default() };
        stats.lag.insert(2, 40);
        stats.freshness[0] = 5;
        stats.freshness[10] = 1;
        let text = stats.exposition(3_500);
        for expect in [
            "recommender_stream_invalid_total 3\n",
            "recommender_stream_lost_total 7\n",
            "recommender_stream_lag_messages{partition=\"2\"} 40\n",
            "recommender_stream_running 1\n",
            "recommender_stream_connected 0\n",
            "recommender_stream_checkpoint_age_seconds 2.5\n",
            "recommender_stream_freshness_seconds_bucket{le=\"0.01\"} 5\n",
            "recommender_stream_freshness_seconds_bucket{le=\"300\"} 5\n",
            "recommender_stream_freshness_seconds_bucket{le=\"+Inf\"} 6\n",
            "recommender_stream_freshness_seconds_count 6\n",
        ] {
            assert!(text.contains(expect), "no {expect:?} in {text}");
        }
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("recommender_stream_") && value.parse::<f64>().is_ok(), "{line}");
        }
    }

    #[test]
    fn the_checkpoint_ages_only_while_something_is_left_to_do() {
        let mut stats = StreamStats { started_at_ms: Some(100), ..StreamStats::default() };
        assert_eq!(stats.checkpoint_age_ms(150), 50);
        (stats.durable_at_ms, stats.current_at_ms) = (Some(200), Some(180));
        assert_eq!(stats.checkpoint_age_ms(250), 50, "the later of the two");
        assert_eq!(stats.checkpoint_age_ms(150), 0, "a clock that went back");
    }
}
