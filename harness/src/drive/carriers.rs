//! Tasks that carry work out, each one piece after another. A task made anew for each request would be
//! an allocation of some kilobytes, copied there, and a place in the runtime's lists.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

/// What is carried out.
pub(super) trait Work: Send + 'static {
    /// Carries it out.
    fn go(self) -> impl Future<Output = ()> + Send;
}

/// The tasks; as many as there were pieces of work at once.
pub(super) struct Carriers<W> {
    idle: Idle<W>,
}

type Idle<W> = Arc<Mutex<Vec<Arc<Mailbox<W>>>>>;

/// Where a task finds its next piece of work.
struct Mailbox<W>(Mutex<(Option<W>, Option<Waker>)>);

impl<W: Work> Carriers<W> {
    pub(super) fn new() -> Self {
        Self {
            idle: Arc::default(),
        }
    }

    /// Has a piece of work carried out by a task that is free, or by a new one.
    pub(super) fn take(&self, work: W) {
        let free = lock(&self.idle).pop();
        match free {
            Some(task) => task.put(work),
            None => drop(tokio::spawn(carry(work, Arc::clone(&self.idle)))),
        }
    }
}

/// A piece of work that panics takes its task with it, which is then free for nothing more.
async fn carry<W: Work>(mut work: W, idle: Idle<W>) {
    let mailbox = Arc::new(Mailbox(Mutex::new((None, None))));
    loop {
        work.go().await;
        lock(&idle).push(Arc::clone(&mailbox));
        work = mailbox.next().await;
    }
}

impl<W> Mailbox<W> {
    fn put(&self, work: W) {
        let waker = {
            let mut inside = lock(&self.0);
            inside.0 = Some(work);
            inside.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn next(&self) -> W {
        std::future::poll_fn(|context| {
            let mut inside = lock(&self.0);
            match inside.0.take() {
                Some(work) => Poll::Ready(work),
                None => {
                    inside.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    struct Said(u32, UnboundedSender<(u32, tokio::task::Id)>);

    impl Work for Said {
        async fn go(self) {
            tokio::task::yield_now().await;
            assert_ne!(self.0, 13, "bad luck");
            let _ = self.1.send((self.0, tokio::task::id()));
        }
    }

    #[tokio::test]
    async fn a_task_that_is_free_is_used_again_and_one_that_panicked_is_not() {
        let (say, mut said) = unbounded_channel();
        let carriers = Carriers::new();
        carriers.take(Said(1, say.clone()));
        let (_, first) = said.recv().await.unwrap();
        tokio::task::yield_now().await;
        carriers.take(Said(2, say.clone()));
        assert_eq!(said.recv().await.unwrap(), (2, first));
        tokio::task::yield_now().await;
        carriers.take(Said(13, say.clone()));
        carriers.take(Said(3, say.clone()));
        let (three, second) = said.recv().await.unwrap();
        assert_eq!(three, 3);
        assert_ne!(second, first, "two at once take two tasks");
        tokio::task::yield_now().await;
        carriers.take(Said(4, say));
        assert_eq!(said.recv().await.unwrap(), (4, second));
    }
}
