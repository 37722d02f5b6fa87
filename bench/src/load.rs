//! Closed loops: clients that begin anew as soon as they are done, and what is made of their times.

use std::time::{Duration, Instant};

/// A client in a closed loop.
pub(crate) trait Client: Send + 'static {
    /// Goes through the measured steps once.
    fn cycle(&mut self) -> impl Future<Output = ()> + Send;
}

/// What clients did together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    /// Operations in a second, all clients together.
    pub(crate) per_s: f64,
    /// How long each took, the shortest first.
    pub(crate) times: Vec<Duration>,
    /// Processor time that the server used for each, in microseconds, where that was looked at.
    pub(crate) processor_us: Option<f64>,
}

impl Sample {
    /// A sample from single times and the span that they were taken in.
    pub(crate) fn new(mut times: Vec<Duration>, span: Duration) -> Self {
        times.sort_unstable();
        let count = u32::try_from(times.len()).unwrap_or(u32::MAX);
        Self { per_s: f64::from(count) / span.as_secs_f64(), times, processor_us: None }
    }

    /// The time that this share of the operations (0 to 100) did not pass, in milliseconds.
    pub(crate) fn percentile(&self, share: usize) -> f64 {
        let place = (self.times.len() * share).div_ceil(100).saturating_sub(1);
        self.times.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1_000.0)
    }
}

/// Lets the clients run for this long. What is under way at the end is finished, and counted with its time.
pub(crate) async fn closed_loop(clients: Vec<impl Client>, span: Duration) -> Sample {
    let began = Instant::now();
    let running: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            tokio::spawn(async move {
                let mut times = Vec::new();
                let mut last = began;
                while last.duration_since(began) < span {
                    client.cycle().await;
                    let now = Instant::now();
                    times.push(now.duration_since(last));
                    last = now;
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for client in running {
        times.append(&mut client.await.expect("a client does not panic"));
    }
    Sample::new(times, began.elapsed())
}

/// The middle one of a few numbers.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
