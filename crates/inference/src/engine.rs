//! The engine's thread: takes jobs, decodes step after step, streams text out.

use crate::cost::{CostModel, Work};
use crate::demand::Demand;
use crate::sampling::Sampler;
use crate::step::{Grant, Limits, plan};
use crate::text::TextStream;
use crate::{Error, Model, model};
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;
use ports::{Failure, Finish, Part, Payment, Request, Share};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::Instant;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

/// The engine's shape.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Sequences that hold context at once.
    pub sequences: u32,
    /// Tokens of context a sequence may hold, prompt and answer together.
    pub context: u32,
    /// Threads that compute.
    pub threads: u32,
    /// Most tokens in one step.
    pub batch: u32,
    /// Tokens in one step; none lets the measured cost decide.
    pub step: Option<u32>,
}

/// One request: what to continue, how, for how long, and who pays.
pub struct Job {
    /// The request; of its input the prompt is what counts.
    pub request: Request,
    /// Token ids; must not be empty, and must leave room for `max_tokens` in the context.
    pub prompt: Vec<u32>,
    /// Most tokens to write, at least 1.
    pub max_tokens: u32,
    /// Who pays, and who counts. Let go of when nothing more is done for the job.
    pub payment: Payment,
    /// Where the answer goes. When the receiver is dropped the sequence is given up at the next step.
    pub parts: UnboundedSender<Result<Part, Failure>>,
}

/// Counters of the engine, for metrics.
#[derive(Debug, Default)]
pub struct Stats {
    /// Steps done.
    pub steps: AtomicU64,
    /// Tokens computed, prefill included.
    pub tokens: AtomicU64,
    /// Tokens written.
    pub written: AtomicU64,
    /// Microseconds spent in steps.
    pub busy_us: AtomicU64,
    /// Sequences that hold context now.
    pub running: AtomicU64,
    /// Microseconds that a step may last, as far as its cost is known.
    pub step_us: AtomicU64,
    /// Steps that were planned longer than they may be: a fault if there are any.
    pub over_limit: AtomicU64,
}

/// A running engine; dropping it ends its thread after the step under way.
pub struct Engine {
    inbox: mpsc::Sender<Job>,
    model: Arc<Model>,
    config: EngineConfig,
    stats: Arc<Stats>,
    running: watch::Receiver<()>,
}

impl Engine {
    /// Makes the context and starts the thread.
    pub fn start(model: Arc<Model>, config: EngineConfig) -> Result<Self, Error> {
        let (inbox, jobs) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let stats = Arc::new(Stats::default());
        let (for_thread, shape, counters) = (model.clone(), config.clone(), stats.clone());
        // Closed when the thread ends, however it ends.
        let (alive, running) = watch::channel(());
        std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || {
                let _alive = alive;
                let context = match make_context(&for_thread, &shape) {
                    Ok(context) => context,
                    Err(error) => return drop(ready.send(Err(error))),
                };
                drop(ready.send(Ok(())));
                Worker::new(&for_thread, context, shape, &counters).run(&jobs);
            })
            .map_err(Error::Thread)?;
        started.recv().unwrap_or_else(|_| {
            Err(Error::Thread(std::io::Error::other("it ended while starting")))
        })?;
        Ok(Self { inbox, model, config, stats, running })
    }

    /// The model that it runs.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Its shape.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Its counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// False once its thread has ended; it does not come back.
    pub fn runs(&self) -> bool {
        self.running.has_changed().is_ok()
    }

    /// Ends when its thread has.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut running = self.running.clone();
        async move { while running.changed().await.is_ok() {} }
    }

    /// Hands a job to the engine. Jobs beyond `sequences` wait; the account furthest behind goes first.
    pub fn submit(&self, job: Job) {
        if let Err(mpsc::SendError(job)) = self.inbox.send(job) {
            let _ = job.parts.send(Err(Failure::backend("the engine has stopped")));
        }
    }
}

fn make_context<'m>(model: &'m Model, c: &EngineConfig) -> Result<LlamaContext<'m>, Error> {
    let params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(c.context.saturating_mul(c.sequences)))
        .with_n_batch(c.batch)
        .with_n_ubatch(c.batch)
        .with_n_seq_max(c.sequences)
        .with_n_threads(c.threads.cast_signed())
        .with_n_threads_batch(c.threads.cast_signed())
        // One pool of cells: a step that mixes prompts and answers is computed as one block.
        .with_kv_unified(true)
        .with_no_perf(true);
    model.inner.new_context(model::backend()?, params).map_err(|source| Error::Context {
        sequences: c.sequences,
        context: c.context,
        source,
    })
}

