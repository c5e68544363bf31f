//! The schedule and the connections.
//!
//! A pacing thread releases a ticket at each scheduled moment; connections take tickets in order. A
//! ticket that finds no free connection waits, and its wait is part of the latency.

use crate::connection::{Answer, Connection, post};
use crate::measure::Measured;
use crate::{CapacityArgs, RunArgs, Target, usage};
use rand::{Rng as _, SeedableRng as _};
use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

type Failure = Box<dyn std::error::Error>;

/// Scheduled moments that no connection has taken yet.
#[derive(Default)]
struct Tickets {
    waiting: Mutex<VecDeque<Instant>>,
    released: Notify,
    finished: AtomicBool,
}

impl Tickets {
    async fn next(&self) -> Option<Instant> {
        loop {
            if let Some(ticket) = self.waiting.lock().expect("no holder panics").pop_front() {
                return Some(ticket);
            }
            if self.finished.load(Ordering::Acquire) {
                // Passed on, so that nobody who was about to wait sleeps for ever.
                self.released.notify_one();
                return None;
            }
            self.released.notified().await;
        }
    }
}

/// One run at a fixed mean rate; the gaps are exponential, as between independent clients.
pub(crate) fn open_loop(args: &RunArgs) -> Result<(), Failure> {
    let requests = requests(&args.target);
    let tickets = Arc::new(Tickets::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connections = Vec::new();
        for _ in 0..args.connections {
            connections.push(Connection::open(args.target.address).await?);
        }
        let before = Usage::now(&args.target);
        let begun = Instant::now();
        let pacer = pace(Arc::clone(&tickets), args.rate, Duration::from_secs_f64(args.seconds));
        let measured = Arc::new(Mutex::new(Measured::default()));
        let next_user = Arc::new(AtomicUsize::new(0));
        let mut tasks = Vec::new();
        for mut connection in connections {
            let (tickets, measured, requests) = (Arc::clone(&tickets), Arc::clone(&measured), Arc::clone(&requests));
            let (next_user, address) = (Arc::clone(&next_user), args.target.address);
            tasks.push(tokio::spawn(async move {
                while let Some(scheduled) = tickets.next().await {
                    let request = &requests[next_user.fetch_add(1, Ordering::Relaxed) % requests.len()];
                    let answer = connection.ask(request).await;
                    let broken = answer.is_err();
                    measured.lock().expect("no holder panics").add(answer, micros(scheduled.elapsed()));
                    if broken && let Ok(fresh) = Connection::open(address).await {
                        connection = fresh;
                    }
                }
            }));
        }
        for task in tasks {
            task.await?;
        }
        pacer.join().map_err(|_| "the pacing thread panicked")?;
        let seconds = begun.elapsed().as_secs_f64();
        let measured = std::mem::take(&mut *measured.lock().expect("no holder panics"));
        print(measured.report(seconds), Some(args.rate), before, &args.target, seconds)
    })
}

/// As many answers a second as `connections` get.
pub(crate) fn closed_loop(args: &CapacityArgs) -> Result<(), Failure> {
    let requests = requests(&args.target);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = Duration::from_secs_f64(args.seconds);
    runtime.block_on(async {
        let before = Usage::now(&args.target);
        let begun = Instant::now();
        let mut tasks = Vec::new();
        for offset in 0..args.connections {
            let (requests, address) = (Arc::clone(&requests), args.target.address);
            tasks.push(tokio::spawn(async move {
                let mut measured: Vec<(Answer, u32)> = Vec::new();
                let mut connection = Connection::open(address).await?;
                let mut index = offset * requests.len() / 16;
                while begun.elapsed() < end {
                    let sent = Instant::now();
                    let answer = connection.ask(&requests[index % requests.len()]).await?;
                    measured.push((answer, micros(sent.elapsed())));
                    index += 1;
                }
                std::io::Result::Ok(measured)
            }));
        }
        let mut measured = Measured::default();
        for task in tasks {
            task.await??.into_iter().for_each(|(answer, took)| measured.add(Ok(answer), took));
        }
        let seconds = begun.elapsed().as_secs_f64();
        print(measured.report(seconds), None, before, &args.target, seconds)
    })
}

