//! The desk: requests wait in a bounded queue, and one thread answers those that wait together, from the newest view.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::oneshot;

use super::answer::{ApiAnswer, ApiQuestion, answer_all};
use super::figures::ServingFigures;
use super::filter::CatalogueFilter;
use super::problem::{ApiProblem, ProblemKind};
use super::queue::enqueue;
use crate::recommend::slot::ViewSlot;

/// Most requests that are answered together: a pass for one takes as long as for sixteen, and whoever came first waits for all.
const MOST_TOGETHER: usize = 64;

/// A request that waits.
#[derive(Debug)]
struct WaitingRequest {
    question: ApiQuestion,
    deadline: Instant,
    reply: oneshot::Sender<ApiAnswer>,
}

/// Where questions are put; clones are the same desk. Its thread ends with the last of them.
#[derive(Debug, Clone)]
pub(super) struct AnswerDesk {
    queue: Sender<WaitingRequest>,
}

impl AnswerDesk {
    /// Starts the thread, which computes on `threads` threads; `queue` requests may wait.
    pub(super) fn open(
        (threads, queue): (usize, usize),
        views: ViewSlot,
        filter: CatalogueFilter,
        figures: Arc<Mutex<ServingFigures>>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (sender, receiver) = bounded(queue);
        let name = |index| format!("answer-{index}");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build();
        let pool = pool.map_err(std::io::Error::other)?;
        let work = move || pool.install(|| work(&receiver, &views, filter, &figures));
        let thread = std::thread::Builder::new().name("answer".to_owned()).spawn(work)?;
        Ok((Self { queue: sender }, thread))
    }

    /// Puts a question; the answer comes by the receiver, unless it is too late for it.
    pub(super) fn ask(
        &self,
        question: ApiQuestion,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<ApiAnswer>, ApiProblem> {
        let (reply, answer) = oneshot::channel();
        let request = WaitingRequest { question, deadline, reply };
        enqueue(&self.queue, request, "serve.queue is how many may wait; all of these places are taken")?;
        Ok(answer)
    }
}

fn work(
    queue: &Receiver<WaitingRequest>,
    views: &ViewSlot,
    mut filter: CatalogueFilter,
    figures: &Mutex<ServingFigures>,
) {
    let mut seen = None;
    while let Ok(first) = queue.recv() {
        let now = Instant::now();
        let mut together: Vec<WaitingRequest> = vec![first];
        together.extend(queue.try_iter().take(MOST_TOGETHER - 1));
        // Nobody waits for these any more.
        together.retain(|request| request.deadline > now && !request.reply.is_closed());
        let Some(deadline) = together.iter().map(|request| request.deadline).max() else { continue };
        let questions: Vec<&ApiQuestion> = together.iter().map(|request| &request.question).collect();
        let answer = || {
            views.read(deadline, |view, age| {
                let facts = view.facts();
                let mut figures = figures.lock().unwrap_or_else(PoisonError::into_inner);
                figures.asked_together(questions.len());
                let moment = (Arc::clone(&facts.model_id), facts.step, facts.events);
                if seen.as_ref() != Some(&moment) {
                    figures.saw_view(facts.pause);
                    seen = Some(moment);
                }
                drop(figures);
                answer_all(view, age, &mut filter, &questions)
            })
        };
        // One request that meets a fault of this program must not end the answers to all others.
        let problem = match catch_unwind(AssertUnwindSafe(answer)) {
            Ok(Ok(answers)) => {
                // Whoever has gone gets none.
                together.into_iter().zip(answers).for_each(|(request, answer)| drop(request.reply.send(answer)));
                continue;
            }
            Ok(Err(no_view)) => no_view.into(),
            Err(_) => ApiProblem::new(ProblemKind::Fault, "the request could not be answered"),
        };
        together.into_iter().for_each(|request| drop(request.reply.send(Err(problem.clone()))));
    }
}