/// A job that holds a sequence of the context.
struct Running {
    job: Job,
    sequence: i32,
    /// Tokens of prompt and answer that the context holds.
    computed: usize,
    /// The last token written, to be computed next.
    pending: Option<LlamaToken>,
    written: u32,
    sampler: Sampler,
    text: TextStream,
}

impl Demand for Running {
    fn prefill_left(&self) -> u32 {
        match self.pending {
            Some(_) => 0,
            None => (self.job.prompt.len() - self.computed) as u32,
        }
    }
    fn held(&self) -> u32 {
        self.computed as u32
    }
    fn share(&self) -> &dyn Share {
        &*self.job.payment.share
    }
}

struct Worker<'m, 's> {
    model: &'m Model,
    context: LlamaContext<'m>,
    config: EngineConfig,
    stats: &'s Stats,
    cost: CostModel,
    batch: LlamaBatch<'m>,
    waiting: Vec<Job>,
    running: Vec<Running>,
    free: Vec<i32>,
    taken: u64,
}

impl<'m, 's> Worker<'m, 's> {
    fn new(
        model: &'m Model,
        context: LlamaContext<'m>,
        config: EngineConfig,
        stats: &'s Stats,
    ) -> Self {
        Self {
            model,
            context,
            stats,
            cost: CostModel::default(),
            batch: LlamaBatch::new(config.batch as usize, 1),
            waiting: Vec::new(),
            running: Vec::new(),
            free: (0..config.sequences.cast_signed()).rev().collect(),
            taken: 0,
            config,
        }
    }