/// Gives every user a history, eight connections at a time. Events have ids: a second call adds none.
pub(crate) fn events(target: &Target) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for lane in 0..8usize {
            let target = target.clone();
            tasks.push(tokio::spawn(async move {
                let mut connection = Connection::open(target.address).await?;
                for user in (lane..target.users).step_by(8) {
                    for (step, item) in history(user, target.history).into_iter().enumerate() {
                        let body = serde_json::json!({
                            "user_id": format!("u{user}"), "item_id": item,
                            "timestamp_ms": step, "event_id": format!("{user}-{step}"),
                        });
                        let answer = connection.ask(&post(target.address, "/v1/events", &body.to_string())).await?;
                        if answer.status != 200 {
                            return Err(std::io::Error::other(format!("an event was answered {}", answer.status)));
                        }
                    }
                }
                std::io::Result::Ok(())
            }));
        }
        for task in tasks {
            task.await??;
        }
        Ok(())
    })
}

/// Item keys of a user: whole numbers from 1, as both the synthetic Bundle and MovieLens have them.
fn history(user: usize, length: usize) -> Vec<String> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(user as u64);
    let first = random.random_range(1..2_000usize);
    (0..length).map(|step| (first + step * random.random_range(1..4usize)).to_string()).collect()
}

fn requests(target: &Target) -> Arc<Vec<Vec<u8>>> {
    let request = |user: usize| {
        let mut body = match target.inline {
            true => serde_json::json!({"history": history(user, target.history), "k": target.k}),
            false => serde_json::json!({"user_id": format!("u{user}"), "k": target.k}),
        };
        if let Some(tier) = &target.tier {
            body["tier"] = serde_json::json!(tier);
        }
        post(target.address, "/v1/recommend", &body.to_string())
    };
    Arc::new((0..target.users).map(request).collect())
}

/// Releases tickets on schedule until `length` has passed.
fn pace(tickets: Arc<Tickets>, rate: f64, length: Duration) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        let begun = Instant::now();
        let mut due = Duration::ZERO;
        while due < length {
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            let now = begun.elapsed();
            // Sleep is coarse: everything that fell due meanwhile goes at once, each with its own moment.
            while due <= now && due < length {
                tickets.waiting.lock().expect("no holder panics").push_back(begun + due);
                tickets.released.notify_one();
                let uniform: f64 = random.random_range(f64::EPSILON..1.0);
                due += Duration::from_secs_f64(-uniform.ln() / rate);
            }
        }
        tickets.finished.store(true, Ordering::Release);
        tickets.released.notify_waiters();
        tickets.released.notify_one();
    })
}

/// CPU of the service and of this generator at a moment.
struct Usage {
    service_s: Option<f64>,
    own_s: Option<f64>,
}

impl Usage {
    fn now(target: &Target) -> Usage {
        Usage { service_s: target.pid.and_then(usage::cpu_s), own_s: usage::cpu_s(std::process::id()) }
    }
}

fn print(
    mut report: serde_json::Value,
    rate: Option<f64>,
    before: Usage,
    target: &Target,
    seconds: f64,
) -> Result<(), Failure> {
    let after = Usage::now(target);
    let cores = |from: Option<f64>, to: Option<f64>| Some(((to? - from?) / seconds * 100.0).round() / 100.0);
    report["rate_per_s"] = serde_json::json!(rate);
    report["seconds"] = serde_json::json!((seconds * 100.0).round() / 100.0);
    report["service_cores"] = serde_json::json!(cores(before.service_s, after.service_s));
    report["generator_cores"] = serde_json::json!(cores(before.own_s, after.own_s));
    report["service_resident_mib"] = serde_json::json!(target.pid.and_then(usage::resident_mib).map(f64::round));
    Ok(writeln!(std::io::stdout(), "{report}")?)
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
