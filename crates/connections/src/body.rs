//! Request bodies that keep coming and stay within their caller's part of the memory.

use crate::pool::Place;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use std::hash::Hash;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A body that fails when nothing of it came for `patience`, or when its caller has no room left.
pub struct Watched<B, K: Eq + Hash + Clone> {
    inner: B,
    held: Arc<Mutex<Place<K>>>,
    patience: Duration,
    late: Pin<Box<Sleep>>,
}

impl<B, K: Eq + Hash + Clone> Watched<B, K> {
    /// Counts `inner` into `held` as it comes; whoever works on the request keeps `held` too.
    pub fn new(inner: B, held: Arc<Mutex<Place<K>>>, patience: Duration) -> Self {
        Watched { inner, held, patience, late: Box::pin(tokio::time::sleep(patience)) }
    }
}

impl<B, K> Body for Watched<B, K>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Error>,
    K: Eq + Hash + Clone + Unpin,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.inner.frame()).poll(cx) else {
            ready!(this.late.as_mut().poll(cx));
            return Poll::Ready(Some(Err("the rest of the request did not come".into())));
        };
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame.map_err(Into::into)?;
        let size = frame.data_ref().map_or(0, Bytes::len);
        let grown = this.held.lock().unwrap_or_else(PoisonError::into_inner).grow(size);
        if let Err(full) = grown {
            let text = format!("requests of this caller hold {} bytes already", full.held);
            return Poll::Ready(Some(Err(text.into())));
        }
        this.late.as_mut().reset(Instant::now() + this.patience);
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