    fn run(&mut self, jobs: &mpsc::Receiver<Job>) {
        loop {
            if self.running.is_empty() && self.waiting.is_empty() {
                let Ok(job) = jobs.recv() else { return };
                self.waiting.push(job);
            }
            loop {
                match jobs.try_recv() {
                    Ok(job) => self.waiting.push(job),
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
            self.drop_cancelled();
            self.seat();
            if !self.running.is_empty() {
                self.step();
            }
        }
    }

    fn drop_cancelled(&mut self) {
        self.waiting.retain(|j| !j.parts.is_closed());
        let mut i = 0;
        while i < self.running.len() {
            if self.running[i].job.parts.is_closed() { self.release(i) } else { i += 1 }
        }
    }

    /// Gives free sequences to those waiting whose accounts are furthest behind.
    fn seat(&mut self) {
        while !self.free.is_empty() && !self.waiting.is_empty() {
            let keys = self.waiting.iter().map(|j| j.payment.share.key()).enumerate();
            let Some((first, _)) = keys.min_by(|(_, a), (_, b)| a.cmp(b)) else { return };
            let mut job = self.waiting.remove(first);
            let Some(sequence) = self.free.pop() else { return };
            self.taken += 1;
            self.running.push(Running {
                sampler: Sampler::new(
                    std::mem::take(&mut job.request.sampling),
                    fresh_seed(self.taken),
                ),
                text: TextStream::new(std::mem::take(&mut job.request.stop)),
                sequence,
                computed: 0,
                pending: None,
                written: 0,
                job,
            });
        }
        self.stats.running.store(self.running.len() as u64, Relaxed);
    }

    fn step(&mut self) {
        let limits = self.limits();
        let owed: Vec<bool> = self.running.iter().map(|r| r.share().owed()).collect();
        let grants = plan(&self.running, &limits);
        if !limits.kept(&self.running, &owed, &grants) {
            self.stats.over_limit.fetch_add(1, Relaxed);
        }
        let work = grants.iter().map(|g| g.work(&self.running[g.index])).sum::<Work>();
        let began = Instant::now();
        let outputs = self.fill(&grants);
        match self.context.decode(&mut self.batch) {
            Ok(()) => {
                // On some devices it has only begun.
                self.context.synchronize();
                self.book(&grants);
                self.emit(outputs);
                self.cost.observe(work, began.elapsed().as_secs_f64() * 1e6);
            }
            Err(error) => self.fail(&grants, &error),
        }
        self.stats.tokens.fetch_add(u64::from(work.tokens), Relaxed);
        self.stats.busy_us.fetch_add(began.elapsed().as_micros() as u64, Relaxed);
    }

    /// Tells the accounts what the step did, before anybody hears of its tokens.
    fn book(&self, grants: &[Grant]) {
        let step = self.stats.steps.fetch_add(1, Relaxed) + 1;
        for grant in grants {
            let r = &self.running[grant.index];
            r.job.payment.share.computed(step, grant.tokens);
            if r.pending.is_none() {
                r.job.payment.meter.read(grant.tokens);
            }
        }
    }

    fn limits(&self) -> Limits {
        let crowded = self.running.first().is_some_and(|r| r.job.payment.share.crowded());
        let limits = match self.config.step {
            Some(tokens) => Limits::fixed(tokens.min(self.config.batch)),
            None => Limits::learnt(&self.cost, crowded, self.config.batch),
        };
        // Saturates: there is no limit while the cost is not known.
        self.stats.step_us.store(limits.short as u64, Relaxed);
        limits
    }

    /// Builds the batch; returns which running job's next token is at which row of the batch.
    fn fill(&mut self, grants: &[Grant]) -> Vec<(usize, i32)> {
        self.batch.clear();
        let mut outputs = Vec::new();
        for grant in grants {
            let r = &mut self.running[grant.index];
            for _ in 0..grant.tokens {
                let read = || LlamaToken(r.job.prompt[r.computed].cast_signed());
                let token = r.pending.unwrap_or_else(read);
                let last = r.pending.is_some() || r.computed + 1 == r.job.prompt.len();
                let position = r.computed as i32;
                // The batch was allocated for the largest budget, so this cannot run over.
                if self.batch.add(token, position, &[r.sequence], last).is_err() {
                    break;
                }
                r.computed += 1;
                if last {
                    outputs.push((grant.index, self.batch.n_tokens() - 1));
                }
            }
        }
        outputs
    }

    fn emit(&mut self, outputs: Vec<(usize, i32)>) {
        let mut ended = Vec::new();
        for (index, row) in outputs {
            if self.write_token(index, row) {
                ended.push(index);
            }
        }
        ended.sort_unstable();
        for index in ended.into_iter().rev() {
            self.release(index);
        }
    }

    /// Chooses and sends the next token; true when the job has ended.
    fn write_token(&mut self, index: usize, row: i32) -> bool {
        let vocab = self.model.inner.vocab();
        let r = &mut self.running[index];
        let ignore_eos = r.job.request.ignore_eos;
        let barred = |t: u32| ignore_eos && vocab.is_eog(LlamaToken(t.cast_signed()));
        let logits = self.context.get_logits_ith(row);
        let token = LlamaToken(r.sampler.choose(logits, barred).cast_signed());
        let nth = self.stats.written.fetch_add(1, Relaxed) + 1;
        r.written += 1;
        tracing::trace!(nth, "writing");
        // Before anybody hears of the token.
        r.job.payment.meter.wrote(1);
        tracing::trace!(nth, "wrote");
        if r.written == 1 {
            r.job.payment.share.answered();
        }
        let over = vocab.is_eog(token);
        let mut text = if over { String::new() } else { r.text.push(&self.model.piece(token)) };
        let full = r.computed + 1 >= self.config.context as usize;
        let finish = if over || r.text.stopped() {
            Some(Finish::Stop)
        } else if r.written >= r.job.max_tokens || full {
            Some(Finish::Length)
        } else {
            None
        };
        if finish.is_some() {
            text.push_str(&r.text.finish());
        }
        r.pending = Some(token);
        let mut gone = r.job.parts.send(Ok(Part::Token(text))).is_err();
        if finish.is_some() {
            gone |= r.job.parts.send(Ok(Part::End(finish))).is_err();
        }
        finish.is_some() || gone
    }

    fn fail(&mut self, grants: &[Grant], error: &llama_cpp_2::DecodeError) {
        tracing::error!(%error, "a step failed; its sequences are given up");
        let mut indices: Vec<_> = grants.iter().map(|g| g.index).collect();
        indices.sort_unstable();
        for index in indices.into_iter().rev() {
            let _ = self.running[index].job.parts.send(Err(Failure::backend(error.to_string())));
            self.release(index);
        }
    }

    fn release(&mut self, index: usize) {
        let r = self.running.swap_remove(index);
        if let Err(error) = self.context.kv_cache_seq_rm(r.sequence, None, None) {
            tracing::error!(%error, sequence = r.sequence, "cannot clear a sequence");
        }
        self.free.push(r.sequence);
    }
}

fn fresh_seed(nth: u64) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(nth, |d| d.as_nanos() as u64 ^ nth.rotate_left(32))
}
