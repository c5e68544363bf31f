//! The learning rate's course: linear warm-up, then half a cosine down to `final_rate` of the peak.

use crate::config::OptimizerConfig;

/// The rate of a step, from 0, of a run of `total` steps.
pub(crate) fn learning_rate(optimizer: &OptimizerConfig, step: u64, total: u64) -> f64 {
    if step < optimizer.warmup_steps {
        return optimizer.learning_rate * (step + 1) as f64 / optimizer.warmup_steps as f64;
    }
    let done = (step - optimizer.warmup_steps) as f64 / total.saturating_sub(optimizer.warmup_steps).max(1) as f64;
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos());
    optimizer.learning_rate * (optimizer.final_rate + (1.0 - optimizer.final_rate) * cosine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn optimizer(warmup_steps: u64) -> OptimizerConfig {
        OptimizerConfig { learning_rate: 0.4, warmup_steps, final_rate: 0.1, weight_decay: 0.0, clip_norm: 5.0 }
    }

    #[test]
    fn the_learning_rate_rises_to_its_peak_and_falls_to_its_last_share() {
        // A peak of 0.4, of which 0.1 is left at the end; steps from 0.
        let check = |warmup_steps: u64, total: u64, step: u64, expect: f64| {
            let rate = learning_rate(&optimizer(warmup_steps), step, total);
            assert!((rate - expect).abs() < 1e-12, "step {step} of {total}, {warmup_steps} to warm up: {rate}");
        };
        check(5, 105, 0, 0.08);
        check(5, 105, 4, 0.4);
        check(5, 105, 5, 0.4);
        check(5, 105, 55, 0.22);
        check(5, 105, 105, 0.04);
        // A last epoch may have a few more steps than the first.
        check(5, 105, 109, 0.04);
        check(0, 100, 0, 0.4);
        check(0, 100, 100, 0.04);
        // A run that ends before it is warm only rises.
        check(100, 10, 0, 0.004);
        check(100, 10, 9, 0.04);
    }

    #[test]
    fn the_learning_rate_falls_at_every_step_after_its_peak() {
        let rates: Vec<f64> = (5..=105).map(|step| learning_rate(&optimizer(5), step, 105)).collect();
        assert!(rates.windows(2).all(|pair| pair[1] < pair[0]), "{rates:?}");
    }
}
